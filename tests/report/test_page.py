import dataclasses
import math
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from vlfau_jax.data.text.descriptions import global_description, local_description
from vlfau_jax.evaluation.faces import DescribedFace
from vlfau_jax.facs import DISFA_AUS
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.report import render
from vlfau_jax.report.charts import line_chart, number, thin, ticks
from vlfau_jax.report.faces import overlay, verdict

HOSTILE = "<script src='https://evil.example/x.js'></script>\"&"


def scores(**changes):
    unit = {
        "precision": 0.8,
        "recall": 0.7,
        "f1": 0.75,
        "accuracy": 0.9,
        "auc": 0.93,
        "positives": 31,
        "frames": 96,
    }
    floor = {str(au): 0.4 for au in DISFA_AUS}
    return {
        "mean_f1": 0.75,
        "aus": list(DISFA_AUS),
        "per_au": {str(au): unit for au in DISFA_AUS},
        "floors": {"all_on": 0.4, "best_constant": 0.0},
        "floors_per_au": {"all_on": floor, "best_constant": floor},
        "explanations": {
            "polarity_accuracy": 0.93,
            "polarity_constant": 0.71,
            "agreement": 0.95,
            "global_f1": 0.8,
            "noun_accuracy": None,
            "note": "",
        },
        "captions": ["local", "global"],
        "beams": 1,
        "dataset": "disfa",
        "fold": 1,
        "test_subjects": ["SN003", HOSTILE],
        "frames": 96,
        "threshold": 0.5,
        "per_dataset": {},
        "validation_subjects": [],
        "label_rule": "active where the intensity is 2 or more",
        "excluded_stretches": "none",
        "layout": "raw",
        "camera": "left",
        "frame_offset": 0,
        "average": "pooled",
        "checkpoint": "last",
        "step": 1500,
        "beginning": "<b>random</b> parameters",
        "image_size": 32,
        "crop_rule": {"name": "cascade", "digest": "0123456789abcdef"},
        "note": "SYNTHETIC FACES",
        "config_digest": "ab" * 32,
        **changes,
    }


def face(labels, said=None, title="SN003, task 1, frame 7", rng=None):
    rng = rng or np.random.default_rng(0)
    labels = np.asarray(labels, np.int8)
    active = np.asarray(labels == 1 if said is None else said)
    sentences = [local_description(au, bool(on)) for au, on in zip(DISFA_AUS, active, strict=True)]
    return DescribedFace(
        title=title,
        image=rng.integers(0, 256, (32, 32, 3), np.uint8),
        prediction=Prediction(
            DISFA_AUS,
            np.where(active, 0.9, 0.1),
            active,
            tuple(sentences),
            global_description(DISFA_AUS, active.tolist(), "person"),
        ),
        labels=labels,
        true_sentence=None,
        spatial_maps=rng.random((8, 4, 4)),
        attention=rng.random((8, 4, 4)),
    )


RECORDS = [{"step": s, "total": 2.0 / s, "au": 1.0 / s, "learning_rate": 1e-3} for s in range(1, 9)]


