"""Scores a trained model on the people it has never seen: numbers, sentences, a page to look at."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from vlfau_jax.data.raw.frames import decode_image
from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.data.read.pipeline import eval_iterator
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.descriptions import global_description
from vlfau_jax.distributed.agreement import open_connections
from vlfau_jax.distributed.processes import check_same, is_first_process, run_on_first, set_status
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.faces import DescribedFace, choose
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import written_whole
from vlfau_jax.inference.prediction import DECODED_ARRAYS, Prediction, PredictionDecoder
from vlfau_jax.inference.trained import THRESHOLD, Trained, load_trained
from vlfau_jax.metrics.au import constant_floor, mean_f1, more_frequent_state, score
from vlfau_jax.metrics.statements import explain
from vlfau_jax.model.vlfau import VLFAU, normalise
from vlfau_jax.report import render
from vlfau_jax.sharding.arrays import batch_sharding, fetch, local_rows, replicated, shard_batch
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.checkpoint import LAST
from vlfau_jax.train.experiment import Experiment

FACES_SHOWN = 10
WARNING = (
    "SYNTHETIC FACES: rendered, not photographed. These scores say nothing about BP4D or DISFA."
)


@dataclass
class Answers:
    """Every test frame's truth and answer, in the order of the set; m frames, n units."""

    keys: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    predictions: list[Prediction]

    @property
    def probabilities(self) -> np.ndarray:
        """Scores 0-1, float32 [m, n]."""
        return np.stack([prediction.probabilities for prediction in self.predictions])

    @property
    def active(self) -> np.ndarray:
        """Whether each probability exceeds its threshold, bool [m, n]."""
        return np.stack([prediction.active for prediction in self.predictions])


