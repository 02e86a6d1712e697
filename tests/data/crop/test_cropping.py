import dataclasses
import math
from itertools import pairwise

import cv2
import numpy as np
import pytest

from tests.data.crop.positions import POSITIONS, mapped
from tests.data.rendered import true_eyes
from vlfau_jax.data.crop import cropping
from vlfau_jax.data.crop.cropping import crop_sequence, find_and_crop
from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.registry import RULES, crop_rule
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.raw.frames import decode_image, encode_jpeg
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence, Video
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.renderer import Pose, render

CASCADE = crop_rule("cascade", 64)
LANDMARKS = crop_rule("landmarks", 64)
FACE = Face((10.0, 0.0, 50.0, 50.0), np.array([[25, 20], [45, 20]]))
EYES = "frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"


def sequence(pictures: ImageFiles | Video, *frames: int) -> RawSequence:
    codes = np.zeros((len(frames), 0), np.int8)
    return RawSequence("F001", 1, frames, pictures, codes, codes)


def written(folder, images, numbers) -> RawSequence:
    """A sequence of pictures in `folder`; None is a broken file."""
    paths = []
    for number, image in zip(numbers, images, strict=True):
        paths.append(str(folder / f"{number}.jpg"))
        data = b"broken" if image is None else encode_jpeg(image)
        (folder / f"{number}.jpg").write_bytes(data)
    return sequence(ImageFiles(tuple(paths)), *numbers)


def test_rule_none_takes_the_centre_square(picture, tmp_path):
    rule = crop_rule("none", 90)
    assert np.array_equal(find_and_crop(picture, rule), picture[:, 15:105])
    (crop,) = crop_sequence(written(tmp_path, [picture], [1]), rule)
    assert crop.box == (15, 0, 90, 90) and crop.aligned_by == "none" and crop.drop_reason == ""
    np.testing.assert_allclose(crop.alignment, [[1, 0, -15], [0, 1, 0]], atol=1e-6)


POSES = [Pose(roll=roll, shift_u=roll / 100) for roll in (-15, -9, -3, 3, 9, 15)]


@pytest.fixture(scope="module")
def heads() -> list[np.ndarray]:
    """One head in six poses, in pictures of 240 pixels."""
    face, noise = draw_identity(0, "F002"), np.random.default_rng(0)
    return [render(face, [0.0] * 15, pose=pose, size=240, rng=noise) for pose in POSES]


def test_a_tilted_head_is_cropped_upright_with_eyes_in_position(heads, tmp_path):
    crops = crop_sequence(written(tmp_path, heads, range(0, 600, 100)), CASCADE)
    for crop, pose in zip(crops, POSES, strict=True):
        eyes = mapped(crop.alignment, true_eyes(draw_identity(0, "F002"), pose, 240))
        assert crop.aligned_by == "eyes"
        np.testing.assert_allclose(eyes, POSITIONS, atol=0.03 * 64)
        assert abs(eyes[1, 1] - eyes[0, 1]) < math.radians(2.5) * (eyes[1, 0] - eyes[0, 0])


def test_moving_the_picture_moves_the_crop_along(heads, tmp_path):
    shifted = [cv2.copyMakeBorder(h, 6, 0, 24, 0, cv2.BORDER_REPLICATE)[:240, :240] for h in heads]
    for there, then in zip(heads, shifted, strict=True):
        crops = [find_and_crop(image, CASCADE).astype(int) for image in (there, then)]
        assert np.abs(crops[0] - crops[1])[4:-4, 4:-4].mean() < 6
    (tmp_path / "landmarks.csv").write_text(EYES + "1,80,110,120,119\n2,104,116,144,125\n")
    for there, then in zip(heads, shifted, strict=True):
        one = find_and_crop(there, LANDMARKS, str(tmp_path / "1.jpg"))
        assert np.array_equal(one, find_and_crop(then, LANDMARKS, str(tmp_path / "2.jpg")))


