"""`predict` on one face as every kind of file that holds it: the same face, the same numbers."""

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.raw.test_decoding import HEIC
from tests.inference.films import head
from vlfau_jax.data.crop.registry import finder_for
from vlfau_jax.data.raw.frames import read_picture
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.predict import predict
from vlfau_jax.inference.predict_options import PredictOptions

TURNED = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def encoded(picture, kind, orientation=1, **options):
    """A picture of PIL's as a file, stored turned where it says that it is to be turned back."""
    if orientation != 1:
        picture = picture.transpose(TURNED[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def by_opencv(suffix, array):
    return cv2.imencode(suffix, array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()


def files():
    """Name -> content, of a face on the left of a picture that is higher than wide.

    Those in the first group hold the same levels, those of the second the same grey ones, and those
    of the third nearly the same.
    """
    array = np.full((220, 170, 3), (96, 110, 104), np.uint8)
    array[20:148, 10:138] = head("F004", 2)
    colour = Image.fromarray(array)
    grey = np.asarray(colour.convert("L"))
    alpha = Image.fromarray(
        np.arange(220 * 170, dtype=np.uint32).reshape(220, 170).astype(np.uint8)
    )
    rgba, la = colour.copy(), Image.fromarray(grey)
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    same = {
        "plain.png": encoded(colour, "PNG"),
        "alpha.png": encoded(rgba, "PNG"),
        "deep.png": by_opencv(".png", array.astype(np.uint16) * 257),
        "deep.tif": by_opencv(".tif", array.astype(np.uint16) * 257),
        "turned_3.png": encoded(colour, "PNG", 3),
        "turned_6.tif": encoded(colour, "TIFF", 6),
        "plain.bmp": encoded(colour, "BMP"),
        "plain.ppm": encoded(colour, "PPM"),
        "plain.webp": encoded(colour, "WEBP", lossless=True),
        "alpha.webp": encoded(rgba, "WEBP", lossless=True, exact=True),
        "by_content_alone": encoded(colour, "PNG"),
    }
    greys = {
        "grey.png": encoded(Image.fromarray(grey), "PNG"),
        "grey_alpha.png": encoded(la, "PNG"),
        "grey_deep.png": by_opencv(".png", grey.astype(np.uint16) * 257),
        "grey.tif": encoded(Image.fromarray(grey), "TIFF"),
    }
    near = {
        "plain.jpg": encoded(colour, "JPEG", quality=95),
        "progressive.jpg": encoded(colour, "JPEG", quality=95, progressive=True),
        "grey.jpg": encoded(Image.fromarray(grey), "JPEG", quality=95),
        "cmyk.jpg": encoded(colour.convert("CMYK"), "JPEG", quality=95),
        "cmyk.tif": encoded(colour.convert("CMYK"), "TIFF"),
        "turned_6.jpg": encoded(colour, "JPEG", 6, quality=95),
        "turned_8.webp": encoded(colour, "WEBP", 8, quality=95),
        "palette.png": encoded(colour.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        "still.gif": encoded(colour, "GIF"),
        "plain.avif": encoded(colour, "AVIF", quality=95),
        "turned_6.avif": encoded(colour, "AVIF", 6, quality=95),
    }
    return same, greys, near


@pytest.fixture(scope="module")
def found(model_folder, tmp_path_factory):
    """The groups' names, the folder of the files, and what `predict` says of each by its name."""
    folder, out = tmp_path_factory.mktemp("kinds"), tmp_path_factory.mktemp("out")
    groups = files()
    for group in groups:
        for name, content in group.items():
            (folder / name).write_bytes(content)
    (folder / "small.heic").write_bytes(HEIC)
    predict(model_folder, [folder], out, PredictOptions(batch_size=8, captions="never"))
    lines = (out / "predictions.jsonl").read_text().splitlines()
    records = {Path(one["source"]).name: one for one in map(json.loads, lines)}
    with (out / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(lines) == len(records)
    return [list(group) for group in groups], folder, records


def test_every_kind_shows_the_face_in_its_place(found):
    groups, _, records = found
    assert records.keys() == {name for group in groups for name in group} | {"small.heic"}
    plain = records["plain.png"]
    for name in (name for group in groups for name in group):
        assert (records[name]["success"], records[name]["faces"]) == (1, 1), records[name]
        assert records[name]["box"] == pytest.approx(plain["box"], abs=4), name
    assert (records["small.heic"]["reason"], records["small.heic"]["faces"]) == ("no face", 0)


def test_files_of_the_same_levels_have_the_same_numbers(found):
    (same, greys, _), _, records = found
    for names in (same, greys):
        for name in names[1:]:
            for au, unit in records[names[0]]["per_au"].items():
                expected = pytest.approx(unit["probability"], abs=1e-6)
                assert records[name]["per_au"][au]["probability"] == expected, (name, au)


def test_other_files_give_the_model_nearly_the_same_face(found, model_folder):
    """Colours neither swapped nor inverted: the crops are compared, whose mean is about 110."""
    (_, _, near), folder, _ = found
    model = ExportedModel(model_folder)
    finder = finder_for(model.crop_rule)

    def crop(name):
        return model.look_all(read_picture(folder / name), finder=finder)[0].crop.astype(int)

    colour, grey = crop("plain.png"), crop("grey.png")
    assert np.abs(colour - colour[..., ::-1]).mean() > 25
    for name in near:
        expected = grey if name.startswith("grey") else colour
        assert np.abs(crop(name) - expected).mean() < 16, name  # eyes are found some pixels away
