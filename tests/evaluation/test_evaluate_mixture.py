"""One model for several data sets: pooled scores, and those of each set on its own."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.conftest import untrained
from tests.data.sets import coded, write_set
from tests.report.html_tree import parse
from vlfau_jax.data.raw.frames import decode_crop
from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.descriptions import global_description
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation import evaluate as evaluating
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.evaluation.screen import format_scores
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS
from vlfau_jax.inference.export import export
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.inference.warm_start import write_warm_start
from vlfau_jax.report import render

AUS = [1, 2, 4, 6, 7, 9, 10, 12, 14, 15, 17, 23, 24, 25, 26]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained model of both sets: (workdir, what scores.json holds, the lines)."""
    root = tmp_path_factory.mktemp("mixture")
    rng = np.random.default_rng(4)
    people = coded(rng, "bp4d", ("F001", "F004", "M002"), 5)
    people[1].occurrence[2, 0] = -1
    write_set(root, "bp4d", people)
    write_set(root, "disfa", coded(rng, "disfa", ("SN001", "SN002", "SN003"), 4, sex="female"))
    data = {"name": "bp4d+disfa", "validation_subjects": 1, "threshold": 3}
    workdir = untrained(root, root / "run", data, local_captions=False)
    with (workdir / "metrics.jsonl").open("a") as file:
        for step, value in ((2, 0.25), (4, 0.75), (6, 0.5)):
            file.write(json.dumps({"step": step, "test_mean_f1": value}) + "\n")
    scores = evaluating.evaluate(workdir, batch_size=8, render=render).to_json()
    text = (workdir / "predictions.jsonl").read_text()
    return workdir, scores, [json.loads(line) for line in text.splitlines()]


def f1(lines, au):
    """F1 of one unit from the lines; None without positives, and of a unit nobody taught."""
    units = [line["per_au"][str(au)] for line in lines]
    pairs = [(unit["active"], unit["label"]) for unit in units if unit["label"] is not None]
    if any(active is None for active, _ in pairs):
        return None
    hits = sum(active and label for active, label in pairs)
    wrong = sum(active != bool(label) for active, label in pairs)
    return 2 * hits / (2 * hits + wrong) if any(label for _, label in pairs) else None


def test_each_set_is_scored_over_its_own_benchmark(run):
    _, scores, lines = run
    assert scores["aus"] == AUS and scores["frames"] == len(lines) == 9
    assert scores["test_subjects"] == ["F004", "SN003"]
    of = {"bp4d": ("F004", BP4D_AUS, 5), "disfa": ("SN003", DISFA_AUS, 4)}
    assert scores["per_dataset"].keys() == of.keys()
    for name, (subject, aus, frames) in of.items():
        alone, theirs = scores["per_dataset"][name], [x for x in lines if x["subject"] == subject]
        assert (alone["aus"], alone["frames"], len(theirs)) == (list(aus), frames, frames)
        found = [f1(theirs, au) for au in aus]
        for au, value in zip(aus, found, strict=True):
            assert alone["per_au"][str(au)]["f1"] == pytest.approx(value)
        assert alone["mean_f1"] == pytest.approx(np.mean([v for v in found if v is not None]))
        assert alone["units_scored"] == sum(value is not None for value in found)
    assert "15" in scores["per_dataset"]["disfa"]["per_au"]  # coded, but not in its mean
    pooled = [f1(lines, au) for au in AUS]
    assert scores["mean_f1"] == pytest.approx(np.mean([v for v in pooled if v is not None]))
    assert scores["per_au"]["1"]["frames"] == 8 and scores["per_au"]["7"]["frames"] == 5
    assert scores["per_au"]["25"]["frames"] == 4


def probabilities(trained, dataset, rows):
    """The model's scores of some faces, all in one batch."""
    source = dataset.source(rows)
    size = trained.data.image_size
    faces = np.stack([resize(decode_crop(one["image"]), size) for one in source])
    return np.asarray(jax.jit(trained.describe)(trained.params, faces)["au_probabilities"])


