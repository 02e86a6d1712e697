"""report.html: what it holds, from scores, curves and faces of every kind."""

import base64
import dataclasses
import json
import re

import cv2
import numpy as np
import pytest

from tests.evaluation.example_scores import example
from tests.report.examples import HOSTILE, RECORDS, face, scores
from tests.report.html_tree import addresses, check_table, parse
from vlfau_jax.evaluation.faces import RULES
from vlfau_jax.facs import ACTION_UNITS, DISFA_AUS
from vlfau_jax.inference.explained import WordMaps
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.metrics.kinds import NumberOfFrames
from vlfau_jax.metrics.table import (
    AU_CHOICES,
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    map_score_names,
)
from vlfau_jax.report import render
from vlfau_jax.report import scores as report_scores
from vlfau_jax.report.templating import script

LABELS = [1, 0, 0, 1, 0, -1, 0, 0]


def page_of(faces=(), records=(), **changes):
    return parse(render(scores(**changes), records, faces))


def captioned(page, caption):
    (table,) = [t for t in page.all("table") if t.one("caption").text == caption]
    return table


def units_table(page):
    return captioned(page, "Scores of every action unit, with floors")


def face_rows(card):
    return card.one("table").one("tbody").all("tr")


def test_the_page_is_whole_and_needs_nothing_from_outside():
    page = page_of([face(LABELS)], RECORDS)
    found = addresses(page)
    inside = [address for address in found if address.startswith("#")]
    ids = {element.attributes.get("id") for element in page.all()}
    assert {address[1:] for address in inside} <= ids
    pictures = [address for address in found if address not in inside]
    assert len(pictures) > 20 and all(address.startswith("data:image/") for address in pictures)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {e.tag for e in page.all()}
    assert page.one("p", "warn").text == "SYNTHETIC FACES"


def test_the_plots_are_drawings_that_refer_to_nothing():
    page = page_of(records=RECORDS)
    plots = [a for a in addresses(page) if a.startswith("data:image/svg+xml")]
    assert len(plots) == 2 * 3, "three charts, light and dark"
    assert len(set(plots)) == len(plots)
    for plot in plots:
        svg = base64.b64decode(plot.partition(",")[2]).decode()
        assert svg.count("<path") > 2
        assert all(address.startswith("#") for address in re.findall(r"url\((.)", svg))
        assert "href=" not in svg and "<script" not in svg and "<image" not in svg


def test_the_only_scripts_are_ours_and_data():
    page = page_of([face(LABELS)], RECORDS)
    data, code = page.all("script")
    assert data["type"] == "application/json" and set(data.attributes) == {"type", "id"}
    assert not code.attributes and code.raw == script()
    handlers = [n for e in page.all() for n in e.attributes if n.startswith("on")]
    assert not handlers
    charts = json.loads(data.raw)["charts"]
    assert [one["series"][0]["name"] for one in charts] == ["total", "au", "learning_rate"]
    assert charts[0]["series"][0]["points"][:2] == [[1, 2], [2, 1]]
    for chart in charts:
        left, top, right, bottom = chart["box"]
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        assert chart["x"] == [1, 8]


def test_maps_and_hidden_parts_are_scored_where_they_are_known():
    assert not page_of().all("h3")
    names = map_score_names()
    unit = {name: k / 100 for k, name in enumerate(names, 11)}
    unit |= {"region_area": 0.1, "map_frames": 3}
    means = {name: k / 100 for k, name in enumerate(names, 31)}
    found = {
        "faces": 3,
        "cases": 4,
        "regions": "exact",
        "cover": {"drop": 0.512, "control_drop": 0.1, "silenced": None, "control_silenced": 0.2},
        "deletion": {"branch": 0.301, "random": 0.4},
        "insertion": {"branch": 0.7, "random": 0.6},
        "per_au": {},
    }
    page = page_of(
        maps_per_au={str(au): unit for au in DISFA_AUS},
        counterfactual=found,
        explanations=scores()["explanations"] | means,
    )
    assert [heading.text for heading in page.all("h3")] == ["Attention maps", "Hidden parts"]
    (table,) = [t for t in page.all("table") if "pointing game, words" in t.text]
    check_table(table)
    assert len(table.one("tbody").all("tr")) == len(DISFA_AUS)
    cells = [cell.text for cell in table.one("tfoot").all("td")]
    order = ["pointing_game", "words_pointing_game", "pointing_game_even"]
    order += ["mass_in_region", "words_mass_in_region", "mass_in_region_even"]
    assert cells == [f"{means[name]:.3f}" for name in order]
    told = page.all("p", "soft")
    assert any("falls by 0.512" in p.text and "branch 0.301, random 0.400;" in p.text for p in told)


