"""Export a run's network as a self-contained model folder, checked before it gets its name.

The folder holds everything that a prediction depends on: weights, program, vocabulary, crop rule,
order of the units, thresholds. Nothing in it needs this package: the program is StableHLO, the
weights are safetensors, the vocabulary is a Hugging Face tokenizer.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export as jax_export
from safetensors.numpy import load_file, save

from vlfau_jax import __version__
from vlfau_jax.data.text.descriptions import built_in
from vlfau_jax.errors import FileError, RunError, UserError, is_exhausted
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder, created, file_digest, replaced_folder
from vlfau_jax.inference.averaged import averaged
from vlfau_jax.inference.checked_faces import CheckedFaces, Loss, checked_faces, run
from vlfau_jax.inference.formats import (
    PROGRAM_FORMAT,
    compare,
    compare_formats,
    live_arrays,
    wanted_formats,
    write_format,
)
from vlfau_jax.inference.model_card import model_card
from vlfau_jax.inference.model_folder import (
    CARD,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    PLATFORMS,
    PREPROCESSOR,
    PROGRAM,
    WEIGHTS,
    config_digest,
    foreign_entry,
    open_model_folder,
)
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.shifts import read_shifts, shifted
from vlfau_jax.inference.trained import Trained, load_trained
from vlfau_jax.inference.weights import Precision, in_float32, stored
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD
from vlfau_jax.records import read_record
from vlfau_jax.train.checkpoint import LAST
from vlfau_jax.train.workdir import CHECKPOINTS

SCORES = "scores.json"  # of `evaluate`


def _flat(params: Any) -> dict[str, Any]:
    """Parameters by the names that they have in the weights file, "backbone/stage_0/..."."""
    return flatten_dict(params, sep="/")


class _Export:
    """What is to be exported.

    Attributes:
        unrounded: the run's network, averaged and shifted where that is asked for.
        formats: those beside the program, see `wanted_formats`.
        precision: of the weights.
        scores: what `evaluate` found for this checkpoint; None where it did not run.
    """

    def __init__(
        self,
        trained: Trained,
        formats: Sequence[str] = (),
        precision: Precision = "float32",
        scores: Scores | None = None,
    ) -> None:
        self.unrounded, self.formats, self.precision = trained, formats, precision
        self.scores = scores

    @functools.cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """The tensors of the weights file."""
        params = {name: np.asarray(value) for name, value in _flat(self.unrounded.params).items()}
        return stored(params, self.precision)

    @functools.cached_property
    def trained(self) -> Trained:
        """The network with the parameters that the weights file stands for."""
        if self.precision == "float32":
            return self.unrounded
        params = unflatten_dict(in_float32(self.weights), sep="/")
        return dataclasses.replace(self.unrounded, params=params)

    @functools.cached_property
    def faces(self) -> CheckedFaces:
        """The faces on which everything is compared."""
        return checked_faces(self.unrounded)

    @functools.cached_property
    def live(self) -> dict[str, np.ndarray]:
        """What `trained` gives for the faces."""
        return live_arrays(self.trained, self.faces.images)

    @functools.cached_property
    def loss(self) -> Loss | None:
        """What rounding the weights changes; None where nothing is rounded."""
        if self.precision == "float32":
            return None
        before = live_arrays(self.unrounded, self.faces.images)
        return Loss.measure(before, self.live, self.trained.thresholds, self.faces.source)


def export(
    workdir: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    beams: int = 1,
    checkpoint: str = LAST,
    formats: str = PROGRAM_FORMAT,
    weights: str = "float32",
    average: Sequence[str | Path] = (),
    shifts: str | Path = "",
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
        formats: keys of `formats.FORMATS`, separated by commas, beside the program.
        weights: the precision of the weights, one of `weights.PRECISIONS`.
        average: other runs of the same network; the weights are the mean of all runs' at
            `checkpoint`, see `averaged`.
        shifts: a JSON file of numbers that are added to the units' logits, see `shifts`.

    Raises:
        UserError: `out` exists and is not empty, holds what no export wrote or is being written by
            another process; `workdir` has no checkpoint; or an option is out of range, would have
            no effect or needs what is not installed.
        RunError: a format's outputs differ from the live model's, or the disk is full.
    """
    folder = absolute_folder("--out", out)
    for source in (workdir, *average):
        if Path(source, CHECKPOINTS).resolve() in (folder, *folder.parents):
            raise UserError(f"--out={out} is among the run's checkpoints; name another place")
    others = wanted_formats(formats)
    if beams > 1 and others:
        raise UserError(f"--format={formats}: {others[0]} searches greedily; leave --beams out")
    if weights not in get_args(Precision):
        raise UserError(f"--weights={weights}: give {', '.join(get_args(Precision))}")
    added = read_shifts(shifts) if shifts else {}

    def foreign(folder: Path) -> str | None:
        if not overwrite and any(folder.iterdir()):
            raise UserError(
                f"--out={out} exists and is not empty; give --overwrite or a new folder"
            )
        return foreign_entry(folder)

    try:
        with created("--out", folder.parent), replaced_folder(folder, foreign) as new:
            trained = load_trained(workdir, beams, checkpoint)
            scores = _scores(Path(workdir), trained)
            further = [
                (f"--average={one}", load_trained(one, beams, checkpoint)) for one in average
            ]
            trained = shifted(averaged(trained, further), added, f"--shifts={shifts}")
            if scores is not None and (average or added):
                print(f"{SCORES} is of the run as it was; the model's card has no scores")
                scores = None
            what = _Export(trained, others, cast(Precision, weights), scores)
            _write(what, new)
            _compare(what, new)
            digest = open_model_folder(new).digest
            size = sum(path.stat().st_size for path in new.iterdir()) / 1e6
    except OSError as error:
        if not is_exhausted(error):
            raise
        place = error.filename or folder.parent
        raise RunError(
            f"{place}: {error.strerror}; nothing was exported, and {out} is as it was"
        ) from error
    if weights != "float32":
        print(f"{weights} weights: {what.loss}")
    same = " and ".join((PROGRAM_FORMAT, *others)) if others else ""
    print(
        f"{out}: reloaded, {f'{same}: ' if same else ''}same outputs as the live model; "
        f"{size:.1f} MB; SHA-256 {digest}"
    )
    return folder


