"""What is a picture, and that each kind and mode comes as upright RGB of eight bits."""

import base64
import io
import os
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlfau_jax.data.raw import decoding
from vlfau_jax.data.raw.decoding import HEAD, decode_picture, kind_of
from vlfau_jax.data.raw.frames import read_image, read_picture
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.files import PICTURE_LIMIT

LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "PPM": {}, "WEBP": {"lossless": True}}
ENCODABLE = {**LOSSLESS, "GIF": {}, "AVIF": {"quality": 100}, "JPEG": {"quality": 98}}
ROTATING = ("PNG", "TIFF", "WEBP", "AVIF", "JPEG")

# 29 by 100 pixels, grey of ten bits, from the tests of pi-heif (BSD-3-Clause): no wheel that we
# have writes HEIC.
HEIC = zlib.decompress(
    base64.b85decode(
        b"c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfiXEZwIq=N0u(b+a*CjAhJwuG5(YHDSCCnf3uZ9_u~KGEKG;YX2Oysj"
        b"EZh#E85o#SfrN5qW?mXxy(o~A$^_+QlqDO2n2$3HiVA@Ak<5bRd>~x}lyGKb;egxu{{zFHKfiu4Fz_=g05ys`F!C_|"
        b"{|{2Y%rN%{h-CP`i^)L|D5vhk$cQR&powk1cIvLx%XV&10EvJJMJ1qGHW$W&h226x3q&%D3sRw$IRJ4A5NjmoB!XNe"
        b"3w1h33~1~ByC9!I)iOZ>q#_gSBQ78zo>`C!3rk>turx9?vjElQ=B6Y9gOVvxgK-^qx}9}cPWnlmY7=Am|Nk5mPkz{V"
        b"xYF>z#0|bbc`lrHn0_NfQRv6jjOjOlWTsF@EQ9@#zxH*p#f!AJs98^zs@}9!t%1SQ#_HN@7ojr&6CVFM^>c~?gDmUJ"
        b"{b{wV*KT&by?--&a$d-}>x&wA)&d=P$>WaWy&VaL8gY+qY*^aBAaJ4JnC&g$zi#^&B;I;=TUs;NKI-b8yYQ%H`q~-l"
        b"Pa_=|&bqp*WLkVKJHnmFaf$J@14GFaxgWwz*Hg-$hCX@mCfVQAmRD>)1B0!HV>Da8a++oM)6eQRjvinz@t?j=bj6C>"
        b">^G0c+*>_;lLd3ouNyy4>^&UQ8km<E>%yRZTh4twUxsUH!1VXlUt1g)9vRu$+8?z2`|P7JBdhK47dLX(C{AQxD4h0K"
        b"Qc|q+$K4xGq~zH78kjdseQwjZ$l<a`Ou2n=&YU)eX|mp5rB}ynTc24v`Q0l9kzPNU@2<D2r}XDpggt&O!JrfNLrnF~"
        b"ue3wSPE&I{(taJ;lc2PefnnMg{~F(%@4Gldik3a|u5Ms`w6yU<SXcq$C0X9{kFIbwFe=0ym3KVc=vu~8o%`*k0)yP)"
        b"4jskTR*%DHGb&4~r4tx4xBW;lHh#RxY^83cPWk@^hTMmYuS0Tov7cFbue<7A><-Nb3=9tpx`Hhny4n<%hGiCNJZ9jT"
        b"68)8}c)x$can9ZsZSMIt3>Tfh7f1hme&MO>1N(ms42RD??)m-OdwIkao$bs&We+fYbbDXNvi|AoB@WE<cP{T?VR*d4"
        b"Q0T`$#T<jn;y<p=cPe6F+>uf8uW?e^jGPdS$`5LGCl*Iv0s#7lWa9"
    )
)


@pytest.fixture
def picture(rng):
    return cv2.GaussianBlur(rng.integers(0, 256, (60, 81, 3), np.uint8), (9, 9), 3)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def loss_of(data):
    with pytest.raises(Unreadable) as error:
        decode_picture(data)
    assert "\n" not in error.value.detail
    return error.value.loss


