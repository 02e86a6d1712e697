import dataclasses
import hashlib
import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.rendered import true_eyes
from vlfau_jax.data.crop import rules as faces
from vlfau_jax.data.crop.detectors import Face
from vlfau_jax.data.crop.rules import (
    RULES,
    CropRule,
    alignment_of,
    check_table,
    crop_rule,
    crop_sequence,
    find_and_crop,
    pose_of,
    smoothed_pose,
    table_digest,
    warp,
)
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.raw.frames import decode_image, encode_jpeg
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence, Video
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.renderer import Pose as HeadPose
from vlfau_jax.data.synthetic.renderer import render
from vlfau_jax.errors import UserError

CASCADE = crop_rule("cascade", 64)
LANDMARKS = crop_rule("landmarks", 64)
EYES = "frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
# Where every rule that knows the eyes puts them in a crop of 64 pixels.
PLACES = 64 * np.array([[0.5 - 0.358 / 2, 0.365], [0.5 + 0.358 / 2, 0.365]])


@pytest.fixture
def picture(rng) -> np.ndarray:
    return cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), np.uint8), (9, 9), 3)


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


def mapped(alignment: np.ndarray, places: np.ndarray) -> np.ndarray:
    return places @ alignment[:, :2].T + alignment[:, 2]


def test_rule_digest_follows_every_part():
    more = {**CASCADE.parameters, "zoom": 1.2}
    digests = {
        CASCADE.digest,
        crop_rule("cascade", 65).digest,
        crop_rule("none", 64).digest,
        dataclasses.replace(CASCADE, version=1).digest,
        dataclasses.replace(CASCADE, parameters=more).digest,
        dataclasses.replace(CASCADE, parameters=CASCADE.parameters | {"smooth_frames": 7}).digest,
    }
    assert len(digests) == 6
    assert crop_rule("cascade", 64).digest == CASCADE.digest == CASCADE.describe()["digest"]


def test_a_models_bytes_are_part_of_its_rule_and_its_path_is_not(tmp_path):
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    a, b, c = (crop_rule("yunet", 64, str(tmp_path / name)) for name in "abc")
    assert a.digest == b.digest != c.digest
    assert str(tmp_path) not in str(a.describe()) and "file_sha256" in a.describe()["parameters"]
    boxes = {crop_rule("box", 64, str(tmp_path / name)).digest for name in "abc"}
    assert len(boxes) == 1  # a table of boxes is data, as landmarks are
    tables = [table_digest(crop_rule("box", 64, str(tmp_path / name))) for name in "abc"]
    assert tables[0] == tables[1] != tables[2] and tables[0] == hashlib.sha256(b"1").hexdigest()
    assert table_digest(a) == table_digest(CASCADE) == ""


@pytest.mark.parametrize(
    ("name", "size", "file", "message"),
    [
        ("mtcnn", 64, "", "expected one of cascade, yunet, mediapipe, landmarks, box, none"),
        ("cascade", 8, "", "expected 16 to 1024"),
        ("none", 5000, "", "expected 16 to 1024"),
        ("cascade", 64, "a.onnx", "reads no file"),
        ("landmarks", 64, "a.csv", "reads no file"),
        ("yunet", 64, "", "needs a --crop_file; expected YuNet's ONNX"),
        ("mediapipe", 64, "gone.task", r"gone\.task is no file; expected a MediaPipe"),
        ("box", 64, "", "expected a CSV with the columns source,left,top,width,height"),
    ],
)
def test_rules_that_cannot_be(name, size, file, message):
    with pytest.raises(UserError, match=message):
        crop_rule(name, size, file)


def test_rule_none_takes_the_centre_square(picture, tmp_path):
    rule = crop_rule("none", 90)
    assert np.array_equal(find_and_crop(picture, rule), picture[:, 15:105])
    (crop,) = crop_sequence(written(tmp_path, [picture], [1]), rule)
    assert crop.box == (15, 0, 90, 90) and crop.aligned_by == "none" and crop.loss == ""
    np.testing.assert_allclose(crop.alignment, [[1, 0, -15], [0, 1, 0]], atol=1e-6)


def test_edges_repeat_where_a_crop_sticks_out(picture):
    def cut(x, y):
        return warp(picture, np.array([[1, 0, -x], [0, 1, -y]]), 30)

    assert np.array_equal(cut(-10, -10)[10:, 10:], picture[:20, :20])
    assert (cut(-10, -10)[:10, :10] == picture[0, 0]).all()
    assert np.array_equal(cut(110, 80)[:10, :10], picture[80:, 110:])
    assert (cut(110, 80)[10:, 10:] == picture[-1, -1]).all()
    assert (cut(-500, -500) == picture[0, 0]).all()
    assert (cut(500, 500) == picture[-1, -1]).all()


