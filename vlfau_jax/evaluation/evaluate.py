"""Evaluate a trained model on the test subjects of its fold, from a workdir to files in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.data.read.regions import FaceRegions
from vlfau_jax.data.read.statistics import unlearnable
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.distributed.agreement import open_connections
from vlfau_jax.distributed.processes import (
    check_same,
    is_first_process,
    run_on_first,
    set_status,
)
from vlfau_jax.errors import saying
from vlfau_jax.evaluation.answers import Answers, answer_fold, compile_describe, score_rows
from vlfau_jax.evaluation.checks import unseen_subjects
from vlfau_jax.evaluation.counterfactual import check_faces, measure
from vlfau_jax.evaluation.faces import DescribedFace, describe_chosen
from vlfau_jax.evaluation.groups import groups_of
from vlfau_jax.evaluation.kept_answers import NAMES, KeptAnswers, request
from vlfau_jax.evaluation.likelihood import compile_likelihood
from vlfau_jax.evaluation.predictions import write_predictions
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.evaluation.scoring import score_answers
from vlfau_jax.evaluation.screen import format_scores
from vlfau_jax.files import written_together
from vlfau_jax.inference.trained import Trained, load_trained
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.sharding.arrays import replicated
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.checkpoint import LAST
from vlfau_jax.train.metrics import METRICS_FILE, Metrics, read_metrics

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
    groups: str | Path | None = None,
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
        groups: CSV table subject,GROUP,... of the tested people, for scores by group.
        counterfactual: of how many faces to ask what the model answers when a part of them is
            hidden (`evaluation.counterfactual`); 0 for none.
        render: makes the page, such as `vlfau_jax.report.render`; None writes no report.html.

    Raises:
        UserError: no such checkpoint; impossible beams; a fold or prepared set whose people or
            crops do not fit it; a table of groups that lacks somebody; kept answers that are of
            something else; another process is evaluating there.
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
    columns = groups_of(dataset, subjects, groups)
    check_same("--groups", columns)
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
        placed = replace(trained, params=jax.device_put(trained.params, replicated(mesh)))
        describe = compile_describe(placed, mesh)
        likelihood = compile_likelihood(placed, mesh)
        answers = answer_fold(
            placed, dataset, subjects, describe, batch_size, mesh, kept, likelihood, exact
        )
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
        metrics = read_metrics(workdir / METRICS_FILE) if is_first_process() else Metrics()
        scores = score_answers(
            trained,
            dataset,
            subjects,
            answers,
            validation=_validation(placed, dataset, batch_size, mesh),
            groups=columns,
            records=metrics.records,
            counterfactual=measured,
        )
        faces = (
            describe_chosen(trained, dataset, subjects, answers, describe, batch_size, mesh)
            if render
            else []
        )

        def write() -> None:
            _write(kept.folder, dataset, scores, answers)
            if render:
                page = render(scores.to_json(), metrics.records, faces, metrics.left_out)
                (kept.folder / PAGE).write_text(page, encoding="utf-8")

        run_on_first("scores", write)
    if is_first_process():
        print(format_scores(scores))
        print(", ".join([str(workdir / SCORES), PREDICTIONS, *([PAGE] if render else [])]))
    return scores


def _validation(
    trained: Trained, dataset: Dataset, batch_size: int, mesh: Mesh
) -> ScoredFrames | None:
    """The scores of the validation subjects; None where there are none, or the set lacks them."""
    rows = dataset.rows(trained.validation_subjects)
    if not len(rows):
        return None
    captions = CaptionTables(trained.aus, trained.vocabulary, trained.descriptions)
    return score_rows(
        trained.model,
        trained.params,
        dataset,
        rows,
        captions,
        trained.data,
        trained.untaught,
        batch_size,
        mesh,
    )


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
