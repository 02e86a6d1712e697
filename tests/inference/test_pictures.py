"""Which files `predict` reads as pictures, in which order, and what it passes over and says so."""

import io
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from vlfau_jax.errors import UserError
from vlfau_jax.inference.pictures import find_pictures, named_inputs

QUICKTIME = b"\0\0\0\x0cftypqt  "
HEIC_STUB = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def names(found):
    return [picture.path.name for picture in found.pictures]


def passed_over(found):
    return {reason: [path.name for path in paths] for reason, paths in found.passed_over.items()}


def write(folder, *names, content=b""):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.jpg", "no such file"),
        ("pipe", "no regular file"),
        ("empty", "no picture and no video below"),
        ("notes", r"no video below .*files that are neither pictures nor videos: 1"),
        ("words", "neither a picture nor a video; expected JPEG"),
    ],
)
def test_inputs_without_pictures(tmp_path, name, message):
    write(tmp_path, "notes/a.txt", "words")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_pictures([tmp_path / name])


def test_no_input_at_all():
    with pytest.raises(UserError, match="INPUT"):
        find_pictures([])


def test_frames_count_within_each_input_in_natural_order(tmp_path):
    write(tmp_path, "2.jpg", "deep/10.jpg", "deep/9.PNG", "deep/notes.txt")
    found = find_pictures([tmp_path / "2.jpg", tmp_path / "deep"]).pictures
    assert [(picture.path.name, picture.frame) for picture in found] == [
        ("2.jpg", 1),
        ("9.PNG", 1),
        ("10.jpg", 2),
    ]
    assert [picture.root for picture in found] == [tmp_path, tmp_path / "deep", tmp_path / "deep"]


def test_every_file_is_a_picture_or_passed_over_for_a_reason(tmp_path):
    """Whatever a phone leaves in a folder: the names' endings and the files' contents count."""
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    write(tmp_path, "a.JPG", "b.jfif", "c", "d.dat", "sub/e.bin", content=jpeg)
    write(tmp_path, "f.HEIC", "g.x", content=HEIC_STUB)
    write(tmp_path, "h.avif", "i.gif", "j.png")  # damaged ones have rows, too
    write(tmp_path, "k.MOV", "l.mp4", content=QUICKTIME)
    write(tmp_path, "m.txt", "n.mp4", ".o", content=b"words")
    os.mkfifo(tmp_path / "p")
    os.symlink(tmp_path / "gone", tmp_path / "q")
    os.symlink(tmp_path / "gone.jpg", tmp_path / "r.jpg")
    found = find_pictures([tmp_path])
    top = "a.JPG b.jfif c d.dat f.HEIC g.x h.avif i.gif j.png k.MOV l.mp4 n.mp4 r.jpg"
    assert names(found) == [*top.split(), "e.bin"]
    assert passed_over(found) == {
        "files that are neither pictures nor videos": [".o", "m.txt"],
        "files that are no regular ones or cannot be read": ["p", "q"],
    }
    videos = [picture.path.name for picture in found.pictures if picture.video]
    assert videos == ["k.MOV", "l.mp4", "n.mp4"]  # the last one is damaged, and has a row
    files = sum(len(names) for _, _, names in os.walk(tmp_path))
    assert files == len(found.pictures) + sum(map(len, found.passed_over.values()))


def test_links_to_folders_are_followed_and_every_folder_is_read_once(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    write(inside, "1.jpg", "own/2.jpg")
    write(outside, "3.jpg", "deep/4.jpg")
    os.symlink(outside, inside / "a_link")
    os.symlink(outside, inside / "b_link")  # a second way to one folder
    os.symlink(inside / "own", inside / "c_link")  # read in its own place
    os.symlink(inside, inside / "loop")
    os.symlink(inside, outside / "deep" / "back")
    found = find_pictures([inside])
    assert [str(picture.path.relative_to(inside)) for picture in found.pictures] == [
        "1.jpg",
        "a_link/3.jpg",
        "a_link/deep/4.jpg",
        "own/2.jpg",
    ]
    (links,) = passed_over(found).values()
    assert sorted(links) == ["b_link", "back", "c_link", "loop"]
    shutil.rmtree(inside / "own")
    with pytest.raises(UserError, match="No such file"):
        find_pictures([inside / "c_link"])


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    write(tmp_path, "1.jpg")

    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"Permission denied; its pictures would be left out"):
        find_pictures([tmp_path])


def test_a_gif_of_several_pictures_is_a_video(tmp_path):
    still, moving = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    still.save(tmp_path / "1.gif")
    still.save(tmp_path / "2.gif", save_all=True, append_images=[moving])
    assert [picture.video for picture in find_pictures([tmp_path]).pictures] == [False, True]


def test_a_video_that_is_named_twice_is_looked_at_once(tmp_path):
    write(tmp_path, "a.mp4", content=QUICKTIME)
    write(tmp_path, "b.jpg")
    both = [tmp_path / "a.mp4", tmp_path / "b.jpg"]
    found = find_pictures([*both, tmp_path, *both])
    assert names(found) == ["a.mp4", "b.jpg", "b.jpg", "b.jpg"]
    assert passed_over(found) == {"videos that were named before": ["a.mp4", "a.mp4"]}


@pytest.mark.parametrize("content", [b"a.jpg\nb c.jpg\r\n\n", b"a.jpg\0b c.jpg\0"])
def test_a_dash_is_the_names_on_standard_input(content):
    assert named_inputs(["x", "-", "y"], io.BytesIO(content)) == ["x", "a.jpg", "b c.jpg", "y"]
    assert named_inputs(["x"], io.BytesIO(content)) == ["x"]


def test_an_empty_list_of_names_is_a_mistake():
    with pytest.raises(UserError, match="standard input names no file"):
        named_inputs(["-"], io.BytesIO(b"\n"))
