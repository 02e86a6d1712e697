import dataclasses
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.report.html_tree import parse
from vlfau_jax.cli.settings import resolve
from vlfau_jax.data.raw.frames import decode_image
from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.pipeline import eval_iterator
from vlfau_jax.data.read.regions import FaceRegions
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.descriptions import global_description
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.data.text.vocabulary import END, PAD, START
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation import evaluate as evaluating
from vlfau_jax.evaluation.during_training import score_during_training
from vlfau_jax.evaluation.faces import choose, mean_log_loss
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.metrics.maps import cells, mass_in_region, pointing_game
from vlfau_jax.metrics.table import AU_METRICS, map_score_names
from vlfau_jax.model.vlfau import normalise
from vlfau_jax.regions import COMPACT
from vlfau_jax.report import render
from vlfau_jax.train.experiment import build_experiment


@pytest.fixture(scope="module")
def run(workdir, tmp_path_factory):
    """A workdir of this module's own, evaluated: (folder, what scores.json holds)."""
    folder = shutil.copytree(workdir, tmp_path_factory.mktemp("run") / "run")
    return folder, evaluating.evaluate(folder, batch_size=20, render=render).to_json()


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
    unit = {metric.name for metric in AU_METRICS}
    assert unit >= {"precision", "recall", "f1", "accuracy", "auc", "positives", "frames"}
    assert all(set(scores["per_au"][str(au)]) == unit for au in BP4D_AUS)
    assert set(scores["floors"]) == {"all_on", "best_constant"}
    assert {"polarity_accuracy", "agreement", "global_f1"} <= set(scores["explanations"])
    assert (scores["test_subjects"], scores["train_subjects"]) == (["F004"], ["F001", "M002"])
    assert (scores["threshold"], scores["step"], scores["fold"]) == (0.5, 7, 1)
    assert len(scores["config_digest"]) == 64
    assert (scores["captions"], scores["beams"]) == (["local", "global"], 1)
    assert scores["explanations"]["note"] == ""
    assert (scores["dataset"], scores["checkpoint"], scores["synthetic"]) == ("bp4d", "last", True)
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
    f1s, right, agree, judged, reader = [], 0, 0, 0, Reader()
    for au in BP4D_AUS:
        labels, active = column(lines, au, "label"), column(lines, au, "active")
        stated = [reader.stated(sentence) for sentence in column(lines, au, "sentence")]
        facts = [fact and fact[:2] for fact in stated]
        tp = sum(a and y == 1 for a, y in zip(active, labels, strict=True))
        wrong = sum(y is not None and a != (y == 1) for a, y in zip(active, labels, strict=True))
        positives = labels.count(1)
        f1 = 2 * tp / (2 * tp + wrong) if positives else None
        assert scores["per_au"][str(au)]["f1"] == (pytest.approx(f1) if positives else None)
        assert scores["per_au"][str(au)]["positives"] == positives
        assert scores["per_au"][str(au)]["frames"] == len(labels) - labels.count(None)
        f1s += [f1] if positives else []
        right += sum(s == (au, y == 1) for s, y in zip(facts, labels, strict=True) if y is not None)
        agree += sum(s == (au, a) for s, a in zip(facts, active, strict=True))
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
    rows = (0, 10, 20)
    faces = np.stack([resize(decode_image(source[k]["image"]), 32) for k in rows])
    outputs = jax.jit(trained.describe)(trained.params, faces)
    kinds = ("local", "global")
    tokens = {kind: np.asarray(outputs[f"{kind}_tokens"]) for kind in kinds}
    forced = jax.jit(trained.model.apply)(
        {"params": trained.params},
        normalise(faces),
        *(np.insert(tokens[kind], 0, START, axis=-1) for kind in kinds),
    )
    expected = {}
    for kind, logits in zip(kinds, (forced.local_logits, forced.global_logits), strict=True):
        logs = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[kind][..., None], -1)[..., 0]
        real = tokens[kind] != PAD
        expected[kind] = np.exp(np.where(real, logs, 0).sum(-1) / real.sum(-1))
    lines = [lines[k] for k in rows]
    local = [column([line], au, "sentence_probability") for au in BP4D_AUS for line in lines]
    local = np.reshape(local, (len(BP4D_AUS), len(rows))).T
    whole = [line["sentence_probability"] for line in lines]
    np.testing.assert_allclose(local, expected["local"], atol=2e-6)
    np.testing.assert_allclose(whole, expected["global"], atol=2e-6)
    for values in (local, np.asarray(whole)):
        assert np.all((values > 0) & (values <= 1))
        assert np.ptp(values, 0).min() > 1e-5  # or the test could not see whose they are