def test_hostile_text_stays_text():
    one = face(LABELS)
    prediction = Prediction(
        one.prediction.aus,
        one.prediction.probabilities,
        one.prediction.active,
        (HOSTILE,) * 8,
        HOSTILE,
    )
    words = WordMaps((HOSTILE,), np.ones((1, 4, 4)))
    hostile = dataclasses.replace(
        one,
        title=HOSTILE,
        prediction=prediction,
        true_sentence=HOSTILE,
        states=np.full(8, -1),
        words=(words,) * 8,
        global_words=words,
    )
    records = [{**record, f"test_{HOSTILE}": 0.5} for record in RECORDS]
    changes = {
        "note": HOSTILE,
        "dataset": HOSTILE,
        "beginning": HOSTILE,
        "label_rule": {HOSTILE: HOSTILE},
        "explanations": {**scores()["explanations"], "note": HOSTILE},
    }
    page = page_of([hostile], records, **changes)
    harmless = page_of([one], [{**record, "test_x": 0.5} for record in RECORDS])
    assert sorted({e.tag for e in page.all()}) == sorted({e.tag for e in harmless.all()})
    assert len(page.all("script")) == 2 and page.all("script")[1].raw == script()
    assert page.text.count(HOSTILE) >= 8 + 8
    assert not any("evil" in address for address in addresses(page))
    (data, _) = page.all("script")
    assert "<" not in data.raw
    names = [s["name"] for chart in json.loads(data.raw)["charts"] for s in chart["series"]]
    assert f"test_{HOSTILE}" in names


def test_every_metric_of_the_table_is_on_the_page():
    table = units_table(page_of())
    check_table(table)
    heads = [head.text for head in table.one("thead").all("th")]
    first, *others = (metric.heading for metric in AU_METRICS)
    floors = [floor.heading for floor in AU_FLOORS]
    choices = [choice.heading for choice in AU_CHOICES]
    around = [first, *floors, "F1 low", "F1 high", *choices]
    assert heads == ["unit", f"{first} and floors", *around, *others]
    rows = table.one("tbody").all("tr")
    names = [f"AU{au:02d}{ACTION_UNITS[au].name}" for au in DISFA_AUS]
    assert [row.one("th").text for row in rows] == names
    cells = [cell.text for cell in rows[0].all("td")]
    shown = dict(zip(heads[2:], cells[1:], strict=True))
    expected = {"F1": "0.750", "all on": "0.400", "constant": "0.400", "precision": "0.800"}
    expected |= {"recall": "0.700", "accuracy": "0.900", "AUC": "0.930", "positives": "31"}
    assert expected | {"frames": "1,096", "MCC": "-"} == {
        heading: shown[heading] for heading in (*expected, "frames", "MCC")
    }
    assert [cell.text for cell in table.one("tfoot").all("td")][1:4] == ["0.750", "0.400", "0.000"]


def test_a_metric_is_added_in_the_table_alone(monkeypatch):
    added = NumberOfFrames("jaccard", "Jaccard", "Overlap, 0 to 1.", compute=None)
    monkeypatch.setattr(report_scores, "AU_METRICS", (*AU_METRICS, added))
    values = scores()
    for unit in values["per_au"].values():
        unit["jaccard"] = 0.625
    page = parse(render(values, [], []))
    table = units_table(page)
    assert table.one("thead").all("th")[-1].text == "Jaccard"
    assert {row.all("td")[-1].text for row in table.one("tbody").all("tr")} == {"0.625"}
    assert "Overlap, 0 to 1." in page.text


