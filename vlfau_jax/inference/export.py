"""Export a run's network as a self-contained model folder, checked before it gets its name.

The folder holds everything that a prediction depends on: weights, program, vocabulary, crop rule,
order of the units, thresholds. Nothing in it needs this package: the program is StableHLO, the
weights are safetensors, the vocabulary is a Hugging Face tokenizer.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export as jax_export
from safetensors.numpy import load_file, save

from vlfau_jax import __version__
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder, file_digest
from vlfau_jax.inference.model_card import model_card
from vlfau_jax.inference.model_folder import (
    CARD,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    PLATFORMS,
    PROGRAM,
    WEIGHTS,
)
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.trained import Trained, load_trained
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD
from vlfau_jax.train.checkpoint import LAST

TOLERANCE = 1e-5


def _flat(params: Any) -> dict[str, Any]:
    """Parameters by the names that they have in the weights file, "backbone/stage_0/..."."""
    return flatten_dict(params, sep="/")


def export(
    workdir: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    beams: int = 1,
    checkpoint: str = LAST,
) -> Path:
    """Writes the model folder `out` from a checkpoint of `workdir`; returns its path.

    The files are loaded again and compared with the live model before the folder gets its name;
    until then it has a temporary one beside it.

    Args:
        workdir: the run.
        out: the folder to create.
        overwrite: replace an older model there.
        beams: width of the search for the model's sentences; 1 is greedy.
        checkpoint: "last", "best" or a step.

    Raises:
        UserError: `out` exists and is not empty, `workdir` has no checkpoint, or `beams` is out of
            range or would have no effect.
        RunError: the exported program's outputs differ from the live model's.
    """
    folder = absolute_folder("--out", out)
    occupied = folder.is_dir() and any(folder.iterdir())
    if occupied and not overwrite:
        raise UserError(f"--out={out} exists and is not empty; give --overwrite or a new folder")
    if occupied and not (folder / CONFIG).is_file():
        raise UserError(f"--out={out} is no model folder, so it is not overwritten; name another")
    trained = load_trained(workdir, beams, checkpoint)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        _write(trained, new)
        _compare(trained, new)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    print(f"{out}: reloaded, same outputs as the live model; {_megabytes(folder):.1f} MB")
    return folder


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def _program(trained: Trained) -> jax_export.Exported:
    (batch,) = jax_export.symbolic_shape("b")
    size = trained.data.image_size
    weights = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype)
        for name, value in _flat(trained.params).items()
    }
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)

    def run(weights: Mapping[str, jax.Array], image: jax.Array) -> dict[str, jax.Array]:
        return trained.describe(unflatten_dict(weights, sep="/"), image)

    return jax_export.export(jax.jit(run), platforms=PLATFORMS)(weights, images)


def _write(trained: Trained, folder: Path) -> None:
    weights = {name: np.asarray(value) for name, value in _flat(trained.params).items()}
    (folder / WEIGHTS).write_bytes(save(weights, metadata={"format": FORMAT}))
    (folder / PROGRAM).write_bytes(_program(trained).serialize())
    trained.vocabulary.save(folder)
    (folder / CARD).write_text(model_card(trained))
    # The config is written last because it holds the digests of all other files.
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    config = json.dumps(_config(trained) | {"files_sha256": files}, indent=2)
    (folder / CONFIG).write_text(config + "\n")


def _config(trained: Trained) -> dict[str, Any]:
    size = trained.data.image_size
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": {
            "vlfau_jax": __version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
        },
        "aus": [
            {"number": au, "name": ACTION_UNITS[au].name, "threshold": threshold}
            for au, threshold in zip(trained.aus, trained.thresholds, strict=True)
        ],
        "image_size": size,
        "crop_rule": trained.crop_rule,
        "normalisation": {
            "mean": IMAGE_MEAN,
            "std": IMAGE_STD,
            "how": "(value / 255 - mean) / std per channel, done inside the program",
        },
        "model": dataclasses.asdict(trained.model.options),
        "vocabulary_size": trained.vocabulary.size,
        "captions": trained.captions,
        "sentence_lengths": {  # of the program's token rows: the words, and <end>
            kind: words + 1
            for kind, words in zip(("local", "global"), trained.max_words, strict=True)
        },
        "beams": trained.beams,
        "program": {
            "file": PROGRAM,
            "platforms": PLATFORMS,
            "inputs": {
                "weights": f"dict of the tensors of {WEIGHTS}, by their names",
                "image": f"uint8 RGB [b, {size}, {size}, 3], cropped by crop_rule; any b",
            },
            "outputs": outputs_of(trained.model.options),
        },
        "synthetic": trained.synthetic,
        "trained_on": {
            "dataset": trained.data.name,
            "fold": trained.data.fold,
            "folds": trained.read_as.get("folds"),
            "subjects": trained.train_subjects,
            "step": trained.step,
            "checkpoint": trained.checkpoint,
            "config_digest": trained.config_digest,
            "warm_start": trained.warm_start,
            "ema_decay": trained.ema_decay,
        },
    }


def _compare(trained: Trained, folder: Path) -> None:
    """Runs the exported program and the live model at two batch sizes; RunError if they differ."""
    weights = load_file(folder / WEIGHTS)
    program = jax_export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    live = jax.jit(trained.describe)
    rng = np.random.default_rng(0)
    for count in (1, 3):
        shape = (count, trained.data.image_size, trained.data.image_size, 3)
        images = rng.integers(0, 256, shape, np.uint8)
        expected = jax.device_get(live(trained.params, images))
        found = jax.device_get(jax.jit(program.call)(weights, images))
        for name, values in expected.items():
            if np.issubdtype(values.dtype, np.integer):
                difference, tolerance = float((values != found[name]).sum()), 0.0
            else:
                difference = float(np.abs(values - found[name]).max(initial=0.0))
                tolerance = TOLERANCE
            if not difference <= tolerance:  # true for NaN, too
                raise RunError(
                    f"the exported program's {name} differ from the live model's by "
                    f"{difference:g} on "
                    f"{count} images; nothing was exported"
                )
