"""What is drawn on pictures and videos, and the file of maps behind it."""

import numpy as np
import pytest

from vlfau_jax.data.raw.frames import encode_jpeg
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.inference.overlay import MapFile, draw, read_maps, write_overlays
from vlfau_jax.inference.pictures import find_pictures

ALIGNMENT = np.array([[1 / 50, 0, -0.4], [0, 1 / 50, -0.4]], np.float32)  # 20..70 of the picture


def row(person=0, success=1):
    units = {
        str(au): {"probability": 0.9 if au % 2 else 0.1, "active": bool(au % 2)} for au in BP4D_AUS
    }
    return {
        "face_id": person,
        "success": success,
        "confidence": 0.93,
        "box": [20.0, 20.0, 50.0, 50.0],
        "per_au": units if success else None,
        "sentence": "a woman raises the inner corners of her brows. " * 4 if success else None,
        "reason": "blurred",
    }


def heat(hot):
    values = np.zeros((4, 4), np.float32)
    values[hot] = 1
    return values


@pytest.mark.parametrize(("height", "width"), [(96, 96), (40, 300), (720, 1280), (3000, 4000)])
def test_a_drawing_can_be_read_at_any_size_and_shows_the_picture(height, width):
    picture = np.full((height, width, 3), (10, 60, 110), np.uint8)
    empty = draw(picture, [], [], 12)
    drawn = draw(picture, [row(), row(1), row(2, success=0)], [None] * 3, 12)
    assert drawn.shape == empty.shape and drawn.dtype == np.uint8
    assert drawn.shape[0] % 2 == drawn.shape[1] % 2 == 0
    assert 200 <= drawn.shape[0] <= 1440 and drawn.shape[1] <= 1440 + 24 * 22
    assert (drawn != empty).any(-1).mean() > 0.01
    assert (empty == (10, 60, 110)).all(-1).mean() > 0.2


def test_the_map_lies_where_the_crop_lay():
    picture = np.full((480, 480, 3), 128, np.uint8)
    matrix = ALIGNMENT.copy()
    matrix[:, 2] = -0.4
    for hot in ((0, 0), (3, 3)):
        maps = [(matrix, (255 * heat(hot)).astype(np.uint8))]
        drawn = draw(picture, [], maps, 12)[:480, :480]
        y, x = np.nonzero((drawn != 128).any(-1))
        assert len(y) > 20
        middle = 20 + 50 * (hot[0] + 0.5) / 4
        assert abs(y.mean() - middle) < 12 and abs(x.mean() - middle) < 12


def test_maps_are_read_back_row_by_row_and_cut_after_an_interruption(tmp_path):
    path = tmp_path / "maps.bin"
    file = MapFile(path, 0)
    file.add(None, None)  # before the maps' size is known
    file.add(ALIGNMENT, heat((1, 2)))
    file.add(None, None)
    file.add(ALIGNMENT, heat((3, 3)))
    file.flush()
    again = MapFile(path, 3)  # the last row was not kept
    again.add(ALIGNMENT, heat((0, 1)))
    again.close()
    file.close()
    maps = read_maps(path)
    none, first, third, last, beyond = (next(maps) for _ in range(5))
    assert none is third is beyond is None
    np.testing.assert_array_equal(first[0], ALIGNMENT)
    assert first[1][1, 2] == 255 and first[1].sum() == 255
    assert last[1][0, 1] == 255
    MapFile(tmp_path / "none.bin", 0).close()
    assert next(read_maps(tmp_path / "none.bin")) is None


def test_a_name_at_the_edge_stays_in_the_picture_and_all_units_have_room():
    """A wide picture, which is low: the sentence's last line is above the bottom."""
    picture = np.full((200, 1440, 3), (10, 60, 110), np.uint8)
    at_edge = row() | {"box": [1400.0, 20.0, 39.0, 50.0]}
    plain, drawn = (draw(picture, rows, [None] * len(rows), 20) for rows in ([], [at_edge]))
    changed = (plain != drawn).any(-1)
    assert not changed[:40, 1440:1445].any(), "the name does not reach into the panel"
    assert changed[:40, :1440].any()
    assert len(drawn) > 300, "lines of a name, 20 units and a sentence, which 12 units leave free"
    assert not changed[-3:].any()


def test_names_of_any_length_are_names_of_overlays(tmp_path):
    names = ["\u65e5" * 83 + ".jpg", "a" * 240 + ".jpg"]
    for name in names:
        (tmp_path / name).write_bytes(encode_jpeg(np.full((60, 60, 3), 90, np.uint8)))
    sources = find_pictures([tmp_path / name for name in names]).pictures
    rows = [row() | {"source": str(source.path), "frame": 1} for source in sources]
    MapFile(tmp_path / "maps", 0).close()
    out = tmp_path / "overlay"
    write_overlays(out, sources, lambda one: str(one.path), rows, tmp_path / "maps", 1, 12)
    drawn = sorted(path.name for path in out.iterdir())
    assert drawn == ["000001_" + "\u65e5" * 66 + ".jpg", "000002_" + "a" * 200 + ".jpg"]