class Page(HTMLParser):
    """Elements and attributes of a page; checks that tags are closed in order."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text, self.open = [], [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            v for k, v in attrs if k in ("src", "href", "action", "srcset", "xlink:href")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_nothing_from_outside():
    text = render(scores(), RECORDS, [face([1, 0, 0, 1, 0, -1, 0, 0])])
    page = Page(text)
    assert page.open == []
    assert page.links and all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in text and "url(" not in text
    assert page.tags.count("polyline") == 3
    assert "SYNTHETIC FACES" in page.text


def test_hostile_text_stays_text():
    one = face([1, 0, 0, 1, 0, 0, 0, 0], title=HOSTILE)
    rude = Prediction(
        one.prediction.aus,
        one.prediction.probabilities,
        one.prediction.active,
        (HOSTILE,) * 8,
        HOSTILE,
    )
    hostile = DescribedFace(
        HOSTILE, one.image, rude, one.labels, HOSTILE, one.spatial_maps, one.attention
    )
    text = render(scores(note=HOSTILE), RECORDS, [hostile])
    page = Page(text)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 5
    assert not any("evil" in link for link in page.links)


def test_without_metrics_and_without_a_note():
    text = render(scores(note="", mean_f1=None), [], [])
    page = Page(text)
    assert "no training metrics" in page.text
    assert 'class="warn"' not in text
    assert "96 test frames of 2 people never trained on: SN003, " in page.text


def test_one_person_is_a_person():
    text = render(scores(test_subjects=["SN003"]), [], [])
    assert "96 test frames of 1 person never trained on: SN003." in text


@pytest.mark.parametrize(
    ("said", "label", "expected"),
    [(True, 1, "right"), (True, 0, "wrong"), (False, 0, "right"), (True, -1, "unjudged")],
)
def test_verdicts(said, label, expected):
    assert verdict(said, label) == expected


def test_a_sentence_that_lies_is_marked_wrong():
    truthful = render(scores(), [], [face([1, 0, 0, 0, 0, 0, 0, 0])])
    lying = render(scores(), [], [face([1, 0, 0, 0, 0, 0, 0, 0], said=np.ones(8, bool))])
    assert '<li class="wrong">' not in truthful
    assert "against its score" not in truthful + lying
    assert lying.count('<li class="wrong">') == 14  # seven units, among the active and among all


def test_overlay_colours_the_peak_and_leaves_the_low_alone():
    image = np.full((64, 64, 3), 100, np.uint8)
    heat = np.zeros((4, 4))
    heat[0, 0] = 1.0
    shown = overlay(image, heat).astype(int)
    changed = np.abs(shown - 100).sum(-1)
    assert changed[4, 4] > 60
    assert changed[40:, 40:].max() == 0
    assert (overlay(image, np.full((4, 4), 0.3)) == image).all()
    assert (image == 100).all()


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.93, 0.97), (-3, 41), (5, 5), (0, 0), (1e-7, 2e-3)]
)
def test_ticks_span_the_range_in_round_steps(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low + 1e-12 and marks[-1] >= high - 1e-12
    assert 2 <= len(marks) <= 8
    step = marks[1] - marks[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert round(mantissa, 6) in (1, 2, 5)


def test_chart_draws_finite_points_only():
    chart = line_chart("t", {"a": [(0, 1), (1, math.nan), (2, 3)], "b": []}, x_label="x", unit="")
    assert chart.count("<polyline") == 1 and "nan" not in chart
    assert line_chart("t", {"a": [(0, 1)]}, x_label="x", unit="") == ""


def test_thinning_keeps_the_mean():
    points = [(float(k), float(k % 7)) for k in range(1000)]
    thinned = thin(points)
    assert len(thinned) == 250
    assert np.mean([y for _, y in thinned]) == pytest.approx(np.mean([y for _, y in points]))


def test_numbers_are_short():
    assert [number(v) for v in (0.0, 0.002, 5e-5, 1500.0, 0.30000000000000004)] == [
        "0",
        "0.002",
        "5e-5",
        "1500",
        "0.3",
    ]


def test_pictures_keep_their_pixels():
    page = Page(render(scores(), [], [face([0] * 8)]))
    import base64

    data = base64.b64decode(page.links[0].partition(",")[2])
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    expected = cv2.resize(face([0] * 8).image, picture.shape[:2], interpolation=cv2.INTER_CUBIC)
    assert np.abs(picture.astype(int) - expected).mean() < 12


@pytest.mark.parametrize(
    ("captions", "kept"),
    [(["local"], "sentences"), (["global"], "sentence"), ([], None)],
)
def test_what_the_model_does_not_write_is_not_shown(captions, kept):
    one = face([1, 0, 0, 1, 0, 0, 0, 0])
    lost = {name: None for name in ("sentences", "sentence") if name != kept}
    prediction = dataclasses.replace(one.prediction, **lost)
    quiet = dataclasses.replace(
        one, prediction=prediction, attention=one.attention if "local" in captions else None
    )
    text = render(scores(captions=captions), [], [quiet])
    page = Page(text)
    assert page.open == [] and "None" not in page.text
    assert ("Says" in page.text) == ("global" in captions)
    assert ("all 8 sentences" in page.text) == ("local" in captions)
    assert ("local sentences" in page.text) == ("local" in captions)
    assert ("about the whole face name" in page.text) == ("global" in captions)
    assert ("words look" in page.text) == ("local" in captions)
    assert "branch looks" in page.text and "This model writes no sentences about" in page.text


def test_a_branch_that_looks_everywhere_alike_has_no_map():
    one = face([1, 0, 0, 1, 0, 0, 0, 0])
    wordy = render(scores(), [], [dataclasses.replace(one, spatial_maps=None)])
    assert "branch looks" not in wordy and "words look" in wordy
    assert "Maps: where its sentence" in wordy
    blind = render(scores(), [], [dataclasses.replace(one, spatial_maps=None, attention=None)])
    assert 'class="maps"' not in blind and "Maps:" not in blind
    pictures = [Page(render(scores(), [], [f])).tags.count("img") for f in (one,)]
    assert pictures == [1 + 2 * 2] and Page(wordy).tags.count("img") == 1 + 2
    assert Page(blind).tags.count("img") == 1


def test_a_sentence_against_its_own_score_is_marked_so():
    one = face([1, 0, 0, 0, 0, 0, 0, 0])
    off = dataclasses.replace(one.prediction, active=np.zeros(8, bool))
    text = render(scores(), [], [dataclasses.replace(one, prediction=off)])
    assert text.count("says on, against its score of 0.90") == 2  # among the missed and among all