@pytest.mark.parametrize("kind", ENCODABLE)
def test_a_picture_is_known_by_its_first_bytes(kind, picture):
    data = encoded(picture, kind, **ENCODABLE[kind])
    assert kind_of(data[:HEAD]) == kind
    found = decode_picture(data).astype(int)
    assert found.shape == picture.shape and np.abs(found - picture).mean() < 5


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (HEIC, "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x0cftypqt  ", "video"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "video"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video"),
        (b"RIFF\1\1\1\1AVI LIST", "video"),
        (b"\x1aE\xdf\xa3", "video"),
        (b"RIFF\1\1\1\1WAVE", None),
        (b"BMW drives on", None),
        (b"P1 looked up", None),
        (b"%PDF-1.7", None),
        (b"", None),
    ],
)
def test_other_files_are_told_from_pictures(head, kind):
    assert kind_of(head[:HEAD]) == kind


def test_heic_is_read():
    found = decode_picture(HEIC)
    assert found.shape == (100, 29, 3) and 126 < found.mean() < 129
    for cut in (100, 500, 900, len(HEIC) - 1):
        assert loss_of(HEIC[:cut]) == "image_unreadable"
    assert np.array_equal(decode_picture(HEIC + b"\0\0\0\1what a phone appends"), found)
    stub = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert loss_of(stub) == "image_unreadable"


def test_avif_that_ends_early_is_unreadable(picture):
    data = encoded(picture, "AVIF")
    for cut in (40, len(data) // 2, len(data) - 1):
        assert loss_of(data[:cut]) == "image_unreadable"


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}], ids=str)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.99])
def test_webp_that_ends_early_is_unreadable_whatever_its_headers_say(part, options, picture):
    data = bytearray(encoded(picture, "WEBP", **options))
    del data[round(part * len(data)) :]
    assert loss_of(bytes(data)) == "image_unreadable"
    for place in (4, 16):  # of the file, and of its one chunk
        data[place : place + 4] = (len(data) - place - 4).to_bytes(4, "little")
    assert loss_of(bytes(data)) == "image_unreadable"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ROTATING)
def test_every_orientation_is_turned_upright(kind, orientation, picture):
    turns = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(turns[orientation](picture))
    found = decode_picture(encoded(stored, kind, exif=exif, **ENCODABLE[kind])).astype(int)
    assert found.shape == picture.shape and np.abs(found - picture).mean() < 5


def test_damaged_exif_data_say_nothing(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(picture, "JPEG", exif=exif))
    at = data.index(b"Exif\0\0") + 6
    data[at : at + 16] = b"MM\0*\0\0\0\x08\xff\xff\x01\x12\xff\xff\xff\xff"
    assert decode_picture(bytes(data)).shape[2] == 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_mode_comes_as_rgb(kind, mode, picture):
    image = Image.fromarray(picture).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(3)
    try:
        data = encoded(image, kind, **LOSSLESS[kind])
    except OSError:
        pytest.skip(f"{kind} has no mode {mode}")
    expected = np.asarray(image.convert("RGB"), int)
    if mode in ("LA", "RGBA"):  # what is transparent has a colour, too
        expected = np.asarray(Image.fromarray(picture).convert("L" if mode == "LA" else "RGB"))
        expected = np.asarray(Image.fromarray(expected).convert("RGB"), int)
    assert np.abs(decode_picture(data) - expected).max() <= 1


