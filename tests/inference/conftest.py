import cv2
import numpy as np
import pytest

from vlfau_jax.data.crop.cropping import find_and_crop
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.raw.frames import read_image
from vlfau_jax.inference.exported_model import ExportedModel


@pytest.fixture(scope="package")
def pictures(raw_faces, tmp_path_factory):
    """Five faces in folders, a picture without a face, a broken one, and a file to be ignored."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deep").mkdir()
    rule = crop_rule("cascade", 64)
    whole = (p for p in sorted(raw_faces.rglob("*.jpg")) if read_image(p) is not None)
    faces = [p for p in whole if find_and_crop(read_image(p), rule) is not None]
    names = ("2.jpg", "10.jpg", "1.jpg", "deep/7.jpg", "deep/8.png")
    for name, source in zip(names, faces[:45:9], strict=True):
        cv2.imwrite(str(folder / name), cv2.imread(str(source)))
    cv2.imwrite(str(folder / "3.png"), np.full((90, 120, 3), 127, np.uint8))
    (folder / "4.jpg").write_bytes(faces[0].read_bytes()[:900])
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="package")
def model(model_folder):
    """The exported model, which runs three faces at a time."""
    return ExportedModel(model_folder, batch_size=3)
