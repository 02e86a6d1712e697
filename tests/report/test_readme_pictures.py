"""The pictures of the README: which faces they take, and that drawing marks what is wrong."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.report.readme_pictures import (
    ACTIVE_UNITS,
    Described,
    choose_lines,
    draw_card,
    draw_results,
)

AUS = (1, 2, 4, 6, 7, 10, 12)


def line(subject, frame, active):
    labels = [1] * active + [0] * (len(AUS) - active)
    per_au = {str(au): {"label": label} for au, label in zip(AUS, labels, strict=True)}
    return {"subject": subject, "frame": frame, "per_au": per_au}


@pytest.fixture
def described(rng):
    labels = np.array([True] * 5 + [False] * 2)
    probabilities = np.array([0.9, 0.8, 0.7, 0.9, 0.2, 0.6, 0.1])  # AU7 missed, AU10 a false alarm
    sentences = tuple(f"sentence about unit {au}" for au in AUS)
    prediction = Prediction(AUS, probabilities, probabilities > 0.5, sentences, "the whole face")
    face = rng.integers(0, 256, (32, 32, 3), np.uint8)
    return Described(face, labels, prediction, rng.random((len(AUS), 7, 7)))


def texts(figure):
    figure.canvas.draw()
    found = figure.findobj(match=Text)
    return {text.get_text().replace("\n", " "): text.get_color() for text in found}


def test_faces_are_chosen_by_their_labels():
    lines = [line("F001", 1, 2), line("F002", 1, 6), line("F001", 2, 5), line("F002", 2, 6)]
    card, *people = choose_lines(lines)
    assert card is lines[2] and ACTIVE_UNITS == 5
    assert people == [lines[2], lines[1]]


def test_the_card_has_every_score_and_the_sentences_of_active_units(described):
    figure = draw_card(described)
    drawn = texts(figure)
    assert {"0.90", "0.20", "0.60", "the whole face", "AU7 lid tightener"} <= drawn.keys()
    expected = {f"sentence about unit {au}" for au in AUS[:5]}
    assert {text for text in drawn if text.startswith("sentence about unit")} == expected
    plt.close(figure)


def test_the_results_colour_what_was_missed_and_what_was_a_false_alarm(described):
    per_au = {str(au): {"f1": 0.5 + au / 100} for au in AUS}
    scores = {
        "aus": AUS,
        "per_au": per_au,
        "floors_per_au": {"all_on": {str(au): 0.1 for au in AUS}},
        "frames": 1234,
        "test_subjects": ["F001"],
    }
    figure = draw_results(scores, [described])
    drawn = texts(figure)
    assert "0.51" in drawn and "F1 on 1,234 rendered faces of 1 new subjects" in drawn
    assert drawn["7"] == drawn["missed"] != drawn["1"] == drawn["detected"]
    assert drawn["10"] == drawn["false alarm"]
    plt.close(figure)
