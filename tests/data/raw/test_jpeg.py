"""JPEG files that have lost data, or are more work than they are worth, are noticed."""

import io
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlfau_jax.data.raw import jpeg
from vlfau_jax.data.raw.decoding import MOST_PIXELS, decode_picture
from vlfau_jax.data.raw.unreadable import Unreadable

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 2},
    "many restarts": {"restart_marker_blocks": 1},
    "grey": {"mode": "L"},
    "grey, progressive": {"mode": "L", "progressive": True},
    "no subsampling": {"subsampling": 0},
    "cmyk": {"mode": "CMYK"},
    "cmyk, progressive": {"mode": "CMYK", "progressive": True},
    "optimised": {"optimize": True, "quality": 30},
}


def scene(width=150, height=131, seed=0):
    """A picture with detail everywhere."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 1)


def encoded(picture, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(buffer, "jpeg", **({"quality": 80} | options))
    return buffer.getvalue()


def scan_data(data):
    """Where the bytes of the scans are: (first, last) of each, without their headers."""
    found = []
    for match in re.finditer(rb"\xff\xda", data):
        first = match.end() + int.from_bytes(data[match.end() : match.end() + 2])
        stop = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]").search(data, first).start()
        found.append((first, stop))
    return found


def loss_of(data):
    with pytest.raises(Unreadable) as error:
        decode_picture(data)
    assert "\n" not in error.value.detail
    return error.value.loss


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_whole_files_are_read_as_pillow_reads_them(options):
    data = encoded(scene(), **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode_picture(data), expected)
    assert np.array_equal(decode_picture(data + b"\0trailing" * 9), expected)  # a phone's film


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.8])
def test_data_lost_from_a_scan_are_noticed_though_the_file_ends_well(options, part):
    data = encoded(scene(), **options)
    for first, stop in scan_data(data):
        length = stop - first
        if length < 200:
            continue
        cut = first + round(part * length)
        assert loss_of(data[:cut] + data[stop:]) == "image_incomplete"
        if data[first - 1] >> 4:  # a scan that refines others can look whole without its middle
            continue
        after = min(stop - 1, cut + max(60, length // 8))
        assert loss_of(data[:cut] + data[after:]) == "image_incomplete"


@pytest.mark.parametrize("quality", [30, 80, 98])
def test_a_hole_of_zeros_is_noticed(quality):
    data = bytearray(encoded(scene(300, 280), quality=quality))
    ((first, stop),) = scan_data(bytes(data))
    middle = (first + stop) // 2
    data[middle : middle + (stop - first) // 8] = bytes((stop - first) // 8)
    assert loss_of(bytes(data)) == "image_incomplete"


def test_a_progressive_file_without_its_last_scans_is_noticed():
    data = encoded(scene(), progressive=True)
    starts = [match.start() for match in re.finditer(rb"\xff\xda", data)]
    for start in starts[1:]:
        assert loss_of(data[:start] + b"\xff\xd9") == "image_incomplete"


def test_a_lost_restart_marker_is_noticed():
    data = encoded(scene(), restart_marker_rows=1)
    marks = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    assert len(marks) == 8
    for mark in marks:
        assert loss_of(data[:mark] + data[mark + 2 :]) == "image_incomplete"


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}], ids=str)
def test_a_flat_picture_may_hold_zeros_only(options):
    picture = np.full((700, 900, 3), 200, np.uint8)
    data = encoded(picture, **options)
    assert bytes(64) in data or not options
    assert decode_picture(data).shape == picture.shape
    picture[-20:] = scene(900, 20)
    assert decode_picture(encoded(picture, **options)).shape == picture.shape


@pytest.mark.parametrize("grey", [127, 128, 129])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_picture_that_is_grey_is_not_taken_for_one_that_lost_data(grey, options):
    picture = np.full((90, 120, 3), grey, np.uint8)
    assert decode_picture(encoded(picture, **options)).shape == picture.shape
    picture[:50] = scene(120, 50)
    assert decode_picture(encoded(picture, **options)).shape == picture.shape


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_file_that_ends_early_is_unreadable(cut):
    data = encoded(scene())
    assert loss_of(data[: round(cut * len(data))]) == "image_unreadable"


def with_scans(count, side=64):
    """A progressive file whose first scan comes `count` times."""
    data = encoded(scene(side, side), mode="L", progressive=True)
    start, (_, stop) = data.index(b"\xff\xda"), scan_data(data)[0]
    return data[:start] + data[start:stop] * count + data[stop:]


def test_scans_are_counted_before_they_are_decoded(monkeypatch):
    assert np.array_equal(decode_picture(with_scans(20)), decode_picture(with_scans(1)))
    loads = []
    monkeypatch.setattr(jpeg, "_load", loads.append)
    assert loss_of(with_scans(1 + jpeg.MOST_SCANS)) == "image_too_large"
    monkeypatch.setattr(jpeg, "MOST_SCANNED_PIXELS", 64 * 64 * 20)
    assert loss_of(with_scans(20)) == "image_too_large"
    empty = b"\xff\xfe\0\2" * (jpeg.MOST_SEGMENTS + 1)
    assert loss_of(b"\xff\xd8" + empty + encoded(scene())[2:]) == "image_too_large"
    monkeypatch.setattr(jpeg, "MOST_MARKERS", 100)
    monkeypatch.setattr(jpeg, "_CHUNK", 64)
    assert loss_of(encoded(scene(), restart_marker_blocks=1)) == "image_too_large"
    assert not loads


def test_markers_are_found_across_the_chunks_that_are_searched(monkeypatch):
    data = encoded(scene(), restart_marker_rows=2)
    whole = jpeg._markers(data)
    assert {data[place + 1] for place in whole} >= {0xD0, 0xD9, 0xDA}
    for chunk in (1, 7, 64):
        monkeypatch.setattr(jpeg, "_CHUNK", chunk)
        assert np.array_equal(jpeg._markers(data), whole)


def test_a_single_scan_may_be_of_any_picture_that_is_read(monkeypatch):
    """Cameras of 64 megapixels write one scan."""
    monkeypatch.setattr(jpeg, "MOST_SCANNED_PIXELS", 10)
    assert decode_picture(encoded(scene())).shape == (131, 150, 3)
    with pytest.raises(Unreadable, match="150 by 131 pixels; at most 9"):
        jpeg.decode_jpeg(encoded(scene()), 9)
    assert jpeg.MOST_SCANNED_PIXELS < 10 * MOST_PIXELS


@settings(max_examples=200)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 300), st.binary(max_size=40)), max_size=4
    ),
)
def test_damage_gives_a_picture_or_a_reason(kind, changes):
    data = bytearray(encoded(scene(40, 33), **KINDS[kind]))
    for place, removed, inserted in changes:
        at = round(place * len(data))
        data[at : at + removed] = inserted
    try:
        picture = decode_picture(bytes(data))
    except Unreadable as error:
        assert error.loss.startswith("image_") and "\n" not in error.detail
    else:
        assert picture.dtype == np.uint8 and picture.shape[2:] == (3,)
