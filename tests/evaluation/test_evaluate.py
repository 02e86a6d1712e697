import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

import vlfau_jax.evaluation.evaluate as evaluating
from tests.conftest import untrained
from tests.data.sets import Person, write_set
from vlfau_jax.cli.settings import resolve
from vlfau_jax.data.raw.frames import decode_image
from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.descriptions import global_description
from vlfau_jax.data.text.vocabulary import PAD, START
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.metrics.statements import stated
from vlfau_jax.model.vlfau import normalise
from vlfau_jax.train.experiment import build_experiment


@pytest.fixture(scope="module")
def run(workdir, tmp_path_factory):
    """A workdir of this module's own, evaluated: (folder, what `evaluate` returned)."""
    folder = shutil.copytree(workdir, tmp_path_factory.mktemp("run") / "run")
    return folder, evaluating.evaluate(folder, batch_size=20)


@pytest.fixture(scope="module")
def lines(run):
    folder, _ = run
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def source_of(trained):
    """The pictures of the person whom fold 1 tests."""
    dataset = open_dataset(trained.data)
    return dataset.source(dataset.rows(["F004"]))


def test_scores_json_holds_what_scripts_rely_on(run):
    folder, scores = run
    assert json.loads((folder / "scores.json").read_text()) == scores
    assert scores["aus"] == list(BP4D_AUS)
    unit = {"precision", "recall", "f1", "accuracy", "auc", "positives", "frames"}
    assert all(set(scores["per_au"][str(au)]) == unit for au in BP4D_AUS)
    assert set(scores["floors"]) == {"all_on", "best_constant"}
    assert {"polarity_accuracy", "agreement", "global_f1"} <= set(scores["explanations"])
    assert (scores["test_subjects"], scores["train_subjects"]) == (["F004"], ["F001", "M002"])
    assert (scores["threshold"], scores["step"], scores["fold"]) == (0.5, 7, 1)
    assert len(scores["config_digest"]) == 64
    assert (scores["captions"], scores["beams"]) == (["local", "global"], 1)
    assert scores["explanations"]["note"] == ""
    assert (scores["dataset"], scores["epoch"], scores["synthetic"]) == ("bp4d", "last", True)
    assert scores["crop_rule"]["name"] == "cascade" and scores["crop_rule"]["digest"]
    assert "say nothing about BP4D or DISFA" in scores["note"]


def test_lines_are_the_test_set_frame_by_frame(run, lines, workdir):
    prepared = open_dataset(load_trained(workdir).data).folder
    examples = list(tfds.builder_from_directory(prepared).as_data_source("F004"))
    assert len(lines) == len(examples) == run[1]["frames"] > 20
    assert len(lines) % 24, "24 rows a batch on 8 devices: some of the last must be filling rows"
    for line, example in zip(lines, examples, strict=True):
        assert (line["subject"], line["task"], line["frame"]) == (
            example["subject"].decode(),
            example["task"],
            example["frame"],
        )
        labels = [line["per_au"][str(au)]["label"] for au in BP4D_AUS]
        assert [-1 if v is None else v for v in labels] == example["occurrence"].tolist()
        if None in labels:
            assert line["true_sentence"] is None
        else:
            on = [label == 1 for label in labels]
            assert line["true_sentence"] == global_description(BP4D_AUS, on, "woman")


def column(lines, au, key):
    return [line["per_au"][str(au)][key] for line in lines]


def test_scores_follow_from_the_lines(run, lines):
    _, scores = run
    f1s, right, agree, judged = [], 0, 0, 0
    for au in BP4D_AUS:
        labels, active = column(lines, au, "label"), column(lines, au, "active")
        said = [stated(sentence) for sentence in column(lines, au, "sentence")]
        tp = sum(a and y == 1 for a, y in zip(active, labels, strict=True))
        wrong = sum(y is not None and a != (y == 1) for a, y in zip(active, labels, strict=True))
        positives = labels.count(1)
        f1 = 2 * tp / (2 * tp + wrong) if positives else None
        assert scores["per_au"][str(au)]["f1"] == (pytest.approx(f1) if positives else None)
        assert scores["per_au"][str(au)]["positives"] == positives
        assert scores["per_au"][str(au)]["frames"] == len(labels) - labels.count(None)
        f1s += [f1] if positives else []
        right += sum(s == (au, y == 1) for s, y in zip(said, labels, strict=True) if y is not None)
        agree += sum(s == (au, a) for s, a in zip(said, active, strict=True))
        judged += len(labels) - labels.count(None)
    assert scores["mean_f1"] == pytest.approx(np.mean(f1s))
    assert scores["explanations"]["polarity_accuracy"] == pytest.approx(right / judged)
    assert scores["explanations"]["agreement"] == pytest.approx(agree / (12 * len(lines)))


