"""Export a run's network as a self-contained model folder, checked before it gets its name.

The folder holds everything that a prediction depends on: weights, program, vocabulary, crop rule,
order of the units, thresholds. Nothing in it needs this package: the program is StableHLO, the
weights are safetensors, the vocabulary is a Hugging Face tokenizer.
"""

from __future__ import annotations

import dataclasses
import json
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
from vlfau_jax.data.text.descriptions import built_in
from vlfau_jax.errors import RunError, UserError, is_exhausted
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder, created, file_digest, replaced_folder
from vlfau_jax.inference.model_card import model_card
from vlfau_jax.inference.model_folder import (
    CARD,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    PLATFORMS,
    PROGRAM,
    WEIGHTS,
    config_digest,
    foreign_entry,
    open_model_folder,
)
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.trained import Trained, load_trained
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD
from vlfau_jax.train.checkpoint import LAST
from vlfau_jax.train.workdir import CHECKPOINTS

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
    until then it has a hidden one beside it. What stood there before is removed last.

    Args:
        workdir: the run.
        out: the folder to create.
        overwrite: replace an older model there, if the folder holds nothing else.
        beams: width of the search for the model's sentences; 1 is greedy.
        checkpoint: "last", "best" or a step.

    Raises:
        UserError: `out` exists and is not empty, holds what no export wrote or is being written by
            another process; `workdir` has no checkpoint; or `beams` is out of range or would have
            no effect.
        RunError: the exported program's outputs differ from the live model's, or the disk is full.
    """
    folder = absolute_folder("--out", out)
    checkpoints = Path(workdir, CHECKPOINTS).resolve()
    if checkpoints in (folder, *folder.parents):
        raise UserError(f"--out={out} is among the run's checkpoints; name another place")

    def foreign(folder: Path) -> str | None:
        if not overwrite and any(folder.iterdir()):
            raise UserError(
                f"--out={out} exists and is not empty; give --overwrite or a new folder"
            )
        return foreign_entry(folder)

    try:
        with created("--out", folder.parent), replaced_folder(folder, foreign) as new:
            trained = load_trained(workdir, beams, checkpoint)
            _write(trained, new)
            _compare(trained, new)
            digest = open_model_folder(new).digest
            size = sum(path.stat().st_size for path in new.iterdir()) / 1e6
    except OSError as error:
        if not is_exhausted(error):
            raise
        place = error.filename or folder.parent
        raise RunError(
            f"{place}: {error.strerror}; nothing was exported, and {out} is as it was"
        ) from error
    print(f"{out}: reloaded, same outputs as the live model; {size:.1f} MB; SHA-256 {digest}")
    return folder


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
    # The config is written last because it holds the digests of all other files and its own.
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    # As read again: tuples are lists there.
    config = json.loads(json.dumps(_config(trained) | {"files_sha256": files}))
    config["config_sha256"] = config_digest(config)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _config(trained: Trained) -> dict[str, Any]:
    size = trained.data.image_size
    own = trained.descriptions != built_in("states", trained.aus)
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
        **({"descriptions": trained.descriptions.to_json()} if own else {}),
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
            "untaught": {str(au): reason for au, reason in trained.untaught.items()},
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
