"""Evaluate a trained model on the test subjects of its fold, from a workdir to files in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.data.read.regions import FaceRegions
from vlfau_jax.data.read.statistics import unlearnable
from vlfau_jax.distributed.agreement import open_connections
from vlfau_jax.distributed.processes import (
    check_same,
    is_first_process,
    run_on_first,
    set_status,
)
from vlfau_jax.errors import saying
from vlfau_jax.evaluation.answers import Answers, answer_fold, compile_describe
from vlfau_jax.evaluation.checks import unseen_subjects
from vlfau_jax.evaluation.counterfactual import check_faces, measure
from vlfau_jax.evaluation.faces import DescribedFace, describe_chosen
from vlfau_jax.evaluation.kept_answers import NAMES, KeptAnswers, request
from vlfau_jax.evaluation.predictions import write_predictions
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.evaluation.scoring import score_answers
from vlfau_jax.evaluation.screen import format_scores
from vlfau_jax.files import written_together
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.checkpoint import LAST
from vlfau_jax.train.metrics import METRICS_FILE, read_metrics

SCORES, PREDICTIONS, PAGE = NAMES

# (what scores.json holds, the records of metrics.jsonl in order, the faces to show, how many lines
# of metrics.jsonl are left out) -> report.html
Render = Callable[
    [Mapping[str, Any], Sequence[Mapping[str, Any]], Sequence[DescribedFace], int],
    str,
]


def evaluate(
    workdir: str | Path,
    *,
    fold: int | None = None,
    batch_size: int = 64,
    beams: int = 1,
    checkpoint: str = LAST,
    resume: bool = False,
    render: Render | None = None,
    counterfactual: int = 0,
) -> Scores:
    """Score a checkpoint of `workdir` on its fold's test subjects.

    Writes predictions.jsonl (see `write_predictions`), report.html and scores.json into `workdir`,
    and prints a table; the three files change together. Several processes share the faces; the
    first one writes. Answers that were there when an evaluation was interrupted stay in a hidden
    folder of `workdir`.

    Args:
        workdir: what `train` wrote.
        fold: the fold to test; only the trained one can be, and None means it.
        batch_size: faces per forward pass, rounded up to a multiple of the devices.
        beams: width of the search for the sentences; 1 is greedy.
        checkpoint: "last", "best" (by the mean F1 of training's scores) or a step.
        resume: go on with such answers, which must be of the same parameters, data, beams, batch
            size and devices; without it they are removed.
        counterfactual: of how many faces to ask what the model answers when a part of them is
            hidden (`evaluation.counterfactual`); 0 for none.
        render: makes the page, such as `vlfau_jax.report.render`; None writes no report.html.

    Raises:
        UserError: no such checkpoint; impossible beams; a fold or prepared set whose people or
            crops do not fit it; kept answers that are of something else; another process is
            evaluating there.
        RunError: the model gave no usable numbers, or the machine has no more of something.
        KeyboardInterrupt: Ctrl-C; the message says what is kept.
    """
    workdir = Path(workdir)
    set_status(lambda: "nothing was written; start all processes again")
    trained = load_trained(workdir, beams, checkpoint)
    dataset = open_dataset(trained.data)
    shapes = {
        "beams": beams,
        "counterfactual": counterfactual,
        "step": trained.step,
        "config": trained.config_digest,
    }
    check_same("evaluate", shapes | {"batch_size": batch_size, "data": dataset.identity})
    subjects = unseen_subjects(trained, dataset, fold)
    if not trained.untaught:  # versions that did not record it
        rows = dataset.rows(trained.train_subjects)
        untaught = unlearnable(trained.aus, *dataset.label_counts(rows))
        trained = replace(trained, untaught=untaught)
    check_faces(counterfactual, dataset)
    run_on_first("folds", lambda: _say(dataset.fold_notes(trained.data.fold)))
    mesh = make_mesh(MeshOptions())
    open_connections(mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    exact = FaceRegions(dataset).exact
    asked = request(trained, dataset, subjects, batch_size)
    kept = KeptAnswers.of(workdir, trained, asked, maps=exact)
    frames = len(dataset.rows(subjects))
    set_status(lambda: f"{kept.text(frames)}; start all processes again")
    stack, claim = ExitStack(), _claimed(workdir, kept, resume)
    with stack, saying(lambda: kept.text(frames), workdir):
        run_on_first("claim", lambda: stack.enter_context(claim))
        describe = compile_describe(trained, mesh)
        answers = answer_fold(trained, dataset, subjects, describe, batch_size, mesh, kept, exact)
        measured = (
            measure(
                trained,
                dataset,
                subjects,
                answers,
                describe,
                faces=counterfactual,
                batch_size=batch_size,
                mesh=mesh,
            )
            if counterfactual
            else None
        )
        scores = score_answers(trained, dataset, subjects, answers, measured)
        size = trained.data.image_size
        faces = (
            describe_chosen(dataset, subjects, answers, describe, size, batch_size, mesh)
            if render
            else []
        )

        def write() -> None:
            _write(kept.folder, dataset, scores, answers)
            if render:
                metrics = read_metrics(workdir / METRICS_FILE)
                page = render(scores.to_json(), metrics.records, faces, metrics.left_out)
                (kept.folder / PAGE).write_text(page, encoding="utf-8")

        run_on_first("scores", write)
    if is_first_process():
        print(format_scores(scores))
        print(", ".join([str(workdir / SCORES), PREDICTIONS, *([PAGE] if render else [])]))
    return scores


@contextmanager
def _claimed(workdir: Path, kept: KeptAnswers, resume: bool) -> Iterator[None]:
    """Holds the place of the three files, which get their names at the end."""
    with written_together(workdir, NAMES, keep=True):
        kept.claim(resume=resume)
        try:
            yield
        except BaseException:
            kept.sweep()
            raise


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        print(note, file=sys.stderr)


def _write(folder: Path, dataset: Dataset, scores: Scores, answers: Answers) -> None:
    with (folder / PREDICTIONS).open("w", encoding="utf-8") as file:
        write_predictions(file, dataset, answers)
    text = json.dumps(scores.to_json(), indent=2, allow_nan=False)
    (folder / SCORES).write_text(text + "\n", encoding="utf-8")
