"""VL-FAU in JAX: facial action units, with a sentence and an attention map for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

    from vlfau_jax.inference.exported_model import ExportedModel

__version__ = "0.1.0"


def load(
    folder: str | Path | None = None,
    *,
    crop_file: str | Path = "",
    batch_size: int = 8,
    verify: str = "",
    devices: Sequence[jax.Device] | None = None,
) -> ExportedModel:
    """Loads a model folder that `python -m vlfau_jax export` wrote, or the one that ships.

    An example; pictures are files, RGB uint8 arrays of any size or PIL's images:

        import vlfau_jax

        model = vlfau_jax.load()  # or of a folder: vlfau_jax.load("runs/demo/model")
        for result in model.predict(["face.jpg"]):
            if result.prediction is None:
                print("no result:", result.drop_reason)
                continue
            print(result.prediction.sentence)
            for au, probability in zip(model.aus, result.prediction.probabilities):
                print(f"AU{au:02d} {probability:.2f}")

    Args:
        folder: the model folder. Its files are checked against their digests first. None for the
            one that ships, which was trained on rendered faces alone; a line on stderr says so.
        crop_file: the file that the model's crop rule reads (YuNet's or MediaPipe's model, a table
            of boxes); most rules read none.
        batch_size: faces in each run of the program, which is compiled once, for this number.
            Smaller batches are padded to it: 1 suits single faces as they arrive, more suits many
            pictures. With the demo's model on two busy cores one face took 0.07 s with 1, 0.19 s
            with 8 and 0.74 s with 32; 32 faces took 1.2, 0.75 and 0.65 s. Probabilities differ by
            up to 2e-6 between batch sizes.
        verify: the SHA-256 of the folder that `export` printed, where it came by another way than
            the folder; "" for any. The digests in the folder find damage, not forgery.
        devices: of `jax.local_devices()`, which share the faces of a run; None for all of them.

    Returns:
        An object with `predict(pictures)`; `stream(pictures)`, the same as a generator, for videos
        and for more pictures than memory holds; `describe(faces)` for faces that are cropped
        already, `explain(faces)` with their maps; and what the model is: `aus`, `thresholds`,
        `captions`, `crop_rule`, `image_size`, `synthetic`, `trained_on`, `ships`.

    Raises:
        vlfau_jax.errors.UserError: the folder is no model, is incomplete or changed, holds a
            program that may not run, has another digest than `verify`, or needs another
            `crop_file`; or none is named and this installation lacks the one that ships.
    """
    from vlfau_jax.inference.exported_model import ExportedModel  # seconds to import

    return ExportedModel(folder, crop_file, batch_size, verify, devices)
