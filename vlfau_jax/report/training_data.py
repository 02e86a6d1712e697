"""What an experiment's network really sees: faces with labels and captions, rates, co-occurrence.

Nothing is trained: the data are opened and drawn from as `train` would, with the same seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlfau_jax.data.read.batch import Batch
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.pipeline import train_iterator
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.data.read.sampling import row_weights
from vlfau_jax.data.read.statistics import LabelCounts, count, phi, ratio
from vlfau_jax.errors import UserError
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder, written_whole
from vlfau_jax.report.canvas import Heading
from vlfau_jax.report.contact_sheet import LEGEND, Shown, contact_sheet
from vlfau_jax.report.data_page import people, render_data
from vlfau_jax.report.label_pictures import (
    Person,
    cooccurrence_picture,
    label_picture,
    percent,
    signed,
    strongest,
    unit_name,
)
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import Experiment, Settings, build_experiment

FACES, LABELS, COOCCURRENCE = "faces.png", "labels.png", "cooccurrence.png"
RECORD, PAGE = "labels.json", "index.html"
WARNING = (
    "SYNTHETIC FACES: rendered, not photographed. Nothing here says anything about BP4D or DISFA."
)
MOST_FACES = 400
PAIRS_TOLD = 5
NO_SET = "no set"  # of subjects whom the fold neither trains on nor tests


def inspect_data(
    settings: Settings, out: str | Path, *, faces: int = 12, overwrite: bool = False
) -> dict[str, Any]:
    """Draws what `train` would see and counts its labels; prints a table.

    Writes faces.png, labels.png, cooccurrence.png, labels.json and index.html into `out`, and
    returns what labels.json holds.

    Args:
        settings: the experiment. Its mesh is not read: the stream is the same on any.
        out: the folder.
        faces: how many of the first training faces to show, 1 to 400.
        overwrite: replace these files where they exist.

    Raises:
        UserError: an experiment that `train` would refuse, `faces` out of range, files in the way.
    """
    if not 1 <= faces <= MOST_FACES:
        raise UserError(f"--faces={faces}: give 1 to {MOST_FACES}")
    folder = absolute_folder("--out", out)
    names = (FACES, LABELS, COOCCURRENCE, RECORD, PAGE)
    there = [str(folder / name) for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{' and '.join(there)} exist; give --overwrite to replace them")
    experiment = build_experiment(replace(settings, mesh=MeshOptions(data=1)))
    seen = _first_faces(experiment, faces)
    record = _record(experiment)
    _write(experiment, seen, record, folder)
    print(table(record))
    print(f"{folder / PAGE}: open it to see {FACES}, {LABELS} and {COOCCURRENCE}")
    return record


def _first_faces(experiment: Experiment, number: int) -> list[Shown]:
    """The first faces of the stream that `train` reads, from its first batches."""
    e = experiment
    batches = train_iterator(
        e.dataset,
        e.dataset.training_rows(e.split.train),
        e.captions,
        replace(e.settings.data, workers=0),  # the stream is the same for any number
        batch_size=e.settings.train.batch_size,
        seed=e.settings.seed,
    )
    seen: list[Shown] = []
    with closing(batches):
        while len(seen) < number:
            batch = next(batches)
            rows = range(min(len(batch["image"]), number - len(seen)))
            seen += [_shown(experiment, batch, row) for row in rows]
    return seen


def _shown(experiment: Experiment, batch: Batch, row: int) -> Shown:
    subject, task, frame = (int(k) for k in batch["key"][row])
    decode = experiment.vocabulary.decode
    return Shown(
        title=f"{experiment.dataset.subjects[subject]}, task {task}, frame {frame}",
        image=batch["image"][row],
        labels=np.where(batch["au_known"][row], batch["au"][row], -1).astype(np.int8),
        sentence=decode(batch["global_tokens"][row]),
        sentences=tuple(decode(tokens) for tokens in batch["local_tokens"][row]),
    )


def _sides(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """The sets that there are and their subjects; training always is."""
    split = experiment.split
    sides = {"training": split.train, "validation": split.validation, "test": split.test}
    return {name: subjects for name, subjects in sides.items() if subjects or name == "training"}


def _count(experiment: Experiment, subjects: Sequence[str]) -> LabelCounts:
    labels, rows = experiment.dataset.labels, experiment.dataset.rows(subjects)
    return count(labels.au[rows], labels.known[rows])


def _counts(experiment: Experiment) -> dict[str, LabelCounts]:
    return {name: _count(experiment, people) for name, people in _sides(experiment).items()}


def _warnings(aus: Sequence[int], sets: Mapping[str, LabelCounts]) -> list[str]:
    """What cannot be learned or scored, one line for each set and reason."""
    found = []
    for name, counts in sets.items():
        for reason, which in (
            ("never known", counts.known == 0),
            ("never active", (counts.known > 0) & (counts.active == 0)),
            ("always active", (counts.known > 0) & (counts.active == counts.known)),
        ):
            units = ", ".join(unit_name(au) for au, hit in zip(aus, which, strict=True) if hit)
            if units:
                found.append(f"{reason} in {name}: {units}")
    return found


def _unspoken(experiment: Experiment) -> list[str]:
    """Training faces that teach less than they seem to, one line for each reason."""
    e = experiment
    found = []
    rows = e.dataset.training_rows(e.split.train)
    silent = len(e.dataset.rows(e.split.train)) - len(rows)
    if silent:
        found.append(f"no known label of these units in {silent:,} training faces: left out")
    if e.global_sentences < len(rows) / 2:
        found.append(
            f"a sentence about the face in {e.global_sentences:,} of {len(rows):,} training faces "
            "alone: some unit is unknown in the others; choose data.aus that are known together"
        )
    return found


def _people(experiment: Experiment) -> list[Person]:
    """Everybody in the data, set by set."""
    dataset, sides = experiment.dataset, _sides(experiment)
    placed = {subject for subjects in sides.values() for subject in subjects}
    rest = tuple(subject for subject in dataset.subjects if subject not in placed)
    return [
        Person(subject, name, _count(experiment, [subject]))
        for name, subjects in (*sides.items(), (NO_SET, rest))
        for subject in subjects
    ]


def _drawn_rates(experiment: Experiment) -> dict[str, float | None] | None:
    """Occurrence rates in the training stream where draws are weighted; else None."""
    dataset = experiment.dataset
    rows = dataset.training_rows(experiment.split.train)
    names = [one.name for one in dataset.sets]
    weights = row_weights(dataset.labels, rows, experiment.settings.data, names)
    if weights is None:
        return None
    rates = ratio(weights @ dataset.labels.au[rows], weights @ dataset.labels.known[rows])
    return {str(au): _number(rate) for au, rate in zip(dataset.aus, rates, strict=True)}


def _record(experiment: Experiment) -> dict[str, Any]:
    """What labels.json holds; undefined numbers are None (null)."""
    dataset, settings = experiment.dataset, experiment.settings
    aus, labels, sides = dataset.aus, dataset.labels, _sides(experiment)
    used = dataset.rows([subject for subjects in sides.values() for subject in subjects])
    together = phi(labels.au[used], labels.known[used])
    left_out = np.bincount(labels.subject[~dataset.kept], minlength=len(dataset.subjects))
    counts = _counts(experiment)
    return {
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "note": WARNING if dataset.synthetic else "",
        "warnings": _warnings(aus, counts) + _unspoken(experiment),
        "aus": list(aus),
        "names": {str(au): ACTION_UNITS[au].name for au in aus},
        "sets": {
            name: {"subjects": list(subjects)} | _counted(aus, counts[name])
            for name, subjects in sides.items()
        },
        "subjects": {
            person.name: {"set": person.part} | _counted(aus, person.counts)
            for person in _people(experiment)
        },
        "phi": [[_number(value) for value in row] for row in together],
        "phi_frames": len(used),
        "drawn_rates": _drawn_rates(experiment),
        "class_weights": {
            str(au): float(weight) for au, weight in zip(aus, experiment.class_weights, strict=True)
        },
        "excluded_frames": {
            subject: int(frames)
            for subject, frames in zip(dataset.subjects, left_out, strict=True)
            if frames
        },
        "frames_by_dataset": {
            one.name: int((labels.part[used] == part).sum())
            for part, one in enumerate(dataset.sets)
        },
        "seed": settings.seed,
        "options": asdict(settings.data),
        **protocol(dataset, settings.data),
    }


def _counted(aus: tuple[int, ...], counts: LabelCounts) -> dict[str, Any]:
    """Counts as JSON can hold them."""
    return {
        "frames": counts.frames,
        "mean_active": _number(counts.mean_active),
        "active_units": {str(k): int(frames) for k, frames in enumerate(counts.together)},
        "per_au": {
            str(au): {
                "rate": _number(rate),
                "active": int(active),
                "inactive": int(known - active),
                "unknown": int(counts.frames - known),
            }
            for au, rate, active, known in zip(
                aus, counts.rates, counts.active, counts.known, strict=True
            )
        },
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _write(
    experiment: Experiment, seen: list[Shown], record: Mapping[str, Any], folder: Path
) -> None:
    """The five files, each whole or not at all; the page last."""
    dataset, aus, note = experiment.dataset, experiment.dataset.aus, record["note"]
    about = _about(record)
    together = np.array(record["phi"], np.float64)
    heads = {
        FACES: Heading(
            f"What the network sees: {dataset.name}", f"{_augmentation(experiment)} {LEGEND}", note
        ),
        LABELS: Heading(f"Labels: {dataset.name}", about, note),
        COOCCURRENCE: Heading(
            f"Co-occurrence: {dataset.name}",
            f"Over the {record['phi_frames']:,} frames of all sets. {about}",
            note,
        ),
    }
    pictures = {
        FACES: contact_sheet(seen, aus, heads[FACES]),
        LABELS: label_picture(aus, _counts(experiment), _people(experiment), heads[LABELS]),
        COOCCURRENCE: cooccurrence_picture(together, aus, heads[COOCCURRENCE]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        with written_whole(folder / name) as partial:
            picture.save(partial, "PNG")
    with written_whole(folder / RECORD) as partial:
        partial.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    page = render_data(
        Heading(f"What the network sees: {dataset.name}", about, note),
        record,
        [("Faces", FACES), ("Labels", LABELS), ("Co-occurrence", COOCCURRENCE)],
    )
    with written_whole(folder / PAGE) as partial:
        partial.write_text(page, encoding="utf-8")


def _augmentation(experiment: Experiment) -> str:
    o, seed = experiment.settings.data, experiment.settings.seed
    return (
        f"The first faces that training with seed {seed} gets, in order, at {o.image_size} px: "
        f"crops of at least {o.min_area:.0%} of the face, {'' if o.flip else 'not '}mirrored at "
        f"random, colours changed by up to {o.jitter:.0%}, a rectangle erased in {o.erasing:.0%}"
        f"{_balance(o)}."
    )


def _balance(options: DataOptions) -> str:
    by = [name for name in ("classes", "subjects") if getattr(options, f"balance_{name}")]
    told = f"; drawn evenly by {' and '.join(by)}" if by else ""
    shares = ":".join(f"{share:g}" for share in options.mixture_weights)
    return told + (f"; sets drawn {shares}" if shares else "")


def _about(record: Mapping[str, Any]) -> str:
    """Where the labels are from and how they were read, in words."""
    rule = record["crop_rule"]
    frames = ", ".join(
        f"{name} {part['frames']:,} frames of {people(part['subjects'])}"
        for name, part in record["sets"].items()
    )
    return (
        f"Fold {record['options']['fold']}: {frames}. Labels: {_told(record['label_rule'])}. "
        f"Excluded stretches: {_told(record['excluded_stretches'])}. Crop rule {rule['name']} "
        f"({rule['digest']}), {rule['size']} px."
    )


def _told(field: str | Mapping[str, str]) -> str:
    """A field of the protocol in words; of a mixture, set by set."""
    if isinstance(field, str):
        return field
    return "; ".join(f"{name}: {said}" for name, said in field.items())


def table(record: Mapping[str, Any]) -> str:
    """The rates for the screen: a line per unit, a column per set, then the strongest pairs."""
    drawn = record["drawn_rates"]
    heads = [f"{name:>22}" for name in record["sets"]] + [f"{'as drawn':>10}"] * bool(drawn)
    lines = [f"{'unit':27}{''.join(heads)}{'weight':>9}"]
    for au in record["aus"]:
        line = f"{unit_name(au):27}"
        for part in record["sets"].values():
            unit = part["per_au"][str(au)]
            line += f"{percent(unit['rate']):>10}{unit['active']:>12,}"
        line += f"{percent(drawn[str(au)]):>10}" if drawn else ""
        lines.append(f"{line}{record['class_weights'][str(au)]:>9.3f}")
    sizes = "".join(f"{part['frames']:>22,}" for part in record["sets"].values())
    together = np.array(record["phi"], np.float64)
    pairs = ", ".join(
        f"AU{one:02d}-AU{other:02d} {signed(value)}"
        for one, other, value in strongest(together, record["aus"], PAIRS_TOLD)
    )
    lines += [f"{'frames':27}{sizes}", "", f"phi: {pairs or 'undefined'}", _about(record)]
    lines += [f"warning: {warning}" for warning in record["warnings"]]
    return "\n".join([*lines, record["note"]]).rstrip()
