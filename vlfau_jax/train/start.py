"""How a run starts: from initial parameters, or from the newest checkpoint of an earlier one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vlfau_jax import shipped
from vlfau_jax.errors import UserError
from vlfau_jax.files import file_digest
from vlfau_jax.train.experiment import Experiment
from vlfau_jax.train.other_units import arrangement
from vlfau_jax.train.provenance import Learned, check_provenance, seen_people
from vlfau_jax.train.warm_start import load_warm_start
from vlfau_jax.train.workdir import changed_keys

# What a checkpoint's record must have in common with the prepared set of the run that resumes it.
_SAME_DATA = (
    "dataset",
    "synthetic",
    "crop",
    "aus",
    "vocabulary",
    "descriptions",
    "train_subjects",
    "normalisation",
    "layout",
    "camera",
    "frame_offset",
    "folds",
    "frames",
    "set_digests",  # last: the others say what is different
)


class InitialParams(NamedTuple):
    """Parameters at step 0.

    Attributes:
        params: host arrays, all of the network's or the backbone's alone; None for random ones.
        source: the record of the file that they came from; None for random ones.
    """

    params: Any
    source: dict[str, Any] | None


def initial_params(experiment: Experiment) -> InitialParams:
    """Reads the whole warm start, or the backbone's weights alone, or nothing.

    A warm start of other units or words is arranged, see `other_units`. Raises UserError where a
    file does not fit, or the warm start has seen subjects who are kept back from training.
    """
    e, wanted = experiment, experiment.abstract.params
    if path := e.settings.model.backbone_weights:
        wanted = {"backbone": wanted["backbone"]}
        params = load_warm_start(Path(path), wanted, "model.backbone_weights")
        return InitialParams(params, {"file": path, "sha256": file_digest(Path(path))})
    if path := e.settings.train.warm_start:
        kept_back = seen_people(e.dataset, e.split.validation + e.split.test)
        file = shipped.find(path)
        here = Learned(e.captions.aus, e.vocabulary.words)
        metadata, learned = check_provenance(file, kept_back, here.words)
        source = f"train.warm_start={file}"
        how = arrangement(source, learned, e.model, e.spec, here, e.settings.seed)
        params = load_warm_start(file, wanted, arrangement=how)
        return InitialParams(params, {"file": path, "sha256": file_digest(file), **metadata})
    return InitialParams(None, None)


def check_resumable(
    workdir: Path, record: Mapping[str, Any], inference: Mapping[str, Any], experiment: Experiment
) -> None:
    """Raises UserError where a checkpoint is not of this experiment, or beyond its last step.

    The data set may move between machines (`data.data_dir`); its contents may not change.

    Args:
        workdir: of the run.
        record: the checkpoint's.
        inference: the `inference` record of the experiment.
        experiment: what is to be trained now.
    """
    if record.get("inference") is None:
        raise UserError(f"--resume: the newest checkpoint of {workdir} says nothing of its data")
    before, now = record["inference"], json.loads(json.dumps(inference))
    if before.get("config") and (changed := changed_keys(before["config"], now["config"])):
        raise UserError(
            f"--resume: the newest checkpoint of {workdir} is of another config: {changed}; take "
            "it away, or train in another folder"
        )
    for key in _SAME_DATA:
        if before.get(key, now[key]) != now[key]:  # an earlier version recorded fewer keys
            what = "other labels, pictures or people" if key == "set_digests" else key
            raise UserError(
                f"--resume: {workdir} was trained with {what} {_short(before[key])}, but "
                f"{experiment.dataset.folder} gives {_short(now[key])}"
            )
    done, steps = record["progress"]["next_batch"], experiment.settings.train.steps
    if done > steps:
        raise UserError(
            f"--resume: {workdir} has {done} steps behind it, train.steps={steps} asks "
            f"for fewer; give {done} or more, or take another folder"
        )


def changed_schedule(experiment: Experiment, before: Mapping[str, Any], done: int) -> str:
    """A warning where another number of steps changes the rest of the learning rate; else "".

    The cosine ends at train.steps unless optimizer.decay_steps is given.

    Args:
        experiment: what is to be trained now.
        before: the `inference` record of the checkpoint that is resumed.
        done: steps taken before.
    """
    options, steps = experiment.settings.optimizer, experiment.settings.train.steps
    if before["steps"] == steps or options.decay_steps or done <= options.warmup_steps:
        return ""
    return (
        f"warning: the learning rate now reaches its end at step {steps}, not {before['steps']}; "
        f"optimizer.decay_steps={before['steps']} from the start would have kept it"
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
