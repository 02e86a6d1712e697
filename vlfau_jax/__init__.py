"""VL-FAU in JAX: facial action units, with a sentence and an attention map for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlfau_jax.inference.exported_model import ExportedModel

__version__ = "0.1.0"


def load(folder: str | Path, *, crop_file: str | Path = "", batch_size: int = 8) -> ExportedModel:
    """Loads a model folder that `python -m vlfau_jax export` wrote.

    An example, with pictures as RGB uint8 arrays of any size:

        import cv2
        import vlfau_jax

        model = vlfau_jax.load("runs/demo/model")
        pictures = [cv2.imread("face.jpg", cv2.IMREAD_COLOR_RGB)]
        for result in model.predict(pictures):
            if result.prediction is None:
                print("no result:", result.drop_reason)
                continue
            print(result.prediction.sentence)
            for au, probability in zip(model.aus, result.prediction.probabilities):
                print(f"AU{au:02d} {probability:.2f}")

    Args:
        folder: the model folder. Its files are checked against their digests first.
        crop_file: the file that the model's crop rule reads (YuNet's or MediaPipe's model, a table
            of boxes); most rules read none.
        batch_size: faces in each run of the program, which is compiled once, for this number.
            Smaller batches are padded to it. 1 suits single faces as they arrive (a tenth of the
            time of 32 for one face, on a CPU), 32 suits many pictures on a GPU; with 8, a CPU is
            as fast per face as with 32. Probabilities differ by 1e-6 or so between batch sizes.

    Returns:
        An object with `predict(pictures)`, `describe(faces)` for faces that are cropped already,
        and what the model is: `aus`, `thresholds`, `captions`, `crop_rule`, `image_size`,
        `synthetic`, `trained_on`.

    Raises:
        vlfau_jax.errors.UserError: the folder is no model, is incomplete or changed, or needs
            another `crop_file`.
    """
    from vlfau_jax.inference.exported_model import ExportedModel  # seconds to import

    return ExportedModel(folder, crop_file, batch_size)
