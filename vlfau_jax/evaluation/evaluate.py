"""Evaluate a trained model on the test subjects of its fold, from a workdir to files in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.distributed.agreement import open_connections
from vlfau_jax.distributed.processes import check_same, run_on_first, set_status
from vlfau_jax.evaluation.answers import Answers, answer_fold, compile_describe
from vlfau_jax.evaluation.checks import unseen_subjects
from vlfau_jax.evaluation.faces import DescribedFace, describe_chosen
from vlfau_jax.evaluation.predictions import write_predictions
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.evaluation.scoring import score_answers
from vlfau_jax.evaluation.screen import format_scores
from vlfau_jax.files import written_whole
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.checkpoint import LAST

# (what scores.json holds, the records of metrics.jsonl in order, the faces to show) -> report.html
Render = Callable[
    [Mapping[str, Any], Iterable[Mapping[str, Any]], Sequence[DescribedFace]],
    str,
]


def evaluate(
    workdir: str | Path,
    *,
    fold: int | None = None,
    batch_size: int = 64,
    beams: int = 1,
    checkpoint: str = LAST,
    render: Render | None = None,
) -> Scores:
    """Score a checkpoint of `workdir` on its fold's test subjects.

    Writes predictions.jsonl (see `write_predictions`), report.html and scores.json into `workdir`,
    and prints a table. Several processes share the faces; the first one writes.

    Args:
        workdir: what `train` wrote.
        fold: the fold to test; only the trained one can be, and None means it.
        batch_size: faces per forward pass, rounded up to a multiple of the devices.
        beams: width of the search for the sentences; 1 is greedy.
        checkpoint: "last", "best" (by the mean F1 of training's scores) or a step.
        render: makes the page, such as `vlfau_jax.report.render`; None writes no report.html.

    Raises:
        UserError: no such checkpoint; impossible beams; a fold or prepared set whose people or
            crops do not fit it.
    """
    workdir = Path(workdir)
    set_status(lambda: "nothing was written; start all processes again")
    trained = load_trained(workdir, beams, checkpoint)
    dataset = open_dataset(trained.data)
    shapes = {"beams": beams, "step": trained.step, "config": trained.config_digest}
    check_same("evaluate", shapes | {"batch_size": batch_size, "data": dataset.identity})
    subjects = unseen_subjects(trained, dataset, fold)
    mesh = make_mesh(MeshOptions())
    open_connections(mesh)
    describe = compile_describe(trained, mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    answers = answer_fold(trained, dataset, subjects, describe, batch_size, mesh)
    scores = score_answers(trained, dataset, subjects, answers)

    size = trained.data.image_size
    faces = (
        describe_chosen(dataset, subjects, answers, describe, size, batch_size, mesh)
        if render
        else []
    )
    run_on_first("scores", lambda: _write(workdir, dataset, scores, answers, faces, render))
    return scores


def training_metrics(workdir: Path) -> Iterator[dict[str, Any]]:
    """The records of metrics.jsonl; the last line of a killed run may be cut off."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return (json.loads(line) for line in lines if line.endswith("\n"))


def _write(
    workdir: Path,
    dataset: Dataset,
    scores: Scores,
    answers: Answers,
    faces: Sequence[DescribedFace],
    render: Render | None,
) -> None:
    values = scores.to_json()
    with written_whole(workdir / "predictions.jsonl") as partial, partial.open("w") as file:
        write_predictions(file, dataset, answers)
    if render:
        page = render(values, training_metrics(workdir), faces)
        with written_whole(workdir / "report.html") as partial:
            partial.write_text(page, encoding="utf-8")
    with written_whole(workdir / "scores.json") as partial:
        partial.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(format_scores(scores))
    written = ["predictions.jsonl", *(["report.html"] if render else [])]
    print(", ".join([str(workdir / "scores.json"), *written]))