def test_intervals_words_groups_and_reliability_are_on_the_page():
    found = example()
    values = {**found.to_json(), "folds": None}
    page = parse(render(values, [], []))
    for table in page.all("table"):
        check_table(table)
    assert "95 % interval 0.000 to 1.000, by bootstrap over 3 subjects." in page.text
    assert "sex: female" in page.text and "Mean F1 of every group" in page.text
    assert "BLEU-4" in page.text and "Tokens: words" in page.text
    assert "Reliability" in page.text
    (chart,) = json.loads(page.all("script")[0].raw)["charts"]
    assert (chart["axis"], chart["x"]) == ("probability", [0, 1])
    points = [[p, share] for p, share, _ in values["calibration"]["all"]]
    np.testing.assert_allclose(chart["series"][0]["points"], points, rtol=1e-5)
    assert "mean F1 0.750 at step 5; chosen by those who are tested, and no result" in page.text
    cells = [cell.text for cell in units_table(page).one("tbody").all("tr")[0].all("td")]
    assert cells[4:8] == ["0.000", "1.000", "-", "0.800"]


def test_headlines_are_the_explanations_with_a_value_and_their_floors():
    cards = [card.text for card in page_of().one(class_="figures").all(class_="card")]
    given = scores()["explanations"]
    names = [one.heading for one in EXPLANATION_METRICS if given.get(one.name) is not None]
    assert len(names) == 4
    assert len(cards) == 1 + len(names)
    assert cards[0].startswith("0.750mean F1 over 8 units")
    for card, name in zip(cards[1:], names, strict=True):
        assert name in card
    floored = next(metric for metric in EXPLANATION_METRICS if metric.floor)
    (card,) = [card for card in cards if card.startswith(f"0.930{floored.heading}")]
    assert f"Floor: {floored.floor.heading} 0.710" in card


def test_a_unit_without_positives_has_dashes_and_sorts_last():
    values = scores(mean_f1=None)
    values["per_au"]["1"] |= {"f1": None, "precision": None, "recall": None, "auc": None}
    rows = units_table(parse(render(values, [], []))).one("tbody").all("tr")
    cells = rows[0].all("td")
    assert cells[0].text == "no positives" and not cells[0].all(class_="meter")
    assert [(cell.text, cell["data-value"]) for cell in cells[1:2]] == [("-", "")]
    assert rows[1].all("td")[1]["data-value"] == "0.75"


def test_without_faces_metrics_and_note():
    page = page_of(note="", mean_f1=None)
    assert "no training metrics" in page.text and "No face" in page.text
    assert not page.all(class_="warn") and not page.all("article") and not page.all("figure")
    assert "1,096 test frames of 2 people never trained on" in page.text
    assert page.one("title").text == "VL-FAU: mean F1 -"


def test_one_person_is_a_person():
    assert "1,096 test frames of 1 person never" in page_of(test_subjects=["SN003"]).text


def test_the_protocol_is_stated():
    alone = {
        "mean_f1": 0.5,
        "floors": {"all_on": 0.4, "best_constant": None},
        "aus": [1, 2],
        "units_scored": 1,
        "frames": 1234,
    }
    page = page_of(
        camera=None,
        beams=3,
        validation_subjects=["SN009"],
        label_rule={"bp4d": "one", "disfa": "two"},
        per_dataset={"bp4d": alone},
        threshold={"1": 0.5, "2": 0.25, **{str(au): 0.5 for au in DISFA_AUS[2:]}},
    )
    terms = page.all("dl")[-1]
    found = dict(
        zip([t.text for t in terms.all("dt")], [d.text for d in terms.all("dd")], strict=True)
    )
    assert found["Tested on"] == f"2 people: SN003, {HOSTILE}"
    assert found["Labels"] == "bp4d: one; disfa: two"
    assert found["Camera"] == "the only one"
    assert found["Kept back for validation"] == "SN009"
    assert found["Sentence search"] == "3 beams"
    assert found["Checkpoint"] == "last, step 1,500"
    assert found["Threshold"].startswith("1: 0.5; 2: 0.25;")
    assert "mean F1 0.500" in found["bp4d alone"] and "1,234 frames" in found["bp4d alone"]
    assert "best of a search with 3 beams" in page_of([face(LABELS)], beams=3).text