@pytest.mark.parametrize("scale", [1 / 9, 1 / 4, 1 / 3, 0.4])
def test_shrinking_averages_what_it_leaves_out(scale):
    stripes = np.tile(np.array([0, 240], np.uint8), (300, 150))
    size = int(270 * scale)
    turn = scale * np.array([[math.cos(0.3), math.sin(0.3)], [-math.sin(0.3), math.cos(0.3)]])
    shift = np.array([size / 2, size / 2]) - turn @ (150, 150)
    small = warp(np.dstack([stripes] * 3), np.column_stack([turn, shift]), size)
    assert np.abs(small.astype(int) - 120).max() < 60  # nearest pixels would be 0 or 240


@given(
    x=st.floats(-50, 400),
    y=st.floats(-50, 400),
    apart=st.floats(2, 300),
    angle=st.floats(-math.pi / 2, math.pi / 2),
    size=st.integers(16, 512),
)
@settings(deadline=None)
def test_eyes_land_on_their_places_without_shear(x, y, apart, angle, size):
    way = np.array([math.cos(angle), math.sin(angle)]) * apart / 2
    eyes = np.array([x, y]) + np.array([-way, way])
    alignment = alignment_of(pose_of(Face(None, eyes), LANDMARKS), size)
    np.testing.assert_allclose(mapped(alignment, eyes), PLACES * size / 64, atol=2e-3 * size)
    (a, b), (c, d) = alignment[:, :2]
    assert a == pytest.approx(d, abs=1e-5) and b == pytest.approx(-c, abs=1e-5)
    assert a * d - b * c > 0


def test_a_head_is_turned_upright_only_so_far():
    eyes = np.array([[50, 50], [50, 90]])
    assert math.degrees(pose_of(Face(None, eyes), CASCADE).angle) == pytest.approx(30)
    assert math.degrees(pose_of(Face(None, eyes), LANDMARKS).angle) == pytest.approx(90)


def test_without_eyes_the_crop_is_version_ones():
    """The box a tenth larger and 7 % of its height lower: the demo's warm start has seen these."""
    alignment = alignment_of(pose_of(Face((40, 30, 100, 100), None), CASCADE), 110)
    np.testing.assert_allclose(alignment, [[1, 0, -35], [0, 1, -32]], atol=1e-4)


POSES = [HeadPose(roll=roll, shift_u=roll / 100) for roll in (-15, -9, -3, 3, 9, 15)]


@pytest.fixture(scope="module")
def heads() -> list[np.ndarray]:
    """One head, held in six ways, in pictures of 240 pixels."""
    face, noise = draw_identity(0, "F002"), np.random.default_rng(0)
    return [render(face, [0.0] * 15, pose=pose, size=240, rng=noise) for pose in POSES]


def test_a_tilted_head_comes_out_upright_and_in_its_place(heads, tmp_path):
    crops = crop_sequence(written(tmp_path, heads, range(0, 600, 100)), CASCADE)
    for crop, pose in zip(crops, POSES, strict=True):
        eyes = mapped(crop.alignment, true_eyes(draw_identity(0, "F002"), pose, 240))
        assert crop.aligned_by == "eyes"
        np.testing.assert_allclose(eyes, PLACES, atol=0.03 * 64)
        assert abs(eyes[1, 1] - eyes[0, 1]) < math.radians(2.5) * (eyes[1, 0] - eyes[0, 0])


def test_moving_the_picture_moves_the_crop_along(heads, tmp_path):
    moved = [cv2.copyMakeBorder(h, 6, 0, 24, 0, cv2.BORDER_REPLICATE)[:240, :240] for h in heads]
    for there, then in zip(heads, moved, strict=True):
        crops = [find_and_crop(image, CASCADE).astype(int) for image in (there, then)]
        assert np.abs(crops[0] - crops[1])[4:-4, 4:-4].mean() < 6
    (tmp_path / "landmarks.csv").write_text(EYES + "1,80,110,120,119\n2,104,116,144,125\n")
    for there, then in zip(heads, moved, strict=True):
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
    assert [crop.loss for crop in crops] == ["no_face"]


def face(x: float = 50, side: float = 50, eyes: bool = True) -> Face:
    places = np.array([[x + 0.3 * side, 20], [x + 0.7 * side, 20]]) if eyes else None
    return Face((x, 0.0, side, side), places)


