"""From a workdir to a self-contained model folder, checked before it is called finished.

The folder holds all that an answer depends on: weights, program, vocabulary, crop rule, order of
the units, thresholds. Nothing in it needs this package: the program is StableHLO, the weights are
safetensors, the vocabulary is a Hugging Face tokenizer.
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
from vlfau_jax.data.crop.registry import reads_file
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder, file_digest
from vlfau_jax.inference.trained import Trained, load_trained, outputs_of
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD
from vlfau_jax.train.checkpoint import LAST

FORMAT = "vlfau_jax.model"
FORMAT_VERSION = 1
WEIGHTS, PROGRAM, CONFIG, CARD = "model.safetensors", "model.stablehlo", "config.json", "README.md"
PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-5


def flat(params: Any) -> dict[str, Any]:
    """Parameters by name, as "backbone/stage_0/...": the names in the weights file."""
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

    `checkpoint` is "last", "best" or a step. The model's sentences will be searched for by `beams`
    at once; 1 is greedy.

    What was written is loaded again and compared with the live model before the folder gets its
    name; until then it has a temporary one beside it. `overwrite` replaces an older model there.

    Raises:
        UserError: `out` exists and is not empty, `workdir` has no checkpoint, or `beams` cannot be.
        RunError: the folder does not give the live model's answers.
    """
    folder = absolute_folder("--out", out)
    there = folder.is_dir() and any(folder.iterdir())
    if there and not overwrite:
        raise UserError(f"--out={out} exists and is not empty; give --overwrite or a new folder")
    if there and not (folder / CONFIG).is_file():
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
    print(f"{out}: reloaded, same answers as the live model; {_megabytes(folder):.1f} MB")
    return folder


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def _program(trained: Trained) -> jax_export.Exported:
    (batch,) = jax_export.symbolic_shape("b")
    size = trained.data.image_size
    weights = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype)
        for name, value in flat(trained.params).items()
    }
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)

    def run(weights: Mapping[str, jax.Array], image: jax.Array) -> dict[str, jax.Array]:
        return trained.describe(unflatten_dict(weights, sep="/"), image)

    return jax_export.export(jax.jit(run), platforms=PLATFORMS)(weights, images)


def _write(trained: Trained, folder: Path) -> None:
    weights = {name: np.asarray(value) for name, value in flat(trained.params).items()}
    (folder / WEIGHTS).write_bytes(save(weights, metadata={"format": FORMAT}))
    (folder / PROGRAM).write_bytes(_program(trained).serialize())
    trained.vocabulary.save(folder)
    (folder / CARD).write_text(_card(trained))
    # Last, because it holds the digests of all the others.
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
        "sentence_lengths": {"local": trained.lengths[0], "global": trained.lengths[1]},
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
            "subjects": trained.train_subjects,
            "step": trained.step,
            "checkpoint": trained.chosen,
            "config_digest": trained.config_digest,
            "warm_start": trained.warm_start,
            "ema_decay": trained.ema_decay,
        },
    }


def _compare(trained: Trained, folder: Path) -> None:
    """Runs what was just written beside the live model, at two batch sizes; raises if they part."""
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
                apart = float((values != found[name]).sum())
            else:
                apart = float(np.abs(values - found[name]).max(initial=0.0))
            if not apart <= (0 if np.issubdtype(values.dtype, np.integer) else TOLERANCE):
                raise RunError(
                    f"the exported program's {name} differ from the live model's by {apart:g} on "
                    f"{count} images; nothing was exported"
                )


_CARD = """# VL-FAU: facial action units, explained

For a face, it gives

{gives}

{provenance}
{warning}
| unit | name | threshold |
|---|---|---|
{table}

## Use
With vlfau_jax:

    python -m vlfau_jax predict --model=FOLDER picture.jpg --out=DIR{crop_file}

Without it, in Python with jax {jax} or later, flatbuffers, safetensors{transformers} and Pillow:

    import jax, numpy as np
    from jax import export
    from PIL import Image
    from safetensors.numpy import load_file
    weights = load_file("{weights}")
    program = export.deserialize(bytearray(open("{program}", "rb").read()))
    face = Image.open("face.png").convert("RGB")  # cropped already, by config.json's rule
    images = np.asarray(face.resize(({size}, {size})))[None]  # uint8 [1, {size}, {size}, 3]
    answer = jax.jit(program.call)(weights, images)
    print(answer["au_probabilities"][0])
{reading}
`au_probabilities` are probabilities of occurrence, 0-1, in the table's order; they are not
intensities. A unit is called present above its threshold. Faces must be cropped by the rule in
{config} (`crop_rule`): other crops cost accuracy. {config} also explains every output and holds
the SHA-256 of every other file.
"""


def _gives(trained: Trained) -> str:
    """What the network of a card gives, a line each."""
    search = "" if trained.beams == 1 else f" (the best of a search with {trained.beams} beams)"
    maps = outputs_of(trained.model.options).keys() & {
        "spatial_maps",
        "local_attention",
        "global_attention",
    }
    there = {
        f"the probability of each of {len(trained.aus)} facial action units": True,
        f"a sentence about each of them{search}": "local" in trained.captions,
        f"a sentence about the whole face{search}": "global" in trained.captions,
        "maps of where it looked": maps,
    }
    return "\n".join(f"- {line}" for line, given in there.items() if given)


def _reading(trained: Trained) -> str:
    """Lines of the card's example that print a sentence, if there is one."""
    tokens = {"global": '["global_tokens"][0]', "local": '["local_tokens"][0, 0]'}
    said = [tokens[kind] for kind in tokens if kind in trained.captions]
    if not said:
        return ""
    return (
        "    from transformers import AutoTokenizer\n"
        '    words = AutoTokenizer.from_pretrained(".")\n'
        f"    print(words.decode(answer{said[0]}, skip_special_tokens=True))\n"
    )


def _card(trained: Trained) -> str:
    table = "\n".join(
        f"| AU{au:02d} | {ACTION_UNITS[au].name} | {threshold:g} |"
        for au, threshold in zip(trained.aus, trained.thresholds, strict=True)
    )
    warning = (
        "\n**Trained on synthetic (rendered) faces: it knows nothing about real ones.**\n"
        if trained.synthetic
        else ""
    )
    data = trained.data
    return _CARD.format(
        gives=_gives(trained),
        reading=_reading(trained),
        transformers=", transformers" if trained.captions else "",
        provenance=f"Trained on {'rendered faces laid out as ' if trained.synthetic else ''}"
        f"{data.name}, fold {data.fold}, {trained.step} steps ({trained.chosen}), from "
        f"{trained.beginning}.",
        warning=warning,
        table=table,
        crop_file=" --crop_file=FILE" * reads_file(trained.crop_rule["name"]),
        weights=WEIGHTS,
        program=PROGRAM,
        config=CONFIG,
        size=data.image_size,
        jax=jax.__version__,
    )
