import numpy as np
import pytest

from tests.data.crop.tiny_yunet import tiny_yunet
from vlfau_jax.data.crop import yunet
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.crop.rule import kept_by_each_thread
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

# Right eye, left eye, nose, corners of the mouth, in cells: the person's right is our left.
POINTS = (0.2, 0.3, 0.8, 0.35, 0.5, 0.5, 0.3, 0.8, 0.7, 0.8)


def rule_with(folder, points=POINTS):
    path = folder / "yunet.onnx"
    path.write_bytes(tiny_yunet(points))
    return crop_rule("yunet", 64, str(path))


def test_yunet_gives_the_largest_face_in_source_pixels(tmp_path):
    rule = rule_with(tmp_path)
    picture = np.zeros((192, 256, 3), np.uint8)
    assert rule.find(picture, Place(""), "") is None
    picture[64:96, 96:128] = 255
    face = rule.find(picture, Place(""), "")
    np.testing.assert_allclose(face.box, (64, 16, 96, 128), atol=0.01)
    eyes = np.array([[96 + 0.2 * 32, 64 + 0.3 * 32], [96 + 0.8 * 32, 64 + 0.35 * 32]])
    np.testing.assert_allclose(face.eyes, eyes, atol=0.01)
    # A large picture is searched at 320 pixels, of which these are four times as many.
    large = np.zeros((960, 1280, 3), np.uint8)
    large[256:384, 384:512] = 255
    face = rule.find(large, Place(""), "")
    np.testing.assert_allclose(face.eyes, 4 * eyes, atol=0.1)


def test_the_pictures_left_eye_comes_first_whatever_its_name(tmp_path, monkeypatch):
    picture = np.zeros((192, 256, 3), np.uint8)
    picture[64:96, 96:128] = 255
    eyes = rule_with(tmp_path, (*POINTS[2:4], *POINTS[:2], *POINTS[4:]))
    found = eyes.find(picture, Place(""), "").eyes
    assert found[0, 0] < found[1, 0]
    coinciding = rule_with(tmp_path, (*POINTS[:2], *POINTS[:2], *POINTS[4:]))
    made = kept_by_each_thread(yunet._detector.__wrapped__)  # another model under the same name
    monkeypatch.setattr(yunet, "_detector", made)
    assert coinciding.find(picture, Place(""), "") is None


@pytest.mark.parametrize("data", [b"", b"no model", tiny_yunet(POINTS)[:9000]], ids=len)
def test_another_file_is_reported_in_one_line(data, tmp_path, capfd):
    (tmp_path / "bad.onnx").write_bytes(data)
    rule = crop_rule("yunet", 64, str(tmp_path / "bad.onnx"))
    with pytest.raises(UserError, match=r"bad\.onnx.*expected") as error:
        rule.find(np.zeros((64, 64, 3), np.uint8), Place(""), "")
    assert "\n" not in str(error.value) and capfd.readouterr().err == ""