def test_a_picture_without_a_face_has_no_crop(picture, tmp_path):
    assert find_and_crop(picture, CASCADE) is None
    (tmp_path / "landmarks.csv").write_text(EYES + "2,1000,1000,1040,1000\n3,40,40,60,40\n")
    crops = [find_and_crop(picture, LANDMARKS, str(tmp_path / f"{k}.jpg")) for k in (2, 3)]
    assert [crop is None for crop in crops] == [True, False]  # 2 is outside the picture
    with pytest.raises(NotInTable):
        find_and_crop(picture, LANDMARKS, str(tmp_path / "1.jpg"))


@pytest.mark.parametrize("corner", [(-61, 20), (20, -61), (101, 20), (20, 71)])
def test_a_box_around_nothing_of_the_picture_holds_no_face(corner, picture, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("source,left,top,width,height\n1.jpg,{},{},40,40\n".format(*corner))
    crops = crop_sequence(written(tmp_path, [picture], [1]), crop_rule("box", 64, str(table)))
    assert [crop.drop_reason for crop in crops] == ["no_face"]


def test_pictures_that_are_no_recording_are_cropped_each_by_itself(heads, tmp_path, monkeypatch):
    frames = written(tmp_path, heads[:5], range(1, 6))
    stills = list(crop_sequence(dataclasses.replace(frames, recording=False), CASCADE))
    for crop, path in zip(stills, frames.pictures.paths, strict=True):
        alone = find_and_crop(decode_image((tmp_path / path).read_bytes()), CASCADE)
        assert crop.image == encode_jpeg(alone)
    film = list(crop_sequence(frames, CASCADE))
    assert any(a.image != b.image for a, b in zip(film, stills, strict=True))


def nodding(rng, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Eyes that move slowly, and how they are found: with errors, and now and then far off."""
    true = np.array([[[100 + k, 100], [140 + k, 100 + 0.2 * k]] for k in range(count)])
    found = true + rng.normal(0, 1.5, true.shape)
    found[::7] += 30
    return found, true


def test_smoothed_crops_jump_less(rng, tmp_path):
    found, true = nodding(rng, 40)
    rows = (f"{k},{','.join(f'{v:.3f}' for v in eyes.ravel())}" for k, eyes in enumerate(found))
    (tmp_path / "landmarks.csv").write_text(EYES + "\n".join(rows))
    frames = written(tmp_path, [np.full((200, 260, 3), 127, np.uint8)] * 40, range(40))
    still = dataclasses.replace(LANDMARKS, parameters=LANDMARKS.parameters | {"smooth_frames": 1})

    def errors(rule: CropRule) -> np.ndarray:
        crops = crop_sequence(frames, rule)
        there = [mapped(crop.alignment, eyes) for crop, eyes in zip(crops, true, strict=True)]
        return np.array([np.abs(b - a).mean() for a, b in pairwise(there)])

    assert errors(LANDMARKS).mean() < 0.4 * errors(still).mean()
    assert errors(LANDMARKS).max() < 0.4 * errors(still).max()


def test_every_frame_has_a_crop_or_a_drop_reason(heads, picture, tmp_path):
    images = [heads[2], None, picture, heads[3], heads[4]]
    crops = list(crop_sequence(written(tmp_path, images, [4, 5, 6, 8, 30]), CASCADE))
    reasons = [crop.drop_reason for crop in crops]
    assert reasons == ["", "image_unreadable", "no_face", "", ""]
    for crop in crops:
        if crop.drop_reason:
            assert crop.image is None and crop.aligned_by == "none"
            continue
        assert decode_image(crop.image).shape == (64, 64, 3)
        assert crop.alignment.dtype == np.float32 and crop.alignment.shape == (2, 3)
        assert crop.aligned_by in ("eyes", "neighbours", "box") and crop.box[2] > 40
    alone = find_and_crop(decode_image(encode_jpeg(heads[4])), CASCADE)  # no frame is near it
    assert np.array_equal(decode_image(crops[-1].image), decode_image(encode_jpeg(alone)))


def test_a_videos_landmarks_are_counted_from_one(heads, tmp_path):
    path = tmp_path / "film.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (240, 240))
    for head in heads:
        video.write(head[..., ::-1])
    video.release()
    (tmp_path / "film.csv").write_text(EYES + "2,90,90,130,90\n4,95,95,125,95\n")
    crops = list(crop_sequence(sequence(Video(str(path), (1, 2, 3)), 101, 102, 203), LANDMARKS))
    assert [crop.drop_reason for crop in crops] == ["", "not_in_table", ""]
    eyes = mapped(crops[0].alignment, np.array([[90, 90], [130, 90]]))
    np.testing.assert_allclose(eyes, POSITIONS, atol=1e-3)
    side = 30 / 0.358
    assert crops[2].box == pytest.approx((110 - side / 2, 95 + 0.135 * side - side / 2, side, side))


def test_boxes_are_cropped_upright_with_a_margin(picture, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("source,left,top,width,height\n1.jpg,30,20,40,50\n")
    frames = written(tmp_path, [picture, picture], [1, 2])
    rule = crop_rule("box", 55, str(table))
    (kept, dropped) = crop_sequence(frames, rule, tmp_path)
    assert (dropped.drop_reason, kept.aligned_by, kept.box) == (
        "not_in_table",
        "box",
        (30, 20, 40, 50),
    )
    np.testing.assert_allclose(kept.alignment, [[1, 0, -22.5], [0, 1, -17.5]], atol=1e-4)
    assert find_and_crop(picture, rule, str(tmp_path / "1.jpg")).shape == (55, 55, 3)


@pytest.mark.parametrize("recording", [True, False])
def test_past_frames_are_released(recording, monkeypatch):
    """A window that grew with the sequence would cost time by its square."""
    sizes = []
    real = cropping.smooth_pose
    monkeypatch.setattr(cropping, "read_frames", lambda *_: [np.zeros((80, 80, 3), np.uint8)] * 60)
    monkeypatch.setattr(RULES["cascade"], "find", lambda *_: FACE)
    monkeypatch.setattr(
        cropping,
        "smooth_pose",
        lambda window, *rest: (sizes.append(len(window)), real(window, *rest))[1],
    )
    frames = sequence(ImageFiles(tuple(f"{k}.jpg" for k in range(60))), *range(60))
    list(crop_sequence(dataclasses.replace(frames, recording=recording), CASCADE))
    reach = RULES["cascade"].PARAMETERS["eye_frames"] // 2 if recording else 0
    assert len(sizes) == 60 and max(sizes) == 2 * reach + 1


@pytest.mark.parametrize("frames", [range(60), range(0, 240, 4), [*range(9), *range(90, 120)]])
def test_memory_holds_half_the_window_of_pictures(frames, monkeypatch):
    """Each is decoded once, a window ahead of its crop, and released with it."""
    alive, most, read = 0, 0, 0

    class Picture(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= self.base is None

    def stream(*_):
        nonlocal alive, most, read
        for _ in frames:
            image = np.ndarray.__new__(Picture, (80, 80, 3), np.uint8)
            image[:] = 90
            alive, read = alive + 1, read + 1
            most = max(most, alive)
            yield image
            del image

    monkeypatch.setattr(cropping, "read_frames", stream)
    monkeypatch.setattr(RULES["cascade"], "find", lambda *_: FACE)
    pictures = ImageFiles(tuple(f"{k}.jpg" for k in frames))
    crops = list(crop_sequence(sequence(pictures, *frames), CASCADE))
    assert len(crops) == read == len(frames) and all(crop.image for crop in crops)
    reach = RULES["cascade"].PARAMETERS["eye_frames"] // 2
    assert most <= reach + 2  # those that wait, the newest, and the current one
    assert alive == 0