def test_maps_are_scored_where_regions_are_exact(run, workdir):
    """As by hand from the model's own maps and the renderer's regions."""
    _, scores = run
    trained = load_trained(workdir)
    dataset = open_dataset(trained.data)
    rows, regions = dataset.rows(["F004"]), FaceRegions(dataset)
    assert regions.exact
    source = dataset.source(rows)
    images = np.stack([resize(decode_image(source[k]["image"]), 32) for k in range(len(rows))])
    arrays = jax.jit(trained.describe)(trained.params, images)
    words = np.asarray(arrays["local_attention"]).sum(2)
    maps = {"": np.asarray(arrays["spatial_maps"]), "words_": words}
    found = [cells(regions.of(int(row)), words.shape[-2:]) for row in rows]
    share, hit = (np.stack(values) for values in zip(*found, strict=True))
    judged = dataset.labels.known[rows] & dataset.labels.au[rows]
    means = dict.fromkeys(map_score_names()[:4], ())
    for column, au in enumerate(BP4D_AUS):
        unit = scores["maps_per_au"][str(au)]
        on = judged[:, column] & (share[:, column] > 0).any((-1, -2))
        assert unit["map_frames"] == on.sum()
        for prefix, values in maps.items():
            for metric in (pointing_game, mass_in_region):
                value = unit[f"{prefix}{metric.__name__}"]
                if on.any():
                    given = (values[on, column], share[on, column], hit[on, column])
                    assert value == pytest.approx(metric(*given), rel=1e-4)
                else:
                    assert value is None
        if unit["region_area"] is not None and unit["region_area"] <= COMPACT:
            means = {name: (*of, unit[name]) for name, of in means.items()}
    for name, of in means.items():
        assert scores["explanations"][name] == pytest.approx(np.mean(of)), name


def test_counterfactuals_are_measured_where_they_are_asked_for(run, workdir, tmp_path, capsys):
    assert run[1]["counterfactual"] is None
    scores, *_ = evaluated(workdir, tmp_path / "run", capsys, counterfactual=6)
    found = scores["counterfactual"]
    assert found["regions"] == "exact"
    assert 0 < found["faces"] <= 6
    assert sum(unit["cases"] for unit in found["per_au"].values()) == found["cases"] > 0
    assert found["cover"].keys() == {"drop", "control_drop", "silenced", "control_silenced"}
    for curve in ("deletion", "insertion"):
        assert found[curve].keys() == {"branch", "words", "random"}
        assert all(0 < area < 1 for area in found[curve].values())
    plain = {key: value for key, value in run[1].items() if key != "counterfactual"}
    assert {key: scores[key] for key in plain} == plain, "nothing else changes"


def chosen_by_hand(lines):
    """Titles of the faces that the report shows, by the numbers of predictions.jsonl."""
    units = [[line["per_au"][str(au)] for au in BP4D_AUS] for line in lines]
    labels = [[-1 if u["label"] is None else u["label"] for u in row] for row in units]
    probabilities = np.array([[u["probability"] for u in row] for row in units], np.float32)
    labels = np.array(labels, np.int8)
    losses = mean_log_loss(probabilities, labels)
    rows = choose(losses, labels, np.zeros(len(lines), int))
    return {
        "{subject}, task {task}, frame {frame}".format(**lines[row]): (rules, losses[row])
        for row, rules in rows.items()
    }


def test_report_shows_faces_and_warns(run, lines):
    page = parse((run[0] / "report.html").read_text())
    cards = page.all("article")
    assert len(cards) == len(chosen_by_hand(lines)) > 6
    assert all(card.one("h3").text.startswith("F004, task") for card in cards)
    assert page.one("p", "warn").text.startswith("SYNTHETIC FACES")
    series = [s for c in json.loads(page.all("script")[0].raw)["charts"] for s in c["series"]]
    assert sum(len(one["points"]) > 1 for one in series) == len(page.all("figure", "chart")) == 2


def evaluated(workdir, folder, capsys, **how):
    """An evaluated copy of a workdir: scores, lines, page, and what was printed."""
    shutil.copytree(workdir, folder)
    scores = evaluating.evaluate(folder, batch_size=20, render=render, **how).to_json()
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    page = parse((folder / "report.html").read_text())
    return scores, lines, page, capsys.readouterr().out