def test_a_card_has_a_row_for_every_unit():
    card = page_of([face(LABELS)]).one("article")
    check_table(card.one("table"))
    rows = face_rows(card)
    assert [row.one(class_="chip").text for row in rows] == [
        {1: "on", 0: "off", -1: "unknown"}[label] for label in LABELS
    ]
    verdicts = [row.one(class_="score").one(class_="mark")["aria-label"] for row in rows]
    assert verdicts == ["right"] * 5 + ["unjudged"] + ["right"] * 2
    assert card.one("header").one("p").text == "7 of 7 units right, log loss 0.250"
    assert card["data-on"] == f"{DISFA_AUS[0]} {DISFA_AUS[3]}" == card["data-active"]
    assert card["data-wrong"] == ""
    assert all(image.attributes["alt"] for image in card.all("img"))


def test_the_thresholds_are_those_of_the_scores():
    page = page_of([face(LABELS)], threshold={str(au): au / 100 for au in DISFA_AUS})
    marks = [row.one(class_="meter").one("u")["style"] for row in face_rows(page.one("article"))]
    assert marks == [f"left:{au:.1f}%" for au in DISFA_AUS]


def test_a_false_sentence_is_marked_wrong():
    def verdicts(card):
        return [r.one(class_="sentence").one(class_="mark")["aria-label"] for r in face_rows(card)]

    truthful = page_of([face([1, 0, 0, 0, 0, 0, 0, 0])]).one("article")
    lying = page_of([face([1, 0, 0, 0, 0, 0, 0, 0], stated=np.ones(8, bool))]).one("article")
    assert verdicts(truthful) == ["right"] * 8
    assert verdicts(lying) == ["right"] + ["wrong"] * 7
    assert "against its score" not in truthful.text + lying.text


def test_a_sentence_against_its_own_score_is_marked_so():
    one = face([1, 0, 0, 0, 0, 0, 0, 0])
    off = dataclasses.replace(one.prediction, active=np.zeros(8, bool))
    card = page_of([dataclasses.replace(one, prediction=off)]).one("article")
    assert card.text.count("states on, against its score of 0.90") == 1


def test_pictures_keep_their_pixels():
    one = face([0] * 8)
    image = page_of([one]).one("article").one(class_="stage").all("img")[0]
    data = base64.b64decode(image["src"].partition(",")[2])
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    expected = cv2.resize(one.image, picture.shape[:2], interpolation=cv2.INTER_CUBIC)
    assert np.abs(picture.astype(int) - expected).mean() < 12


@pytest.mark.parametrize(
    ("captions", "kept"),
    [(["local"], "sentences"), (["global"], "sentence"), ([], None)],
)
def test_what_the_model_does_not_write_is_not_shown(captions, kept):
    one = face(LABELS)
    lost = {name: None for name in ("sentences", "sentence") if name != kept}
    without = dataclasses.replace(
        one,
        prediction=dataclasses.replace(one.prediction, **lost),
        attention=one.attention if "local" in captions else None,
    )
    page = page_of([without], captions=captions)
    card = page.one("article")
    assert "None" not in page.text
    assert ("Generated" in card.text) == ("global" in captions)
    assert len(card.all(class_="sentence")) == (8 if "local" in captions else 0)
    assert ("averaged over the words" in page.text) == ("local" in captions)
    assert "attention of the unit's branch" in page.text
    assert "This model writes no sentences about" in page.text
    check_table(card.one("table"))