def test_smoothing_takes_the_median_of_frames_near_in_time():
    window = {1: face(10), 2: face(11), 3: face(90, 9), 5: face(12), 20: face(40)}
    pose, _ = smoothed_pose(window, 2, CASCADE)
    assert pose.x == pytest.approx(np.median([35, 36]))
    assert math.exp(pose.log_side) == pytest.approx(0.4 * 50 / 0.358)
    assert smoothed_pose(window, 20, CASCADE)[0] == pytest.approx(pose_of(window[20], CASCADE))
    for frame in window:  # the rule none follows nothing
        none, _ = smoothed_pose({k: face(eyes=False) for k in window}, frame, crop_rule("none", 64))
        assert none.x == 75


def test_a_face_elsewhere_for_one_frame_is_a_wrong_detection():
    window = {1: face(10), 2: face(11), 3: face(90, 9), 5: face(12), 20: face(40)}
    pose, aligned_by = smoothed_pose(window, 3, CASCADE)
    assert pose.x == pytest.approx(np.median([35, 36, 37])) and aligned_by == "neighbours"
    for gone in (1, 2), (5,):  # seen on one side only it may be a cut
        seen = {k: v for k, v in window.items() if k not in gone}
        assert smoothed_pose(seen, 3, CASCADE)[0] == pytest.approx(pose_of(window[3], CASCADE))


def test_only_who_is_near_in_time_says_that_a_detection_is_wrong():
    far = {1: face(10), 8: face(90, 9), 15: face(10)}
    for gone in (), (1,), (15,):
        window = {k: v for k, v in far.items() if k not in gone}
        assert smoothed_pose(window, 8, CASCADE)[0] == pytest.approx(pose_of(far[8], CASCADE))
    for beside in ({7: face(10), 15: face(10)}, {1: face(10), 9: face(10)}):
        window = {**beside, 8: far[8]}
        assert smoothed_pose(window, 8, CASCADE)[0] == pytest.approx(pose_of(far[8], CASCADE))


@pytest.mark.parametrize("places", [(10, -10, 30), (30, -10, 10)])
def test_who_is_like_one_of_the_neighbours_is_no_wrong_detection(places):
    window = {k: face(x) for k, x in enumerate(places)}
    pose, aligned_by = smoothed_pose(window, 1, CASCADE)
    assert pose.x == pytest.approx((35 + 15) / 2) and aligned_by == "eyes"  # not the one at 30


def test_nothing_is_taken_from_across_a_cut():
    window = {
        1: face(10),
        2: face(11),
        3: face(13),
        4: face(90, eyes=False),
        5: face(91),
        6: face(95),
    }
    assert smoothed_pose(window, 3, CASCADE)[0].x == pytest.approx(np.median([35, 36, 38]))
    pose, aligned_by = smoothed_pose(window, 4, CASCADE)
    assert pose.x == pytest.approx(np.median([115, 116, 120])) and aligned_by == "neighbours"
    alone = {k: window[k] for k in (1, 2, 3, 4)}
    pose, aligned_by = smoothed_pose(alone, 4, CASCADE)
    assert (aligned_by, pose) == ("box", pytest.approx(pose_of(window[4], CASCADE)))
    eyes = {k: v._replace(box=None) for k, v in window.items() if k != 4}  # as landmarks are
    assert smoothed_pose(eyes, 3, LANDMARKS)[0].x == pytest.approx(np.median([35, 36, 38]))
    assert smoothed_pose(eyes, 5, LANDMARKS)[0].x == pytest.approx(np.median([116, 120]))


def test_pictures_that_are_no_recording_are_cropped_each_by_itself(heads, tmp_path, monkeypatch):
    frames = written(tmp_path, heads[:5], range(1, 6))
    stills = list(crop_sequence(dataclasses.replace(frames, recording=False), CASCADE))
    for crop, path in zip(stills, frames.pictures.paths, strict=True):
        alone = find_and_crop(decode_image((tmp_path / path).read_bytes()), CASCADE)
        assert crop.image == encode_jpeg(alone)
    film = list(crop_sequence(frames, CASCADE))
    assert any(a.image != b.image for a, b in zip(film, stills, strict=True))


def test_eyes_come_from_neighbours_then_from_the_box():
    window = {1: face(), 2: face(60, eyes=False), 30: face(eyes=False)}
    pose, aligned_by = smoothed_pose(window, 2, CASCADE)
    assert aligned_by == "neighbours"
    assert pose.x == pytest.approx((75 + 85) / 2)
    assert smoothed_pose(window, 1, CASCADE)[1] == "eyes"
    pose, aligned_by = smoothed_pose(window, 30, CASCADE)
    assert (aligned_by, pose) == ("box", pytest.approx(pose_of(window[30], CASCADE)))


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