def test_a_lines_probabilities_are_the_models_for_that_frame(lines, workdir):
    trained = load_trained(workdir)
    source = source_of(trained)
    faces = np.stack([resize(decode_image(source[k]["image"]), 32) for k in (0, 10, 20)])
    run = jax.jit(trained.describe)
    expected = np.asarray(run(trained.params, faces)["au_probabilities"])
    found = [[line["per_au"][str(au)]["probability"] for au in BP4D_AUS] for line in lines[:21:10]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sentence_probabilities_are_those_of_the_words_under_teacher_forcing(lines, workdir):
    trained = load_trained(workdir)
    source = source_of(trained)
    shown = (0, 10, 20)
    faces = np.stack([resize(decode_image(source[k]["image"]), 32) for k in shown])
    said = jax.jit(trained.describe)(trained.params, faces)
    kinds = ("local", "global")
    tokens = {kind: np.asarray(said[f"{kind}_tokens"]) for kind in kinds}
    heard = jax.jit(trained.model.apply)(
        {"params": trained.params},
        normalise(faces),
        *(np.insert(tokens[kind], 0, START, axis=-1) for kind in kinds),
    )
    expected = {}
    for kind, logits in zip(kinds, (heard.local_logits, heard.global_logits), strict=True):
        logs = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[kind][..., None], -1)[..., 0]
        spoken = tokens[kind] != PAD
        expected[kind] = np.exp(np.where(spoken, logs, 0).sum(-1) / spoken.sum(-1))
    lines = [lines[k] for k in shown]
    local = [column([line], au, "sentence_probability") for au in BP4D_AUS for line in lines]
    local = np.reshape(local, (len(BP4D_AUS), len(shown))).T
    whole = [line["sentence_probability"] for line in lines]
    np.testing.assert_allclose(local, expected["local"], atol=2e-6)
    np.testing.assert_allclose(whole, expected["global"], atol=2e-6)
    for values in (local, np.asarray(whole)):
        assert np.all((values > 0) & (values <= 1))
        assert np.ptp(values, 0).min() > 1e-5  # or whose they are would not be tested


def test_report_shows_faces_and_warns(run):
    page = (run[0] / "report.html").read_text()
    assert page.count('<article class="card face">') == evaluating.FACES_SHOWN
    assert "SYNTHETIC FACES" in page and "F004, task" in page
    assert page.count("<polyline") == 2


def evaluated(workdir, folder, capsys, **how):
    """An evaluated copy of a workdir: scores, lines, page, and what the screen showed."""
    shutil.copytree(workdir, folder)
    scores = evaluating.evaluate(folder, batch_size=20, **how)
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    return scores, lines, (folder / "report.html").read_text(), capsys.readouterr().out


def test_a_model_without_sentences_is_scored_and_none_is_made_up(silent_workdir, tmp_path, capsys):
    scores, lines, page, screen = evaluated(silent_workdir, tmp_path / "run", capsys)
    assert 0 <= scores["mean_f1"] <= 1 and scores["captions"] == []
    says = scores["explanations"]
    for name in ("polarity_accuracy", "agreement", "global_f1", "noun_accuracy"):
        assert says[name] is None
    assert says["polarity_constant"] > 0  # a floor of the labels, whoever speaks
    assert "local_captions=False" in says["note"] and "global_captions=False" in says["note"]
    assert len(lines) == scores["frames"]
    for line in lines:
        for told in (line, line["per_au"]["1"]):
            assert told["sentence"] is None and told["sentence_probability"] is None
        assert 0 < line["per_au"]["1"]["probability"] < 1
    assert any(line["true_sentence"] for line in lines)
    assert page.count('<article class="card face">') == evaluating.FACES_SHOWN
    for absent in ("<b>Says</b>", 'class="maps"', 'class="says"', "Maps:", "state the truth"):
        assert absent not in page
    assert "writes no sentences about single units or the whole face" in page
    assert "state the truth" not in screen and "null: model.local_captions=False" in screen


def test_a_model_of_global_sentences_alone_with_beams(half_workdir, tmp_path, capsys):
    scores, lines, page, screen = evaluated(half_workdir, tmp_path / "run", capsys, beams=3)
    assert (scores["captions"], scores["beams"]) == (["global"], 3)
    assert scores["explanations"]["agreement"] is None
    assert scores["explanations"]["global_f1"] is not None
    assert scores["explanations"]["note"] == (
        "polarity_accuracy and agreement are null: model.local_captions=False"
    )
    for line in lines:
        assert 0 < line["sentence_probability"] <= 1
        assert line["per_au"]["1"]["sentence_probability"] is None
    assert "<b>Says</b>" in page and "a search with 3 beams" in page
    assert "branch looks" in page and "words look" not in page
    assert "name the units" in screen and "state the truth" not in screen
    trained = load_trained(half_workdir)
    source = source_of(trained)
    faces = np.stack([resize(decode_image(source[k]["image"]), 32) for k in range(4)])
    greedy = jax.jit(trained.describe)(trained.params, faces)["global_tokens"]
    assert [line["sentence"] for line in lines[:4]] != [
        trained.vocabulary.decode(row) for row in np.asarray(greedy)
    ]


