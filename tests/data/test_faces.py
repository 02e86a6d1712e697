import dataclasses
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from vlfau_jax.data.faces import (
    Box,
    crop,
    crop_frames,
    crop_rule,
    decode_image,
    encode_jpeg,
    find_and_crop,
    find_face,
    smooth_boxes,
)
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.scenes import draw_sequence
from vlfau_jax.errors import UserError

CASCADE = crop_rule("cascade", 64)


@pytest.fixture
def picture(rng) -> np.ndarray:
    return cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), np.uint8), (9, 9), 3)


def test_rule_digest_follows_every_part():
    digests = {
        CASCADE.digest,
        crop_rule("cascade", 65).digest,
        crop_rule("none", 64).digest,
        dataclasses.replace(CASCADE, version=2).digest,
        dataclasses.replace(CASCADE, parameters={**CASCADE.parameters, "zoom": 1.2}).digest,
    }
    assert len(digests) == 5
    assert crop_rule("cascade", 64).digest == CASCADE.digest == CASCADE.describe()["digest"]


@pytest.mark.parametrize(("name", "size"), [("mtcnn", 64), ("cascade", 8), ("none", 5000)])
def test_rules_that_do_not_exist(name, size):
    with pytest.raises(UserError, match="expected"):
        crop_rule(name, size)


def test_truncated_and_foreign_bytes_are_not_pictures(picture, capfd):
    data = encode_jpeg(picture)
    assert decode_image(data).shape == picture.shape
    assert decode_image(data + b"\0\0").shape == picture.shape  # some writers pad their files
    for broken in (data[:-2], data[: len(data) // 2], data[:20], b"", b"no picture"):
        assert decode_image(broken) is None
    assert capfd.readouterr().err == ""  # they are counted, not complained about


def test_colours_come_as_rgb(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    assert np.array_equal(decode_image(buffer.getvalue()), picture)
    assert decode_image(buffer.getvalue(), gray=True).shape == picture.shape[:2]
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    assert decode_image(encode_jpeg(red))[16, 16].tolist()[0] > 240


def test_rule_none_takes_the_centre_square(picture):
    assert find_face(picture, crop_rule("none", 64)) == Box(15, 0, 90)
    small = find_and_crop(picture, crop_rule("none", 90))
    assert np.array_equal(small, picture[:, 15:105])


def test_crop_repeats_edges_outside_the_picture(picture):
    out = crop(picture, Box(-10, -10, 30), 30)
    assert np.array_equal(out[10:, 10:], picture[:20, :20])
    assert (out[:10, :10] == picture[0, 0]).all()
    out = crop(picture, Box(110, 80, 30), 30)
    assert np.array_equal(out[:10, :10], picture[80:, 110:])
    assert (out[10:, 10:] == picture[-1, -1]).all()


@pytest.fixture(scope="module")
def rendered() -> list[np.ndarray]:
    """Rendered heads of two subjects in eight scenes each, 160 pixels."""
    noise = np.random.default_rng(0)
    return [
        draw_sequence(BP4D_BEHAVIOUR, (0, k), 4).picture(draw_identity(0, subject), 0, 160, noise)
        for k, subject in enumerate(("F001", "M002") * 8)
    ]


def test_cascade_finds_heads_and_follows_them(rendered):
    boxes = [find_face(picture, CASCADE) for picture in rendered]
    assert sum(box is not None for box in boxes) >= 13
    for picture, box in zip(rendered, boxes, strict=True):
        if box is None:
            continue
        assert 0.3 * 160 < box.side < 160
        assert np.array_equal(find_and_crop(picture, CASCADE), crop(picture, box, 64))
        doubled = find_face(cv2.resize(picture, (320, 320)), CASCADE)
        assert np.abs(np.array(doubled) - 2 * np.array(box)).max() < 20
        moved = find_face(cv2.copyMakeBorder(picture, 0, 0, 12, 0, cv2.BORDER_REPLICATE), CASCADE)
        assert np.abs(np.array(moved) - box - (12, 0, 0)).max() < 12


def test_no_face_in_noise(picture):
    assert find_face(picture, CASCADE) is None
    assert find_and_crop(picture, CASCADE) is None


def test_smoothing_removes_a_jump_and_keeps_what_was_lost():
    frames = [1, 2, 3, 4, 5, 20]
    boxes = [
        Box(10, 10, 50),
        Box(11, 10, 50),
        Box(90, 90, 9),
        None,
        Box(12, 10, 50),
        Box(40, 0, 60),
    ]
    smoothed = smooth_boxes(frames, boxes, CASCADE)
    assert smoothed[2] == Box(11.5, 10, 50)
    assert smoothed[3] is None
    assert smoothed[5] == Box(40, 0, 60)  # fifteen frames away from any neighbour
    assert smooth_boxes(frames, boxes, crop_rule("none", 64)) == boxes


def test_sequence_names_each_loss(picture, tmp_path):
    (tmp_path / "1.jpg").write_bytes(encode_jpeg(picture)[:-40])
    (tmp_path / "2.jpg").write_bytes(encode_jpeg(picture))
    paths = [str(tmp_path / "1.jpg"), str(tmp_path / "2.jpg")]
    assert crop_frames((1, 2), paths, CASCADE) == [(None, "image_unreadable"), (None, "no_face")]
    unreadable, kept = crop_frames((1, 2), paths, crop_rule("none", 32))
    assert unreadable == (None, "image_unreadable")
    assert decode_image(kept.image).shape == (32, 32, 3) and kept.loss == ""