def test_thresholds_are_tuned_on_the_validation_people(run):
    workdir, scores, lines = run
    trained = load_trained(workdir)
    dataset = open_dataset(trained.data)
    rows = dataset.rows(trained.validation_subjects)
    found = scores["choices"]["validation_thresholds"]
    oracle = scores["choices"]["test_thresholds"]
    tuned = 0
    for column, au in enumerate(AUS):
        known = dataset.labels.known[rows, column]
        positive = dataset.labels.au[rows, column][known]
        threshold = found["thresholds"][str(au)]
        if not positive.any():
            assert threshold == 0.5
            continue
        values = probabilities(trained, dataset, rows)[known, column]
        reached = [f1_score(positive, values > t) for t in (threshold, 0, *values)]
        assert reached[0] == max(reached)
        tuned += 1
        units = [line["per_au"][str(au)] for line in lines]
        pairs = [(u["probability"], u["label"]) for u in units if u["label"] is not None]
        on = np.array([label for _, label in pairs], bool)
        if on.any() and found["per_au"][str(au)] is not None:
            scored = np.array([p for p, _ in pairs])
            expected = f1_score(on, scored > threshold)
            assert found["per_au"][str(au)] == pytest.approx(expected)
            best = max(f1_score(on, scored > t) for t in (0, *scored))
            assert oracle["per_au"][str(au)] == pytest.approx(best)
    assert tuned > 5
    assert scores["mean_f1"] <= oracle["mean_f1"] >= found["mean_f1"]


def test_the_best_step_on_the_test_people_is_apart(run):
    _, scores, _ = run
    assert scores["choices"]["best_test_step"] == {"mean_f1": 0.75, "step": 4}
    assert scores["step"] == 7 and scores["checkpoint"] == "last"


def test_intensities_are_compared_where_they_are_coded(run):
    workdir, scores, lines = run
    dataset = open_dataset(load_trained(workdir).data)
    codes = dataset.labels.level[dataset.rows(scores["test_subjects"])]
    assert codes.shape == (9, 15) and (codes[:5] == -1).all() and codes[5:].max() > 1
    for au in (7, 25):
        column, unit = AUS.index(au), scores["per_au"][str(au)]
        coded = codes[:, column] >= 0
        values = [line["per_au"][str(au)]["probability"] for line in lines]
        estimates, codes_of = 5 * np.array(values)[coded], codes[coded, column]
        if au == 7:  # BP4D's alone
            assert not coded.any() and unit["icc"] is unit["pcc"] is unit["mae"] is None
        else:
            assert unit["mae"] == pytest.approx(np.abs(estimates - codes_of).mean(), abs=1e-5)
            expected = np.corrcoef(estimates, codes_of)[0, 1]
            assert unit["pcc"] == pytest.approx(expected, abs=1e-3)


def test_the_sets_are_groups(run):
    _, scores, _ = run
    assert scores["groups"].keys() == {"dataset"}  # both people are women
    for name, one in scores["groups"]["dataset"]["groups"].items():
        alone = scores["per_dataset"][name]["per_au"]
        assert {au: unit["f1"] for au, unit in one["per_au"].items() if au in alone} == {
            au: unit["f1"] for au, unit in alone.items()
        }
    both = scores["groups"]["dataset"]["aus"]
    assert 0 < len(both) < 8


def test_only_sentences_that_are_written_have_words(run):
    _, scores, _ = run
    language = scores["language"]
    assert set(language["local"].values()) == {None}
    assert 1 < language["global"]["perplexity"] < 10_000
    assert language["global"]["sentences"] == 8  # one face has an unknown label
    assert scores["intervals"]["subjects"] == 2 and scores["intervals"]["macro"]["f1"]