@pytest.mark.parametrize("beams", [0, -1, 17])
def test_beams_that_cannot_be(tmp_path, beams):
    with pytest.raises(UserError, match=f"--beams={beams}: give 1"):
        evaluating.evaluate(tmp_path, beams=beams)


def test_beams_that_would_do_nothing(silent_workdir):
    with pytest.raises(UserError, match=r"--beams=2: .* writes no sentence"):
        evaluating.evaluate(silent_workdir, beams=2)


def test_nothing_half_written_is_left(run):
    assert not [path for path in run[0].iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize(
    ("change", "fold", "message"),
    [
        ({}, 2, "only the people whom fold 1 tests"),
        ({"data": {"fold": 0}}, None, "tests none"),
        ({"crop_rule": {"name": "none", "digest": "f" * 16}}, None, "prepare the set with that"),
        ({"aus": BP4D_AUS[::-1]}, None, "order"),
        ({"train_subjects": ("F001", "F004")}, None, "trained on F004"),
        ({"read_as": {"frame_offset": 1}}, None, "with frame_offset 0, but .* trained on 1; name"),
        ({"read_as": {"camera": "right"}}, None, "with camera None, but .* trained on right"),
    ],
)
def test_what_does_not_fit_is_refused(workdir, monkeypatch, change, fold, message):
    trained = load_trained(workdir)
    if "data" in change:
        change = {"data": dataclasses.replace(trained.data, **change["data"])}
    monkeypatch.setattr(
        evaluating, "load_trained", lambda *_: dataclasses.replace(trained, **change)
    )
    with pytest.raises(UserError, match=message):
        evaluating.evaluate(workdir, fold=fold)
    assert not (workdir / "scores.json").exists()


def test_no_workdir(tmp_path):
    with pytest.raises(UserError, match="missing"):
        evaluating.evaluate(tmp_path)


def test_scores_while_training_are_evaluates(run, workdir):
    experiment = build_experiment(resolve(json.loads((workdir / "config.json").read_text())))
    found = evaluating.score_during_training(experiment, load_trained(workdir).params)
    assert found["mean_f1"] == pytest.approx(run[1]["mean_f1"])


@pytest.fixture(scope="module")
def one_dark(tmp_path_factory):
    """An untrained run: every unit is on in each frame of F001 and F009, and in none of F004.

    Fold 1 tests F004; one of the others is kept back for validation.
    """
    root = tmp_path_factory.mktemp("one_dark")
    people = [
        Person(name, range(1, 5), np.full((4, 12), on, np.int8))
        for name, on in (("F001", 1), ("F004", 0), ("F009", 1))
    ]
    write_set(root, "bp4d", people)
    return untrained(root, root / "run", {"validation_subjects": 1})


def test_scores_while_training_are_of_the_validation_people_alone(one_dark, monkeypatch):
    experiment = build_experiment(resolve(json.loads((one_dark / "config.json").read_text())))
    (kept_back,) = experiment.split.validation
    scored = []
    iterator = evaluating.eval_iterator

    def watched(dataset, rows, *rest, **named):
        scored.append({dataset.subjects[k] for k in dataset.labels.subject[rows]})
        return iterator(dataset, rows, *rest, **named)

    monkeypatch.setattr(evaluating, "eval_iterator", watched)
    found = evaluating.score_during_training(experiment, load_trained(one_dark).params)
    assert scored == [{kept_back}] and kept_back != "F004"
    assert not np.isnan(found["mean_f1"])  # as it would be of F004


def test_the_constant_floor_is_that_of_the_training_people(one_dark):
    scores = evaluating.evaluate(one_dark, batch_size=8)
    assert scores["test_subjects"] == ["F004"] and len(scores["train_subjects"]) == 1
    # All on, as in training, is wrong of F004 everywhere; their own state would be right.
    assert scores["explanations"]["polarity_constant"] == 0


def test_scores_json_says_what_shaped_training(run):
    _, scores = run
    shaping = scores["data"]
    assert shaping.keys() >= {
        *("balance_classes", "balance_subjects", "mixture_weights", "min_area", "flip"),
        *("jitter", "erasing", "threshold", "validation_subjects"),
    }
    assert shaping["validation_subjects"] == 0 and shaping["flip"] is True
    assert "data_dir" not in shaping


def test_an_undefined_score_is_a_dash_on_the_screen(run):
    scores = json.loads(json.dumps(run[1]))
    scores["per_au"]["24"]["f1"] = None
    (line,) = [row for row in evaluating.table(scores).splitlines() if row.startswith("AU24")]
    assert line.split()[3] == "-"


def test_a_cut_off_last_line_of_metrics_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert list(evaluating._metrics(tmp_path)) == [{"step": 1}, {"step": 2}]
    assert list(evaluating._metrics(tmp_path / "nowhere")) == []