def test_a_map_that_a_model_lacks_is_left_out():
    one = face(LABELS)
    both = page_of([one]).one("article")
    words = page_of([dataclasses.replace(one, spatial_maps=None)])
    neither = page_of([dataclasses.replace(one, spatial_maps=None, attention=None)])
    assert [len(p.all(class_="thumb")) for p in (both, words, neither)] == [16, 8, 0]
    assert "unit's branch" not in words.text and "averaged over the words" in words.text
    assert "Maps:" not in neither.text
    check_table(neither.one("article").one("table"))


def test_scores_of_an_evaluation_make_a_page():
    page = parse(render(example().to_json(), [], []))
    assert "bp4d alone" in page.text and "polarity_accuracy and agreement are null" in page.text
    rows = units_table(page).one("tbody").all("tr")
    assert [row.one("th")["data-value"] for row in rows] == ["1", "12"]
    assert "no positives" in rows[1].text


def test_a_card_says_which_rules_chose_it():
    two = dataclasses.replace(face(LABELS), chosen_by=("worst", "best"), log_loss=float("nan"))
    page = page_of([face(LABELS), two])
    one, other = page.all("article")
    assert [one["id"], other["id"]] == ["face-1", "face-2"]
    assert [c.text for c in other.all(class_="rule")] == ["worst", "best"]
    assert (one["data-rule"], other["data-rule"]) == ("representative", "worst best")
    assert "log loss" not in other.text
    for rule, (_, text) in RULES.items():
        assert f"{rule.capitalize()}: {text}." in page.text
    assert one.one(class_="open")["href"] == "#face-1"
    assert [option.text for option in page.one("select", data_filter="rule").all("option")] == [
        "any",
        *RULES,
    ]


def test_sentences_are_told_word_by_word_where_a_unit_is_on_or_scored_on():
    missed = face(LABELS, stated=np.array([0, 1, 0, 1, 0, 0, 0, 0], bool))
    page = page_of([missed, face([0] * 8)])
    first, second = json.loads(page.all("script")[0].raw)["faces"]
    card, _ = page.all("article")
    places = card.all(data_sentence="0") + card.all(data_sentence="1") + card.all(data_sentence="2")
    rows = face_rows(card)
    told = [bool(row.one(class_="words").attributes.get("data-sentence")) for row in rows]
    assert told == [True, True, False, True, False, False, False, False]
    for place, sentence in zip(places, first["sentences"], strict=False):
        assert "".join(sentence["words"]) == place.raw, "readable without the script"
    whole = card.one("dl").one(class_="words")
    assert whole["data-sentence"] == "3" and len(first["sentences"]) == 4
    assert len(second["sentences"]) == 1, "the whole face alone"


def test_words_that_are_not_the_sentence_are_not_shown():
    one = face(LABELS)
    other = dataclasses.replace(one.global_words, words=("another",) * len(one.global_words.words))
    changed = dataclasses.replace(one, global_words=other, words=(other,) * 8)
    page = page_of([changed])
    assert not page.all(data_sentence="0")
    assert json.loads(page.all("script")[0].raw)["faces"][0]["sentences"] == []
    assert "underlined words" not in page.text


def test_a_model_of_global_sentences_alone_has_a_place_for_its_words():
    one = face(LABELS)
    prediction = dataclasses.replace(one.prediction, sentences=None)
    alone = dataclasses.replace(one, prediction=prediction, attention=None, words=None)
    card = page_of([alone], captions=["global"]).one("article")
    assert [figure["data-layer"] for figure in card.all("figure")] == ["face", "branch", "words"]


def test_the_page_stays_small():
    """A face of words that are told costs what its maps need: a byte a cell."""
    with_words = len(render(scores(), [], [face(LABELS)] * 5))
    without = [dataclasses.replace(face(LABELS), words=None, global_words=None)] * 5
    words = sum(len(w.words) for w, on in zip(face(LABELS).words, LABELS, strict=True) if on == 1)
    words += len(face(LABELS).global_words.words)
    assert with_words - len(render(scores(), [], without)) < 5 * words * (2 * 16 + 20) + 5 * 500