@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM", "colour"])
def test_grey_of_more_bits_keeps_the_upper_eight_that_it_uses(kind, depth):
    """A 12-bit camera's picture in a 16-bit file used to be black."""
    ramp = np.linspace(0, 2**depth - 1, 60 * 80).astype(np.uint16).reshape(60, 80)
    if kind == "PGM":
        data = b"P5 80 60 %d\n" % max(256, 2**depth - 1) + ramp.astype(">u2").tobytes()
    elif kind == "colour":
        data = cv2.imencode(".png", np.dstack([ramp] * 3))[1].tobytes()
    else:
        data = encoded(Image.fromarray(ramp), kind)
    expected = np.repeat((ramp >> (depth - 8))[..., None], 3, 2)
    assert np.array_equal(decode_picture(data), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_colours_of_sixteen_bits_are_those_of_eight(suffix, picture):
    """OpenCV's own RGB of such a TIFF is what was in the memory before."""
    deep = picture.astype(np.uint16) * 257
    data = cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()
    assert picture.max() >= 128, "of which sixteen bits are used"
    assert np.array_equal(decode_picture(data), picture)


def test_of_several_pictures_the_first_is_read(picture):
    others = [Image.fromarray(picture // 4)] * 3
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        options = LOSSLESS.get(kind, {})
        data = encoded(picture, kind, save_all=True, append_images=others, **options)
        assert abs(decode_picture(data).mean() - picture.mean()) < 5


def test_a_floating_point_picture_is_unreadable(picture):
    data = encoded(Image.fromarray(picture[..., 0].astype(np.float32)), "TIFF")
    assert loss_of(data) == "image_unreadable"


@pytest.mark.parametrize("kind", ENCODABLE)
def test_too_many_pixels_are_known_from_the_header(kind, picture, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_PIXELS", picture.shape[0] * picture.shape[1] - 1)
    assert loss_of(encoded(picture, kind)) == "image_too_large"


def test_too_many_pixels_of_a_heic(monkeypatch):
    monkeypatch.setattr(decoding, "MOST_PIXELS", 2899)
    assert loss_of(HEIC) == "image_too_large"


def test_only_regular_files_are_read_and_no_huge_ones(tmp_path, picture):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with (tmp_path / "sparse.png").open("wb") as file:
        file.write(encoded(picture, "PNG"))
        file.truncate(10 << 30)
    losses = {}
    for path in (*sorted(tmp_path.iterdir()), "/dev/zero", "/dev/stdin", tmp_path / "nul\0.jpg"):
        with pytest.raises(Unreadable) as error:
            read_picture(path)
        losses[str(path).rpartition("/")[2]] = error.value.loss
    assert losses.pop("sparse.png") == "image_too_large"
    assert set(losses.values()) == {"image_unreadable"}
    assert (tmp_path / "sparse.png").stat().st_size > PICTURE_LIMIT


@settings(max_examples=250)
@given(
    kind=st.sampled_from([*ENCODABLE, "HEIF"]),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 200), st.binary(max_size=12)), max_size=4
    ),
)
def test_damaged_files_are_pictures_or_none(kind, changes, tmp_path_factory):
    ramp = np.add.outer(np.arange(20), np.arange(24)).astype(np.uint8)
    options = ENCODABLE.get(kind, {})
    data = bytearray(HEIC if kind == "HEIF" else encoded(np.dstack([ramp] * 3), kind, **options))
    for place, removed, inserted in changes:
        at = round(place * len(data))
        data[at : at + removed] = inserted
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    picture = read_image(path)
    assert picture is None or (picture.dtype == np.uint8 and picture.shape[2:] == (3,))


def test_a_png_that_claims_other_pixels_than_it_has_is_unreadable(picture):
    data = bytearray(encoded(picture, "PNG"))
    data[16:24] = struct.pack(">II", 81, 600)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert loss_of(bytes(data)) == "image_unreadable"


def test_threads_that_decode_at_once_leave_the_filters_of_warnings_as_they_were():
    before = list(warnings.filters)
    one, other = decoding._unwarned, decoding._unwarned
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    warnings.warn("of the thread that still decodes", UserWarning, stacklevel=1)
    other.__exit__(None, None, None)
    assert warnings.filters == before
    with pytest.raises(UserWarning):  # as the suite has it
        warnings.warn("after all of them", UserWarning, stacklevel=1)