def evaluate(
    workdir: str | Path,
    *,
    fold: int | None = None,
    batch_size: int = 64,
    beams: int = 1,
    checkpoint: str = LAST,
) -> dict[str, Any]:
    """Scores a checkpoint of `workdir` on its fold's test subjects.

    Writes scores.json, predictions.jsonl (a line per face: who, the labels, and what
    `Prediction.to_json` gives) and report.html into `workdir`, prints a table, and returns what
    scores.json holds. Several processes share the faces; the first one writes.

    Args:
        workdir: what `train` wrote.
        fold: the fold to test; only the trained one can be, and None means it.
        batch_size: faces a pass, rounded up to a multiple of the devices.
        beams: width of the search for the sentences; 1 is greedy.
        checkpoint: "last", "best" (by the mean F1 of training's scores) or a step.

    Raises:
        UserError: no such checkpoint; beams that cannot be; a fold or prepared set whose people or
            crops do not fit it.
    """
    workdir = Path(workdir)
    set_status(lambda: "nothing was written; start all processes again")
    trained = load_trained(workdir, beams, checkpoint)
    dataset = open_dataset(trained.data)
    shapes = {"beams": beams, "step": trained.step, "config": trained.config_digest}
    check_same("evaluate", shapes | {"batch_size": batch_size, "data": dataset.identity})
    subjects = _test_subjects(trained, dataset, fold)
    mesh = make_mesh(MeshOptions())
    open_connections(mesh)
    describe = _describer(trained, mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    answers = _answer(trained, dataset, subjects, describe, batch_size, mesh)
    scores = _scores(trained, dataset, subjects, answers)

    faces = _faces(trained, dataset, subjects, describe, answers, batch_size, mesh)
    run_on_first("scores", lambda: _write(workdir, dataset, scores, answers, faces))
    return scores


def _write(
    workdir: Path,
    dataset: Dataset,
    scores: Mapping[str, Any],
    answers: Answers,
    faces: Sequence[DescribedFace],
) -> None:
    with written_whole(workdir / "predictions.jsonl") as partial, partial.open("w") as file:
        _write_lines(file, dataset, answers)
    page = render(scores, _metrics(workdir), faces)
    with written_whole(workdir / "report.html") as partial:
        partial.write_text(page, encoding="utf-8")
    with written_whole(workdir / "scores.json") as partial:
        partial.write_text(json.dumps(scores, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(table(scores))
    print(f"{workdir / 'scores.json'}, predictions.jsonl, report.html")


def _test_subjects(trained: Trained, dataset: Dataset, fold: int | None) -> tuple[str, ...]:
    """The people to test, once it is certain that set and model fit and none was trained on."""
    if fold is not None and fold != trained.data.fold:
        raise UserError(
            f"--fold={fold}: only the people whom fold {trained.data.fold} tests are new to this "
            f"model; evaluate fold {trained.data.fold} or train another model"
        )
    if dataset.crop["digest"] != trained.crop_rule["digest"]:
        raise UserError(
            f"{dataset.folder}: faces cropped by {dataset.crop['name']} ({dataset.crop['digest']}),"
            f" but the model was trained on {trained.crop_rule['name']} "
            f"({trained.crop_rule['digest']}); prepare the set with that rule"
        )
    here = protocol(dataset, trained.data)
    for key, value in trained.read_as.items():
        if here[key] != value:
            raise UserError(
                f"{dataset.folder}: prepared with {key} {here[key]}, but the model was trained on "
                f"{value}; name the set of training by data.variant, or prepare it again"
            )
    if dataset.aus != trained.aus:
        raise UserError(
            f"{dataset.folder}: its units are in the order {dataset.aus}, but the model's in "
            f"{trained.aus}; prepare the set again"
        )
    test = dataset.split(trained.data.fold).test
    if not test:
        raise UserError(
            f"data.fold={trained.data.fold} trains on every subject and tests none; evaluate a "
            "model of fold 1, 2 or 3"
        )
    seen = sorted(set(test) & set(trained.train_subjects))
    if seen:
        raise UserError(
            f"{dataset.folder}: the model was trained on {', '.join(seen)}, who would be tested"
        )
    if not len(dataset.rows(test)):
        raise UserError(
            f"{dataset.folder}: every frame of {', '.join(test)} is in an excluded stretch; set "
            "data.exclude_stretches=False in training, or prepare more of their frames"
        )
    return test


def score_during_training(experiment: Experiment, params: Any) -> dict[str, float]:
    """Mean F1 on people kept back while training goes on (an `Evaluator` of train/loop.py).

    `train.keep_best` and --checkpoint=best choose by it: choose nothing by people whom you test.
    """
    size = experiment.settings.train.batch_size
    batches = eval_iterator(
        experiment.dataset,
        experiment.dataset.rows(getattr(experiment.split, experiment.scored)),
        experiment.captions,
        experiment.settings.data,
        batch_size=size,
        own=local_rows(experiment.mesh, size),
    )
    rows = []
    for batch in batches:
        split = shard_batch(batch, experiment.mesh, size)
        answer = _probabilities(experiment.model, params, split["image"])
        told = fetch((answer, split["au"], split["au_known"], split["valid"]))
        rows.append([values[told[-1]] for values in told[:-1]])
    batches.close()
    probabilities, labels, known = (np.concatenate(values) for values in zip(*rows, strict=True))
    scores = score(experiment.captions.aus, probabilities, labels, known, THRESHOLD)
    return {"mean_f1": mean_f1(scores)}


@partial(jax.jit, static_argnames="model")
def _probabilities(model: VLFAU, params: Any, image: jax.Array) -> jax.Array:
    logits = model.apply({"params": params}, normalise(image), method=VLFAU.score)
    return jax.nn.sigmoid(logits)


Describe = Callable[[jax.Array], dict[str, jax.Array]]


def _describer(trained: Trained, mesh: Mesh) -> Describe:
    """uint8 faces [b, h, w, 3] -> the model's arrays, b split over all devices."""
    params = jax.device_put(trained.params, replicated(mesh))
    split = batch_sharding(mesh)
    run = jax.jit(trained.describe, in_shardings=(replicated(mesh), split), out_shardings=split)
    return lambda image: run(params, image)


def _answer(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    describe: Describe,
    batch_size: int,
    mesh: Mesh,
) -> Answers:
    captions = CaptionTables(trained.aus, trained.vocabulary)
    reader = PredictionDecoder(trained.aus, trained.thresholds, trained.vocabulary)
    examples = dataset.rows(subjects)
    own = local_rows(mesh, batch_size)
    batches = eval_iterator(
        dataset, examples, captions, trained.data, batch_size=batch_size, own=own
    )
    kept: dict[str, list[np.ndarray]] = {"key": [], "au": [], "au_known": []}
    predictions: list[Prediction] = []
    with tqdm(
        total=len(examples), desc="evaluate", unit="face", disable=not is_first_process()
    ) as bar:
        for batch in batches:
            split = shard_batch(batch, mesh, batch_size)
            answer = describe(split["image"])
            read = {name: answer[name] for name in DECODED_ARRAYS if name in answer}
            read, told = fetch((read, {name: split[name] for name in ("valid", *kept)}))
            valid = told.pop("valid")
            predictions += reader.decode({name: values[valid] for name, values in read.items()})
            for name, values in kept.items():
                values.append(told[name][valid])
            bar.update(int(valid.sum()))
    batches.close()
    keys, labels, known = (np.concatenate(values) for values in kept.values())
    return Answers(keys, labels, known, predictions)


def _scores(
    trained: Trained, dataset: Dataset, subjects: Sequence[str], answers: Answers
) -> dict[str, Any]:
    """What scores.json holds; undefined numbers are None (null)."""
    aus, labels, known = trained.aus, answers.labels, answers.known
    seen = dataset.rows(trained.train_subjects)
    constant = more_frequent_state(*dataset.label_counts(seen))
    per_au = score(aus, answers.probabilities, labels, known, THRESHOLD)
    floors = {
        "all_on": constant_floor(aus, [True] * len(aus), labels, known),
        "best_constant": constant_floor(aus, constant, labels, known),
    }
    said = answers.predictions
    explanations = explain(
        aus,
        [face.sentences for face in said] if "local" in trained.captions else None,
        [face.sentence for face in said] if "global" in trained.captions else None,
        labels,
        known,
        answers.active,
        [dataset.nouns[subject] for subject in answers.keys[:, 0]],
        constant,
    )
    return _plain(
        {
            "mean_f1": mean_f1(per_au),
            "per_dataset": _per_dataset(dataset, answers, seen),
            "aus": aus,
            "per_au": {str(au): dataclasses.asdict(unit) for au, unit in per_au.items()},
            "floors": {name: mean_f1(units) for name, units in floors.items()},
            "floors_per_au": {
                name: {str(au): unit.f1 for au, unit in units.items()}
                for name, units in floors.items()
            },
            "explanations": dataclasses.asdict(explanations) | {"note": _silence(trained)},
            "captions": trained.captions,
            "beams": trained.beams,
            "dataset": dataset.name,
            "fold": trained.data.fold,
            "test_subjects": subjects,
            "train_subjects": trained.train_subjects,
            "validation_subjects": trained.validation_subjects,
            "frames": len(labels),
            "threshold": THRESHOLD,
            **protocol(dataset, trained.data),
            "data": _shaping(trained),
            "average": "counts pooled over all test frames, then the mean of F1 over the units",
            "epoch": trained.checkpoint,
            "step": trained.step,
            "image_size": trained.data.image_size,
            "warm_start": trained.warm_start,
            "ema_decay": trained.ema_decay,
            "beginning": trained.initialisation,
            "synthetic": dataset.synthetic or trained.synthetic,
            "note": WARNING if dataset.synthetic or trained.synthetic else "",
            "config_digest": trained.config_digest,
        }
    )


def _shaping(trained: Trained) -> dict[str, Any]:
    """The options of `data` that decide which faces training saw, and how they looked."""
    places = {"name", "data_dir", "variant", "threads", "workers"}
    options = dataclasses.asdict(trained.data)
    return {key: value for key, value in options.items() if key not in places}


def _per_dataset(dataset: Dataset, answers: Answers, train_rows: np.ndarray) -> dict[str, Any]:
    """Scores of each joined set on its own, over its benchmark's units in the means; else {}.

    The floor "best_constant" gives each unit its state in most of the set's own training rows.
    """
    if len(dataset.sets) == 1:
        return {}
    found = {}
    for part, one in enumerate(dataset.sets):
        rows = dataset.parts[answers.keys[:, 0]] == part
        units = dataset.coded[part]
        aus = [au for au, coded in zip(dataset.aus, units, strict=True) if coded]
        arrays = (answers.probabilities, answers.labels, answers.known)
        said, labels, known = (values[rows][:, units] for values in arrays)
        theirs = train_rows[dataset.labels.part[train_rows] == part]
        constant = more_frequent_state(*dataset.label_counts(theirs))[units]
        per_au = score(aus, said, labels, known, THRESHOLD)
        floors = {
            "all_on": constant_floor(aus, [True] * len(aus), labels, known),
            "best_constant": constant_floor(aus, constant, labels, known),
        }
        scored = {au: per_au[au] for au in aus if au in one.benchmark}
        found[one.name] = {
            "mean_f1": mean_f1(scored),
            "floors": {
                name: mean_f1({au: floor[au] for au in scored}) for name, floor in floors.items()
            },
            "aus": tuple(scored),
            "units_scored": sum(not math.isnan(unit.f1) for unit in scored.values()),
            "per_au": {str(au): dataclasses.asdict(unit) for au, unit in per_au.items()},
            "frames": int(rows.sum()),
        }
    return found


def _silence(trained: Trained) -> str:
    """Why scores of explanations are null where the model writes no such sentence; else ""."""
    lost = {"local": "polarity_accuracy and agreement", "global": "global_f1 and noun_accuracy"}
    return "; ".join(
        f"{names} are null: model.{kind}_captions=False"
        for kind, names in lost.items()
        if kind not in trained.captions
    )


def _plain(value: Any) -> Any:
    """JSON values: tuples become lists, NaN becomes None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _true_sentence(dataset: Dataset, answers: Answers, row: int) -> str | None:
    """The global description that a face's labels give; None where one of them is unknown.

    Units that the face's own data set does not code are not spoken of.
    """
    subject = answers.keys[row, 0]
    coded = dataset.coded[dataset.parts[subject]]
    if not coded.any() or not answers.known[row, coded].all():
        return None
    return global_description(dataset.aus, answers.labels[row] > 0, dataset.nouns[subject])


def _write_lines(file: TextIO, dataset: Dataset, answers: Answers) -> None:
    for row, prediction in enumerate(answers.predictions):
        subject, task, frame = (int(k) for k in answers.keys[row])
        record = {
            "subject": dataset.subjects[subject],
            "task": task,
            "frame": frame,
            "true_sentence": _true_sentence(dataset, answers, row),
            **prediction.to_json(),
        }
        for column, unit in enumerate(record["per_au"].values()):
            known = answers.known[row, column]
            unit["label"] = int(answers.labels[row, column]) if known else None
        file.write(json.dumps(record) + "\n")


def _faces(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    describe: Describe,
    answers: Answers,
    batch_size: int,
    mesh: Mesh,
) -> list[DescribedFace]:
    """The faces for the report: chosen from all answers, then looked at again for their maps."""
    labels = np.where(answers.known, answers.labels, -1).astype(np.int8)
    rows = choose(answers.probabilities, labels, answers.keys[:, 0], min(FACES_SHOWN, batch_size))
    source = dataset.source(dataset.rows(subjects))
    size = trained.data.image_size
    images = np.zeros((batch_size, size, size, 3), np.uint8)  # another size would be compiled anew
    for k, row in enumerate(rows):
        images[k] = resize(decode_image(source[row]["image"]), size)
    own = {"image": images[local_rows(mesh, batch_size)]}
    arrays = describe(shard_batch(own, mesh, batch_size)["image"])
    arrays = fetch({n: arrays[n] for n in ("local_attention", "spatial_maps") if n in arrays})
    attention, spatial_maps = arrays.get("local_attention"), arrays.get("spatial_maps")
    if attention is not None:
        # Each word's attention sums to one over the places, and to zero after the end: so the sum
        # over the words, divided by its own sum, is the mean over the words spoken.
        attention = attention.sum(2)
        attention /= attention.sum((-1, -2), keepdims=True)
    return [
        DescribedFace(
            title="{}, task {}, frame {}".format(
                dataset.subjects[answers.keys[row, 0]], *answers.keys[row, 1:]
            ),
            image=images[k],
            prediction=answers.predictions[row],
            labels=labels[row],
            true_sentence=_true_sentence(dataset, answers, row),
            spatial_maps=None if spatial_maps is None else spatial_maps[k],
            attention=None if attention is None else attention[k],
        )
        for k, row in enumerate(rows)
    ]


def _metrics(workdir: Path) -> Iterator[dict[str, Any]]:
    """The records of metrics.jsonl; the last line of a killed run may be cut off."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return (json.loads(line) for line in lines if line.endswith("\n"))


def table(scores: Mapping[str, Any]) -> str:
    """Scores for the screen: a line per unit, floors beside, and what the sentences are worth."""

    def cell(value: float | None, width: int = 8) -> str:
        return f"{'-' if value is None else format(value, '.3f'):>{width}}"

    heads = ("F1", "all on", "constant", "precis.", "recall", "accur.", "AUC", "active", "frames")
    lines = [f"{'unit':27}" + "".join(f"{head:>9}" for head in heads)]
    floors = scores["floors_per_au"]
    for au in scores["aus"]:
        unit = scores["per_au"][str(au)]
        values = [unit["f1"], floors["all_on"][str(au)], floors["best_constant"][str(au)]]
        values += [unit[name] for name in ("precision", "recall", "accuracy", "auc")]
        lines.append(
            f"AU{au:02d} {ACTION_UNITS[au].name:22}"
            + "".join(cell(value, 9) for value in values)
            + f"{unit['positives']:>9}{unit['frames']:>9}"
        )
    means = (scores["mean_f1"], scores["floors"]["all_on"], scores["floors"]["best_constant"])
    says = scores["explanations"]
    lines += [
        f"{'mean':27}" + "".join(cell(value, 9) for value in means),
        *(
            f"{f'{name} alone':27}"
            + "".join(cell(value, 9) for value in (one["mean_f1"], *one["floors"].values()))
            + f"  {one['units_scored']} units scored of AU {', '.join(map(str, one['aus']))}; "
            f"{one['frames']} frames"
            for name, one in scores["per_dataset"].items()
        ),
        "",
        f"{scores['dataset']} fold {scores['fold']}, step {scores['step']}, {scores['frames']} "
        f"frames of {', '.join(scores['test_subjects'])}; none of them trained on",
        f"began from {scores['beginning']}",
    ]
    if "local" in scores["captions"]:
        lines.append(
            f"local sentences state the truth {cell(says['polarity_accuracy'], 0)} "
            f"(always the more frequent state: {cell(says['polarity_constant'], 0)}), "
            f"agree with the score {cell(says['agreement'], 0)}"
        )
    if "global" in scores["captions"]:
        lines.append(
            f"global sentences name the units with F1 {cell(says['global_f1'], 0)}, "
            f"the right noun {cell(says['noun_accuracy'], 0)}"
        )
    return "\n".join([*lines, *filter(None, (says["note"], scores["note"]))])