def test_every_frame_has_one_crop_and_losses_are_named(heads, picture, tmp_path):
    images = [heads[2], None, picture, heads[3], heads[4]]
    crops = list(crop_sequence(written(tmp_path, images, [4, 5, 6, 8, 30]), CASCADE))
    losses = [crop.loss for crop in crops]
    assert losses == ["", "image_unreadable", "no_face", "", ""]
    for crop in crops:
        if crop.loss:
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
    assert [crop.loss for crop in crops] == ["", "not_in_table", ""]
    eyes = mapped(crops[0].alignment, np.array([[90, 90], [130, 90]]))
    np.testing.assert_allclose(eyes, PLACES, atol=1e-3)
    side = 30 / 0.358
    assert crops[2].box == pytest.approx((110 - side / 2, 95 + 0.135 * side - side / 2, side, side))


def test_boxes_are_cropped_upright_with_a_margin(picture, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("source,left,top,width,height\n1.jpg,30,20,40,50\n")
    frames = written(tmp_path, [picture, picture], [1, 2])
    rule = crop_rule("box", 55, str(table))
    (kept, lost) = crop_sequence(frames, rule, tmp_path)
    assert (lost.loss, kept.aligned_by, kept.box) == ("not_in_table", "box", (30, 20, 40, 50))
    np.testing.assert_allclose(kept.alignment, [[1, 0, -22.5], [0, 1, -17.5]], atol=1e-4)
    assert find_and_crop(picture, rule, str(tmp_path / "1.jpg")).shape == (55, 55, 3)


def test_a_table_of_other_pictures_is_refused(picture, tmp_path):
    (tmp_path / "raw").mkdir()
    frames = [written(tmp_path / "raw", [picture, picture], [1, 2])]
    for source, fits in (("raw/2.jpg", True), ("2.jpg", True), ("3.jpg", False), (None, False)):
        row = "" if source is None else f"{source},30,20,40,50\n"
        (tmp_path / "boxes.csv").write_text("source,left,top,width,height\n" + row)
        rule = crop_rule("box", 55, str(tmp_path / "boxes.csv"))
        if fits:
            check_table(frames, rule, tmp_path / "raw")
            continue
        with pytest.raises(UserError, match=r"boxes\.csv: no row .* below .*raw .*; expected"):
            check_table(frames, rule, tmp_path / "raw")
    check_table(frames, CASCADE, tmp_path)


@pytest.mark.parametrize("recording", [True, False])
def test_what_is_past_is_forgotten(recording, monkeypatch):
    """A window that grew with the sequence would cost time by its square."""
    sizes = []
    real = faces.smoothed_pose
    monkeypatch.setattr(faces, "read_frames", lambda _: [np.zeros((80, 80, 3), np.uint8)] * 60)
    monkeypatch.setattr(faces, "finder", lambda *_: lambda image, place: face(10))
    monkeypatch.setattr(
        faces,
        "smoothed_pose",
        lambda window, *rest: (sizes.append(len(window)), real(window, *rest))[1],
    )
    frames = sequence(ImageFiles(tuple(f"{k}.jpg" for k in range(60))), *range(60))
    list(crop_sequence(dataclasses.replace(frames, recording=recording), CASCADE))
    reach = RULES["cascade"][1]["eye_frames"] // 2 if recording else 0
    assert len(sizes) == 60 and max(sizes) == 2 * reach + 1


@pytest.mark.parametrize("frames", [range(60), range(0, 240, 4), [*range(9), *range(90, 120)]])
def test_no_more_pictures_are_held_than_half_the_window(frames, monkeypatch):
    """Each is decoded once, a window ahead of its crop, and let go with it."""
    held, most, read = 0, 0, 0

    class Picture(np.ndarray):
        def __del__(self):
            nonlocal held
            held -= self.base is None

    def stream(_):
        nonlocal held, most, read
        for _ in frames:
            image = np.ndarray.__new__(Picture, (80, 80, 3), np.uint8)
            image[:] = 90
            held, read = held + 1, read + 1
            most = max(most, held)
            yield image
            del image

    monkeypatch.setattr(faces, "read_frames", stream)
    monkeypatch.setattr(faces, "finder", lambda *_: lambda image, place: face(10))
    pictures = ImageFiles(tuple(f"{k}.jpg" for k in frames))
    crops = list(crop_sequence(sequence(pictures, *frames), CASCADE))
    assert len(crops) == read == len(frames) and all(crop.image for crop in crops)
    reach = RULES["cascade"][1]["eye_frames"] // 2
    assert most <= reach + 2  # those that wait, the newest, and the one at hand
    assert held == 0