def test_a_model_without_sentences_is_scored_and_none_is_made_up(silent_workdir, tmp_path, capsys):
    scores, lines, page, screen = evaluated(silent_workdir, tmp_path / "run", capsys)
    assert 0 <= scores["mean_f1"] <= 1 and scores["captions"] == []
    explanations = scores["explanations"]
    for name in ("polarity_accuracy", "agreement", "global_f1", "noun_accuracy"):
        assert explanations[name] is None
    assert explanations["polarity_constant"] > 0  # a floor of the labels, which needs no sentence
    assert (
        "local_captions=False" in explanations["note"]
        and "global_captions=False" in explanations["note"]
    )
    assert len(lines) == scores["frames"]
    for line in lines:
        for record in (line, line["per_au"]["1"]):
            assert record["sentence"] is None and record["sentence_probability"] is None
        assert 0 < line["per_au"]["1"]["probability"] < 1
    assert any(line["true_sentence"] for line in lines)
    assert len(page.all("article")) == len(chosen_by_hand(lines))
    assert not page.all(class_="sentence") and not page.all(class_="thumb")
    for absent in ("Generated", "Maps:", "polarity accuracy"):
        assert absent not in page.text
    assert "writes no sentences about single units or the whole face" in page.text
    assert "sentences:" not in screen and "null: model.local_captions=False" in screen


def test_a_model_of_global_sentences_alone_with_beams(half_workdir, tmp_path, capsys):
    scores, lines, page, screen = evaluated(half_workdir, tmp_path / "run", capsys, beams=3)
    assert (scores["captions"], scores["beams"]) == (["global"], 3)
    assert scores["explanations"]["agreement"] is None
    assert scores["explanations"]["global_f1"] is not None
    assert scores["explanations"]["note"] == (
        "all scores of local sentences are null: model.local_captions=False"
    )
    for line in lines:
        assert 0 < line["sentence_probability"] <= 1
        assert line["per_au"]["1"]["sentence_probability"] is None
    assert "Generated" in page.text and "a search with 3 beams" in page.text
    assert "unit's branch" in page.text and "sentence's words" not in page.text
    assert "global sentences: F1 of named units 0." in screen
    assert "local sentences:" not in screen
    trained = load_trained(half_workdir)
    source = source_of(trained)
    faces = np.stack([resize(decode_image(source[k]["image"]), 32) for k in range(4)])
    greedy = jax.jit(trained.describe)(trained.params, faces)["global_tokens"]
    assert [line["sentence"] for line in lines[:4]] != [
        trained.vocabulary.decode(row) for row in np.asarray(greedy)
    ]


def test_every_answer_follows_from_the_models_thresholds(silent_workdir, tmp_path, monkeypatch):
    folder = shutil.copytree(silent_workdir, tmp_path / "run")
    thresholds = (0.0, 1.0) * 6
    trained = dataclasses.replace(load_trained(folder), thresholds=thresholds)
    monkeypatch.setattr(evaluating, "load_trained", lambda *_: trained)
    rendered = []

    def watch(*arguments):
        rendered.append(arguments)
        return "page"

    scores = evaluating.evaluate(folder, batch_size=20, render=watch)
    on = np.array([True, False] * 6)
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    active = np.array([column(lines, au, "active") for au in BP4D_AUS]).T
    assert (active == on).all()
    for au, state in zip(BP4D_AUS, on, strict=True):
        unit = scores.per_au[au]
        assert np.isnan(unit["recall"]) or unit["recall"] == state
    assert sum(not np.isnan(unit["recall"]) for unit in scores.per_au.values()) > 6
    ((values, records, faces, left_out),) = rendered
    assert left_out == 0
    assert values["threshold"] == {
        str(au): float(not x) for au, x in zip(BP4D_AUS, on, strict=True)
    }
    assert Scores.from_json(values).thresholds == thresholds
    assert [record["step"] for record in records] == [*range(1, 8)]
    chosen = chosen_by_hand(lines)
    assert [face.title for face in faces] == list(chosen)
    assert [face.chosen_by for face in faces] == [rules for rules, _ in chosen.values()]
    losses = [loss for _, loss in chosen.values()]
    np.testing.assert_allclose([face.log_loss for face in faces], losses, rtol=1e-4)
    assert (folder / "report.html").read_text() == "page"


