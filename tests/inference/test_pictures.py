"""Which files `predict` reads as pictures, in which order, and what it refuses."""

import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.inference.pictures import find_pictures


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.jpg", "no such file"), ("clip.mp4", "not a picture"), ("empty", "no picture below")],
)
def test_inputs_without_pictures(tmp_path, name, message):
    (tmp_path / "clip.mp4").write_bytes(b"0")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_pictures([tmp_path / name])


def test_no_input_at_all():
    with pytest.raises(UserError, match="INPUT"):
        find_pictures([])


def test_frames_count_within_each_input_in_natural_order(tmp_path):
    names = ("2.jpg", "deep/10.jpg", "deep/9.PNG")
    (tmp_path / "deep").mkdir()
    for name in (*names, "deep/notes.txt"):
        (tmp_path / name).touch()
    found = find_pictures([tmp_path / "2.jpg", tmp_path / "deep"])
    assert [(picture.path.name, picture.frame) for picture in found] == [
        ("2.jpg", 1),
        ("9.PNG", 1),
        ("10.jpg", 2),
    ]
    assert [picture.root for picture in found] == [tmp_path, tmp_path / "deep", tmp_path / "deep"]
