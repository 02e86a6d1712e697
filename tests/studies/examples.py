"""Finished cells of a study without a run: scores and counts of drawn answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.evaluation.example_scores import example
from tests.tiny import tiny_settings
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.metrics import bootstrap
from vlfau_jax.metrics.table import mean_f1, score, units_scored
from vlfau_jax.studies.cell import Cell, Finished

AUS = (4, 12, 26)
PEOPLE = {1: ("a", "b", "c"), 2: ("d", "e"), 3: ("f", "g")}
FRAMES = 20  # of a person


def answers(fold: int, seed: int = 0, wrong: float = 0.2, silent: tuple[int, ...] = ()):
    """Whose frame, answers, labels and what is known; units of `silent` have no positives."""
    people = PEOPLE[fold]
    rng = np.random.default_rng(fold)  # labels are those of the fold, whatever the run
    labels = rng.random((len(people) * FRAMES, len(AUS))) < (0.5, 0.4, 0.3)
    labels[:, [AUS.index(au) for au in silent]] = False
    known = rng.random(labels.shape) < 0.9
    active = labels ^ (np.random.default_rng([fold, seed, 7]).random(labels.shape) < wrong)
    return np.repeat(np.arange(len(people)), FRAMES), active, labels, known


def unlearned(cell: Finished, *aus: int) -> Finished:
    """The cell without answers about `aus`, as of a run whose training faces never show them."""
    per_au = dict(cell.scores.per_au)
    of = [AUS.index(au) for au in aus]
    counts = bootstrap.Counts(*(values.copy() for values in cell.counts))
    for values in counts:
        values[:, of] = 0
    for au in aus:
        labels_alone = {name: per_au[au][name] for name in ("positives", "frames")}
        per_au[au] = dict.fromkeys(per_au[au], float("nan")) | labels_alone
    scores = replace(
        cell.scores,
        per_au=per_au,
        mean_f1=mean_f1(per_au),
        units_scored=units_scored(per_au),
        untaught=dict.fromkeys(aus, "never active"),
    )
    return replace(cell, scores=scores, counts=counts)


def finished(
    fold: int = 1,
    seed: int = 0,
    wrong: float = 0.2,
    silent: tuple[int, ...] = (),
    name: str = "full",
    code: str | None = "0.1.0 (sources abc)",
    data: str = "0" * 64,
    **changes: object,
) -> Finished:
    """A cell of a fold's people, with a rate of wrong answers; `changes` are of its scores."""
    whose, active, labels, known = answers(fold, seed, wrong, silent)
    per_au = score(AUS, active.astype(np.float32), active, labels, known)
    fields = {
        "aus": AUS,
        "per_au": per_au,
        "mean_f1": mean_f1(per_au),
        "units_scored": units_scored(per_au),
        "fold": fold,
        "test_subjects": PEOPLE[fold],
        "train_subjects": tuple(s for k, names in PEOPLE.items() if k != fold for s in names),
        "frames": len(labels),
        "per_dataset": {},
        "untaught": {},
        "thresholds": (0.5,) * len(AUS),
        "floors_per_au": {},
    }
    scores: Scores = replace(example(), **fields | changes)
    cell = Cell(Path(f"study/{name}/{fold}"), f"{name}, fold {fold}", tiny_settings())
    counts = bootstrap.count(whose, len(PEOPLE[fold]), active, labels, known)
    return Finished(cell, scores, code, {"bp4d": data}, PEOPLE[fold], counts)