def test_each_word_has_the_attention_with_which_it_was_written(workdir, tmp_path):
    """As the model gives it for one face alone."""
    folder = shutil.copytree(workdir, tmp_path / "run")
    rendered = []
    # Two batches: 12 faces at most, 8 a batch.
    evaluating.evaluate(folder, batch_size=8, render=lambda *given: rendered.append(given) or "")
    ((_, _, faces, _),) = rendered
    assert len(faces) > 8
    trained = load_trained(folder)
    describe = jax.jit(trained.describe)
    for face in (faces[0], faces[-1]):
        arrays = {
            k: np.asarray(v)[0] for k, v in describe(trained.params, face.image[None]).items()
        }
        sentences = [*face.prediction.sentences, face.prediction.sentence]
        tokens = [*arrays["local_tokens"], arrays["global_tokens"]]
        maps = [*arrays["local_attention"], arrays["global_attention"]]
        told = [*face.words, face.global_words]
        for sentence, row, attention, one in zip(sentences, tokens, maps, told, strict=True):
            assert "".join(one.words) == sentence == trained.vocabulary.decode(row)
            count = int((np.cumsum(row == END) == 0).sum())
            assert len(one.words) == len(one.maps) == count
            np.testing.assert_allclose(one.maps, attention[:count], atol=1e-5)
            np.testing.assert_allclose(one.maps.sum((1, 2)), 1, rtol=1e-4)


def test_the_cooccurrence_is_pearsons_correlation_of_labels_and_of_answers(run, lines):
    found = run[1]["cooccurrence"]
    for name, key in (("labels", "label"), ("predictions", "active")):
        values = np.array([column(lines, au, key) for au in BP4D_AUS], float)
        known = ~np.isnan(np.array([column(lines, au, "label") for au in BP4D_AUS], float))
        for i, j in itertools.product(range(len(BP4D_AUS)), repeat=2):
            frames = known[i] & known[j]
            one, other = values[i, frames], values[j, frames]
            if np.isnan(one).any() or np.isnan(other).any():  # not taught: no answers
                assert found[name][i][j] is None and name == "predictions"
            elif len({*one}) < 2 or len({*other}) < 2:
                assert found[name][i][j] is None
            else:
                assert found[name][i][j] == pytest.approx(np.corrcoef(one, other)[0, 1])


def test_without_render_no_page_is_written(silent_workdir, tmp_path, capsys):
    folder = shutil.copytree(silent_workdir, tmp_path / "run")
    evaluating.evaluate(folder, batch_size=20)
    assert not (folder / "report.html").exists()
    assert capsys.readouterr().out.endswith("scores.json, predictions.jsonl\n")


def test_nothing_half_written_is_left(run):
    assert not [path for path in run[0].iterdir() if path.name.endswith(".partial")]


def test_perplexity_is_that_of_the_true_sentences_under_teacher_forcing(run, workdir):
    trained = load_trained(workdir)
    dataset = open_dataset(trained.data)
    rows = dataset.rows(["F004"])
    captions = CaptionTables(trained.aus, trained.vocabulary)
    batches = eval_iterator(dataset, rows, captions, trained.data, batch_size=len(rows))
    batch = next(batches)
    batches.close()
    tokens = {kind: batch[f"{kind}_tokens"] for kind in ("local", "global")}
    outputs = jax.jit(trained.model.apply)(
        {"params": trained.params}, normalise(batch["image"]), tokens["local"], tokens["global"]
    )
    for kind, logits in (("local", outputs.local_logits), ("global", outputs.global_logits)):
        words = tokens[kind][..., 1:]
        logs = jnp.take_along_axis(jax.nn.log_softmax(logits), words[..., None], -1)[..., 0]
        expected = np.exp(-np.asarray(logs)[words != PAD].mean())
        found = run[1]["language"][kind]
        assert found["perplexity"] == pytest.approx(expected, rel=1e-4)
        assert found["sentences"] == (words != PAD).any(-1).sum()
        assert found["distinct"] >= 1 and found["distinct_true"] > 1
        assert 0 <= found["bleu_4"] < 1 and 0 <= found["bleu_1"] < 1


def test_no_workdir(tmp_path):
    with pytest.raises(UserError, match="missing"):
        evaluating.evaluate(tmp_path)


def test_scores_while_training_are_evaluates(run, workdir):
    experiment = build_experiment(resolve(json.loads((workdir / "config.json").read_text())))
    found = score_during_training(experiment, load_trained(workdir).params)
    assert found["mean_f1"] == pytest.approx(run[1]["mean_f1"])


def test_scores_json_holds_the_options_that_shaped_training(run):
    _, scores = run
    options = scores["data"]
    assert options.keys() >= {
        *("balance_classes", "balance_subjects", "mixture_weights", "min_area", "flip"),
        *("jitter", "erasing", "threshold", "validation_subjects"),
    }
    assert options["validation_subjects"] == 0 and options["flip"] is True
    assert "data_dir" not in options