def test_each_set_has_floors_of_its_own(run):
    workdir, scores, lines = run
    data = load_trained(workdir).data
    for name, subject in (("bp4d", "F004"), ("disfa", "SN003")):
        alone = scores["per_dataset"][name]
        one = evaluating.open_dataset(replace(data, name=name, aus=tuple(alone["aus"])))
        train = one.rows([s for s in scores["train_subjects"] if s in one.subjects])
        active, known = one.label_counts(train)
        floors = {"all_on": [True] * len(one.aus), "best_constant": 2 * active >= known}
        for floor, states in floors.items():
            constant = [
                {"per_au": {str(au): x["per_au"][str(au)] | {"active": bool(on)}}}
                for x in lines
                if x["subject"] == subject
                for au, on in zip(one.aus, states, strict=True)
            ]
            taught = [au for au in one.aus if str(au) not in scores["untaught"]]
            values = [f1([x for x in constant if str(au) in x["per_au"]], au) for au in taught]
            mean = np.mean([value for value in values if value is not None])
            assert alone["floors"][floor] == pytest.approx(mean)
    screen, page = format_scores(Scores.from_json(scores)), (workdir / "report.html").read_text()
    for name, alone in scores["per_dataset"].items():
        (line,) = [row for row in screen.splitlines() if row.startswith(f"{name} alone")]
        values = (alone["mean_f1"], *alone["floors"].values())
        assert line.split()[2:5] == [f"{value:.3f}" for value in values]
        assert f"{alone['units_scored']} units scored of AU 1, 2," in line
        assert f"over the {alone['units_scored']} units with positives of AU 1, 2," in page


def test_true_sentences_are_of_the_units_that_the_set_codes(run):
    _, _, lines = run
    for line in lines:
        labels = {int(au): unit["label"] for au, unit in line["per_au"].items()}
        theirs = BP4D_AUS if line["subject"] == "F004" else (*DISFA_AUS, 15, 17)
        aus = [au for au in AUS if au in theirs]
        if line["subject"] == "F004" and line["frame"] == 3:
            assert labels[1] is None and line["true_sentence"] is None
            continue
        states = [labels[au] == 1 for au in aus]
        assert line["true_sentence"] == global_description(aus, states, "woman")


def test_the_protocol_is_that_of_each_set(run):
    workdir, scores, _ = run
    assert scores["dataset"] == "bp4d+disfa"
    assert scores["label_threshold"] == {"bp4d": None, "disfa": 3}
    assert "intensity is 3 or more" in scores["label_rule"]["disfa"]
    assert scores["excluded_stretches"] == {"bp4d": "none", "disfa": "JAA-Net's list: 0 frames"}
    assert scores["camera"] == {"bp4d": None, "disfa": "left"}
    assert scores["validation_subjects"] == list(load_trained(workdir).validation_subjects)
    assert len(scores["validation_subjects"]) == 1
    assert not set(scores["validation_subjects"]) & set(scores["train_subjects"])
    stated = parse((workdir / "report.html").read_text()).all("dl")[-1]
    terms = [term.text for term in stated.all("dt")]
    page = dict(zip(terms, [text.text for text in stated.all("dd")], strict=True))
    assert page["disfa alone"].startswith("mean F1")
    assert page["Camera"] == "bp4d: the only one; disfa: left"
    assert "disfa: active where the intensity is 3 or more;" in page["Labels"]
    assert page["Kept back for validation"] == scores["validation_subjects"][0]
    screen = format_scores(Scores.from_json(scores))
    assert "bp4d alone" in screen and "of AU 1, 2, 4, 6, 9, 12, 25, 26; 4 frames" in screen
    assert json.loads((workdir / "scores.json").read_text()) == scores


def test_a_mixtures_model_leaves_the_run_like_any_other(run, tmp_path):
    workdir, _, _ = run
    write_warm_start(workdir, tmp_path / "warm.safetensors")
    config = json.loads((export(workdir, tmp_path / "model") / "config.json").read_text())
    assert [unit["number"] for unit in config["aus"]] == AUS


def test_test_subjects_without_a_frame_are_refused(run, monkeypatch):
    workdir, _, _ = run
    opened = evaluating.open_dataset(load_trained(workdir).data)
    empty = replace(opened, kept=np.zeros_like(opened.kept))
    monkeypatch.setattr(evaluating, "open_dataset", lambda _: empty)
    with pytest.raises(UserError, match="every frame of F004, SN003 is in an excluded stretch"):
        evaluating.evaluate(workdir)