def _scores(workdir: Path, trained: Trained | None) -> Scores | None:
    """The scores in the workdir, if they are this checkpoint's, as this version reads them."""
    if trained is None or not (workdir / SCORES).is_file():
        return None
    try:
        scores = Scores.from_json(read_record(workdir / SCORES, dict[str, Any]))
    except (FileError, UserError):
        return None
    found = scores.config_digest, scores.step, scores.beams
    wanted = trained.config_digest, trained.step, trained.beams
    return scores if found == wanted else None


def _program(what: _Export) -> jax_export.Exported:
    (batch,) = jax_export.symbolic_shape("b")
    trained = what.unrounded
    size = trained.data.image_size
    weights = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in what.weights.items()
    }
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)

    def run(weights: Mapping[str, jax.Array], image: jax.Array) -> dict[str, jax.Array]:
        return trained.describe(unflatten_dict(in_float32(weights), sep="/"), image)

    return jax_export.export(jax.jit(run), platforms=PLATFORMS)(weights, images)


def _write(what: _Export, folder: Path) -> None:
    trained = what.trained
    (folder / WEIGHTS).write_bytes(save(what.weights, metadata={"format": FORMAT}))
    (folder / PROGRAM).write_bytes(_program(what).serialize())
    trained.vocabulary.save(folder)
    _write_json(folder / PREPROCESSOR, _preprocessor(trained.data.image_size))
    formats = {name: write_format(name, trained, what.weights, folder) for name in what.formats}
    card = model_card(trained, what.scores, what.formats, what.precision, what.loss)
    (folder / CARD).write_text(card)
    # The config is written last because it holds the digests of all other files and its own.
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    extra: dict[str, Any] = {"formats": formats} if formats else {}
    if what.loss is not None:
        extra["weights"] = {"dtype": what.precision, "loss": what.loss.to_json()}
    # As read again: tuples are lists there.
    config = json.loads(json.dumps(_config(trained) | extra | {"files_sha256": files}))
    config["config_sha256"] = config_digest(config)
    _write_json(folder / CONFIG, config)


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n")


def _preprocessor(size: int) -> dict[str, Any]:
    """What makes of a cropped face what the PyTorch module takes, in transformers' terms."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
    }


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
        **(
            {"shifts": {str(au): by for au, by in trained.shifts.items()}} if trained.shifts else {}
        ),
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
            **({"averaged": trained.averaged} if trained.averaged else {}),
        },
    }


def _compare(what: _Export, folder: Path) -> None:
    """Runs what is in the folder and the live model; RunError if they differ."""
    weights = load_file(folder / WEIGHTS)
    program = jax_export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    call = jax.jit(program.call)
    images = what.faces.images
    found = run(lambda batch: call(weights, batch), images)
    compare("exported program", found, what.live, what.trained, images)
    compare_formats(what.formats, what.trained, images, folder)
