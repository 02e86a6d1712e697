"""Pictures of prepared sets: simplejpeg gives OpenCV's pixels, what is odd goes to OpenCV."""

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import event, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlfau_jax.data.raw import frames
from vlfau_jax.data.raw.decoding import MOST_PIXELS
from vlfau_jax.data.raw.frames import decode_crop, decode_image, encode_jpeg

GUARD = 64


def by_opencv(data: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def by_pillow(image: np.ndarray, kind: str = "jpeg", **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **options)
    return out.getvalue()


def claiming(data: bytes, height: int, width: int) -> bytes:
    """The file, its frame header claiming another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2) + width.to_bytes(2) + data[at + 4 :]


def guarded(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory for a picture, and all of it with what is around, which has to stay 170."""
    whole = np.full(3 * height * width + 2 * GUARD, 170, np.uint8)
    return whole[GUARD:-GUARD].reshape(height, width, 3), whole


def assert_guarded(whole: np.ndarray) -> None:
    assert (whole[:GUARD] == 170).all() and (whole[-GUARD:] == 170).all()


@st.composite
def encoded(draw) -> tuple[np.ndarray, bytes]:
    """A picture and a JPEG of it: smooth or noise, all sizes, qualities, samplings and tables."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    channels = draw(st.sampled_from(((), (3,))))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    image = rng.integers(0, 256, (height, width, *channels), np.uint8)
    if draw(st.booleans()):
        image = cv2.GaussianBlur(image, (0, 0), 4)
    quality = draw(st.integers(1, 100))
    if draw(st.booleans()):
        options = {
            "subsampling": draw(st.sampled_from(("4:4:4", "4:2:2", "4:2:0"))),
            "optimize": draw(st.booleans()),
            "restart_marker_blocks": draw(st.sampled_from((0, 1, 3))),
            "comment": draw(st.sampled_from((b"", b"a comment"))),
        }
        return image, by_pillow(image, quality=quality, **options)
    factor = draw(st.sampled_from((0x111111, 0x211111, 0x121111, 0x221111, 0x411111)))
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
    assert done
    return image, data.tobytes()


@settings(max_examples=300, deadline=None)
@given(encoded(), st.booleans())
def test_pixels_are_those_of_opencv_to_the_bit(drawn, given_memory):
    image, data = drawn
    memory, whole = guarded(*image.shape[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "decode_image", None)
        patch.setattr(cv2, "imdecode", None)
        found = decode_crop(data, memory if given_memory else None)
    assert found.dtype == np.uint8 and np.array_equal(found, by_opencv(data))
    assert np.shares_memory(found, memory) == given_memory
    assert_guarded(whole)
    if not given_memory:
        assert (whole == 170).all()


@settings(max_examples=200, deadline=None)
@given(encoded(), st.data())
def test_damaged_files_are_what_they_are_to_opencv(drawn, data):
    """Bytes of the scan changed, lost or put in: what libjpeg remarks on, OpenCV decides."""
    image, whole = drawn
    start = whole.index(b"\xff\xda") + 14
    scan = bytearray(whole[start:-2])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(scan)))
        scan[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=4))
    damaged = whole[:start] + bytes(scan) + whole[-2:]
    memory, around = guarded(*image.shape[:2])
    found, wanted = decode_crop(damaged, memory), by_opencv(damaged)
    event("a picture" if found is not None else "none")
    assert (found is None) == (wanted is None)
    assert found is None or np.array_equal(found, wanted)
    assert_guarded(around)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bytes_of_any_header_may_be_wrong(data):
    """A picture or None, and nothing is written beside the memory that was given."""
    whole = bytearray(encode_jpeg(np.zeros((24, 24, 3), np.uint8)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(2, len(whole) - 3))
        # A header that claims up to 64 megapixels is believed, here and by OpenCV.
        if not whole.index(b"\xff\xc0") <= at < whole.index(b"\xff\xc0") + 9:
            whole[at] = data.draw(st.integers(0, 255))
    memory, around = guarded(24, 24)
    found = decode_crop(bytes(whole), memory)
    assert found is None or (found.dtype == np.uint8 and found.shape[2] == 3)
    assert_guarded(around)


@pytest.mark.parametrize("size", [(23, 24), (25, 24), (24, 23), (24, 25), (12, 48), (48, 48)])
def test_memory_of_another_size_is_not_written(size):
    data = encode_jpeg(np.full((24, 24, 3), 90, np.uint8))
    memory, whole = guarded(*size)
    assert np.array_equal(decode_crop(data, memory), by_opencv(data))
    assert (whole == 170).all()
    # So it is with a picture whose header lies.
    lying = claiming(data, *size)
    memory, whole = guarded(24, 24)
    assert np.array_equal(decode_crop(lying, memory), by_opencv(lying))
    assert (whole == 170).all()


def test_a_header_decides_before_anything_is_decoded(monkeypatch):
    data = encode_jpeg(np.zeros((32, 32, 3), np.uint8))
    progressive = by_pillow(np.zeros((32, 32, 3), np.uint8), progressive=True)
    assert np.array_equal(decode_crop(progressive), decode_image(progressive))
    huge = claiming(data, 32000, 32000)
    monkeypatch.setattr(cv2, "imdecode", None)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    others = (claiming(data, 8001, MOST_PIXELS // 8000), claiming(data, 0, 32), b"\xff\xd8\xff\xd9")
    for other in (huge, huge[:2] + b"\xff" + huge[2:], data[:-2], b"", *others):
        assert decode_crop(other) is None


COMMENT = b"\xff\xfe\0\4\xff\xda"  # with what looks like the first scan's marker


@pytest.mark.parametrize("before", [b"", COMMENT])
@pytest.mark.parametrize("after", [b"\xff\xd8", b"\xff\xc4"])
def test_what_says_how_the_camera_was_held_is_heeded(after, before):
    """Wherever in the headers it stands; simplejpeg would leave it out."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture's top is at its right
    content = exif.tobytes()
    segment = b"\xff\xe1" + (len(content) + 2).to_bytes(2) + content
    image = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
    data = encode_jpeg(image)
    at = data.index(after) + (2 if after == b"\xff\xd8" else 0)
    turned = data[:at] + before + segment + data[at:]
    assert decode_crop(turned).shape == (40, 24, 3)
    assert np.array_equal(decode_crop(turned), by_opencv(turned))
