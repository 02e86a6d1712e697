"""How a model does on another domain's prepared set, of whose people it saw nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vlfau_jax.data.read.dataset import Dataset, combine
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.pipeline import eval_iterator
from vlfau_jax.data.read.prepared_set import PreparedSet, open_set
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.data.sets import SETS
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.groups import Groups, groups_of, score_groups
from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.evaluation.scoring import SYNTHETIC_WARNING
from vlfau_jax.files import created
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.metrics.bootstrap import LEVEL, RESAMPLES
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.metrics.table import constant_scores, macro
from vlfau_jax.records import parse_record, read_record
from vlfau_jax.studies.output import folder_for, json_text, write_table
from vlfau_jax.studies.parts import Part, people_of
from vlfau_jax.studies.shifts import best_shifts, shifted
from vlfau_jax.studies.transfer_record import (
    ALL_ON,
    COUNTS,
    SHARES,
    Means,
    Transfer,
)
from vlfau_jax.studies.transfer_table import csv_of, listed, table_of

NAME = "transfer"
_SUFFIXES = (".json", ".md", ".tex", ".csv", ".html")


@dataclass(frozen=True)
class Target:
    """What a model is scored on.

    Attributes:
        name: of the set; "" for the only one in the folder.
        variant: which of its crops; "" for the only one.
        part: which of its people.
    """

    name: str = ""
    variant: str = ""
    part: Part = "all"


def transfer(
    model: str | Path,
    data_dir: str | Path,
    target: Target | None = None,
    *,
    shifts: str | Path | None = None,
    groups: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    batch_size: int = 32,
    crop_file: str = "",
    render: Callable[[Transfer], str] | None = None,
) -> Transfer:
    """Scores an exported model on a part of a prepared set, and prints and writes the table.

    Args:
        model: a folder that `export` wrote.
        data_dir: the folder of prepared sets.
        target: which of its sets and people; None for all people of its only set.
        shifts: a transfer.json, whose shifts are added to the units' logits.
        groups: CSV table subject,GROUP,... of the scored people, for scores by group.
        out: folder for transfer.json, .md, .tex, .csv and .html; None to print alone.
        overwrite: replace those that are there.
        batch_size: faces in each run of the program.
        crop_file: the model or table that the model's crop rule reads.
        render: makes the page; None for none.

    Raises:
        UserError: no model, no such set, or faces that were cropped by another rule; no unit that
            both have; nobody in the part; shifts of another model; a table of groups that lacks
            somebody; files in `out`.
    """
    target, folder = target or Target(), _check_out(out, overwrite)
    given = read_record(shifts, Transfer) if shifts else None
    opened = _open(Path(data_dir), target)
    loaded = ExportedModel(model, crop_file, batch_size)
    _check_crop(opened, loaded)
    if given and given.model.digest != loaded.digest:
        raise UserError(
            f"--shifts={shifts}: chosen for the model {given.model.digest[:12]}, not for "
            f"{loaded.digest[:12]}, which --model={model} is; let `transfer` choose them again"
        )
    dataset, options = _shared(opened, loaded)
    people = people_of(dataset.subjects, target.part)
    rows = dataset.rows(people)
    if not len(rows):
        raise UserError(
            f"--part={target.part}: {opened.folder} has no frame of such people, it has "
            f"{len(dataset.subjects)} subjects; give --part=all"
        )
    columns = groups_of(dataset, _scored_people(dataset, rows), groups)
    scored = score_frames(loaded, dataset, rows, options)
    record = summarise(loaded, dataset, options, target.part, rows, scored, given, columns)
    table = table_of(record)
    if folder is None:
        print(table.text())
        return record
    pages = {".html": render(record)} if render else {}
    with created("--out", folder):
        write_table(folder, NAME, record.model_dump(mode="json"), table, csv_of(record), pages)
    return record


def _check_out(out: str | Path | None, overwrite: bool) -> Path | None:
    if out is None:
        if overwrite:
            raise UserError("--overwrite: without --out nothing is written; give both")
        return None
    return folder_for(out, NAME, _SUFFIXES, overwrite)


def _open(data_dir: Path, target: Target) -> PreparedSet:
    names = [target.name] if target.name else [n for n in SETS if (data_dir / n).is_dir()]
    if not names:
        raise UserError(
            f"--data_dir={data_dir} holds no prepared set; give the folder that `prepare` wrote to"
        )
    if len(names) > 1:
        raise UserError(f"--data_dir={data_dir} holds {' and '.join(names)}; give --dataset")
    return open_set(names[0], data_dir, target.variant)


def _check_crop(opened: PreparedSet, model: ExportedModel) -> None:
    """Crops of another size are resized; those of another rule are other pictures."""
    theirs, ours = opened.crop, model.crop_rule.describe()
    if any(theirs[key] != ours[key] for key in ("name", "version", "parameters")):
        raise UserError(
            f"{opened.folder}: faces cropped by {theirs['name']} version {theirs['version']} "
            f"({theirs['digest']}), but the model was trained on {ours['name']} version "
            f"{ours['version']} ({ours['digest']}); prepare the set with that rule"
        )


def _shared(opened: PreparedSet, model: ExportedModel) -> tuple[Dataset, DataOptions]:
    """The set with the units that the model has, too, and of which a label is known."""
    options = DataOptions(
        name=opened.name, data_dir=str(opened.folder.parents[2]), image_size=model.image_size
    )
    coded = _coded(opened, options)
    shared = tuple(au for au in coded if au in model.aus)
    if not shared:
        raise UserError(
            f"no action unit is common to model and set (model: {listed(model.aus)}; "
            f"{opened.folder}: {listed(coded)})"
        )
    options = replace(options, aus=shared)
    return combine((opened,), options), options


def _coded(opened: PreparedSet, options: DataOptions) -> tuple[int, ...]:
    known = opened.decide(options.threshold)[1].any(0)
    return tuple(au for au, any_known in zip(opened.aus, known, strict=True) if any_known)


def score_frames(
    model: ExportedModel, dataset: Dataset, rows: np.ndarray, options: DataOptions
) -> ScoredFrames:
    """What the model says of some frames beside their labels, of the units of the set.

    Args:
        model: the model; its units include those of the set.
        dataset: the prepared set.
        rows: int [m], the frames, see `Dataset.rows`.
        options: how faces are read.

    Raises:
        RunError: the model gives numbers that are no answer.
        DataError: a picture of the set is damaged.
    """
    # The pipeline makes true sentences, too, for which it wants the texts.
    vocabulary = Vocabulary.build(model.descriptions)
    captions = CaptionTables(dataset.aus, vocabulary, model.descriptions)
    columns = [model.aus.index(au) for au in dataset.aus]
    found, active = [], []
    batches = eval_iterator(dataset, rows, captions, options, batch_size=model.batch_size)
    with closing(batches), tqdm(total=len(rows), desc=NAME, unit="face") as bar:
        for batch in batches:
            predictions, _ = model.describe_units(batch["image"][batch["valid"]])
            found += [one.probabilities[columns] for one in predictions]
            active += [one.active[columns] for one in predictions]
            bar.update(len(predictions))
    return ScoredFrames(
        dataset.aus,
        np.stack(found),
        np.stack(active),
        dataset.labels.au[rows],
        dataset.labels.known[rows],
        tuple(au for au in dataset.aus if au in model.untaught),
    )


def summarise(
    model: ExportedModel,
    dataset: Dataset,
    options: DataOptions,
    part: Part,
    rows: np.ndarray,
    scored: ScoredFrames,
    given: Transfer | None = None,
    groups: Groups | None = None,
) -> Transfer:
    """What transfer.json holds.

    Args:
        model: the model.
        dataset: the prepared set.
        options: how it was read.
        part: of the set's people.
        rows: the frames that were scored.
        scored: what `score_frames` gave of them.
        given: the record whose shifts are applied; None for none.
        groups: see `groups_of`; None for none.
    """
    (opened,) = dataset.sets
    of_units = dict(zip(model.aus, model.thresholds, strict=True))
    thresholds = [of_units[au] for au in scored.aus]
    subjects = dataset.labels.subject[rows]
    shifts = {au: unit.shift for au, unit in given.per_au.items()} if given else {}
    applied = shifted(scored, shifts, thresholds) if given else None
    per_au = _by_unit(scored, thresholds)
    if applied:
        for au, unit in per_au.items():
            unit["shift_applied"] = shifts.get(au, 0.0)
            unit["f1_shifted"] = applied.per_au[au]["f1"]
    intervals = {
        "f1": _interval(scored, subjects),
        "f1_shifted": _interval(applied, subjects) if applied else None,
    }
    read = protocol(dataset, options)
    trained_on = str(model.trained_on.get("dataset", ""))
    people = _scored_people(dataset, rows)
    synthetic = dataset.synthetic or model.synthetic
    result = {
        "model": {
            "digest": model.digest,
            "image_size": model.image_size,
            "trained_on": trained_on,
            "synthetic": model.synthetic,
            "thresholds": of_units,
            "untaught": model.untaught,
        },
        "target": {
            "name": dataset.name,
            "digest": opened.digest,
            "synthetic": opened.synthetic,
            "crop_size": opened.crop["size"],
            "label_rule": read["label_rule"],
            "excluded_stretches": read["excluded_stretches"],
        },
        "part": part,
        "subjects": people,
        "frames": len(rows),
        "per_au": per_au,
        "mean": {name: _mean(per_au, name) for name in Means.model_fields},
        "intervals": intervals | {"level": LEVEL, "resamples": RESAMPLES},
        "groups": _by_group(groups or {}, scored, applied, subjects, dataset.subjects),
        "only_model": [au for au in model.aus if au not in scored.aus],
        "only_set": [au for au in _coded(opened, options) if au not in scored.aus],
        "shifts": _given_shifts(given, scored.aus) if given else None,
        "same_names": _same_names(model, dataset.name, people),
        "synthetic": synthetic,
        "note": SYNTHETIC_WARNING if synthetic else "",
    }
    return parse_record(json_text(result), Transfer, f"{NAME}.json")


def _by_unit(scored: ScoredFrames, thresholds: Sequence[float]) -> dict[int, dict[str, Any]]:
    """Scores by unit, as transfer.json holds them, without shifts that are given."""
    own = best_shifts(scored, thresholds)
    oracle = shifted(scored, own, thresholds)
    floor = _all_on(scored)
    return {
        au: {name: unit[name] for name in (*SHARES, *COUNTS)}
        | {
            ALL_ON.name: floor[au],
            "shift": own[au],
            "f1_oracle": oracle.per_au[au]["f1"],
            "shift_applied": None,
            "f1_shifted": None,
        }
        for au, unit in scored.per_au.items()
    }


def _scored_people(dataset: Dataset, rows: np.ndarray) -> list[str]:
    """Whose frames the rows are."""
    return [dataset.subjects[k] for k in np.unique(dataset.labels.subject[rows])]


def _by_group(
    groups: Groups,
    scored: ScoredFrames,
    applied: ScoredFrames | None,
    subjects: np.ndarray,
    names: Sequence[str],
) -> dict[str, Any]:
    """Scores by group, as transfer.json holds them; `applied` are the frames with shifts given."""
    shifted_too = score_groups(groups, applied, subjects, names) if applied else {}
    found: dict[str, Any] = {}
    for column, record in score_groups(groups, scored, subjects, names).items():
        found[column] = {"aus": record["aus"], "auc_units": record["units"]["auc"], "groups": {}}
        for name, one in record["groups"].items():
            moved = shifted_too[column]["groups"][name] if applied else None
            found[column]["groups"][name] = {
                "subjects": one["subjects"],
                "frames": one["frames"],
                "auc": one["mean"]["auc"],
                "f1": one["mean"]["f1"],
                "f1_interval": one["mean_f1_interval"],
                "f1_shifted": moved["mean"]["f1"] if moved else None,
            }
    return found


def _all_on(scored: ScoredFrames) -> dict[int, float]:
    """F1 of the answer that every unit is always on, by unit."""
    on = ALL_ON.states(np.ones(len(scored.aus), bool))
    units = constant_scores(scored.aus, on, scored.labels, scored.known, scored.untaught)
    return {au: unit["f1"] for au, unit in units.items()}


def _mean(per_au: Mapping[int, Mapping[str, Any]], name: str) -> float | None:
    if any(unit[name] is None for unit in per_au.values()):  # no shifts are given
        return None
    return macro(per_au, name)


def _interval(scored: ScoredFrames, subjects: np.ndarray) -> Any:
    """The interval of the mean F1, low and high; None where it is undefined."""
    return to_json(scored.intervals(subjects)["macro"]["f1"])


def _given_shifts(given: Transfer, aus: Sequence[int]) -> dict[str, Any]:
    return {
        "set_name": given.target.name,
        "set_digest": given.target.digest,
        "part": given.part,
        "subjects": given.subjects,
        "lacking": [au for au in aus if au not in given.per_au],
    }


def _same_names(model: ExportedModel, name: str, people: Sequence[str]) -> list[str]:
    """Of `people` those who have a name of the training people, of a set of the same name."""
    if name not in str(model.trained_on.get("dataset", "")).split("+"):
        return []
    trained = set(map(str, model.trained_on.get("subjects", ())))
    return [one for one in people if one in trained]
