"""The pictures of `inspect`: everything asked for is drawn, inside the picture, over nothing."""

import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from vlfau_jax.data.read.statistics import count, phi
from vlfau_jax.data.text.descriptions import global_description, local_description
from vlfau_jax.facs import ACTION_UNITS, DISFA_AUS
from vlfau_jax.report import label_pictures, sheets
from vlfau_jax.report.contact_sheet import FACE, contact_sheet, enlarged
from vlfau_jax.report.cooccurrence_picture import cooccurrence_picture
from vlfau_jax.report.formats import percent, signed, undefined
from vlfau_jax.report.label_pictures import label_picture
from vlfau_jax.report.label_record import Subject
from vlfau_jax.report.label_text import strongest
from vlfau_jax.report.plots import drawing
from vlfau_jax.report.sheets import Heading, save, shorten, text_width, wrap
from vlfau_jax.report.training_faces import NO_SENTENCE, UNKNOWN, TrainingFace

EVERY_AU = tuple(ACTION_UNITS)
LONG = "W" * 400
HEADING = Heading("Title", "about it " * 60, "SYNTHETIC FACES: rendered")


class Drawn(list):
    """Every text that was drawn: (figure, text, its box in pixels)."""

    @property
    def texts(self):
        return [text for _, text, _ in self]

    def check(self):
        """Nothing is cut off by the picture's edge, and no two texts of a picture overlap."""
        assert self
        figures = {id(figure): figure for figure, _, _ in self}
        for key, figure in figures.items():
            found = [(text, box) for other, text, box in self if id(other) == key]
            width, height = figure.canvas.get_width_height()
            boxes = np.array([box for _, box in found])
            inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
            assert inside.all(), [found[k] for k in np.flatnonzero(~inside)]
            x0, y0, x1, y1 = boxes.T
            across = (x0[:, None] < x1) & (x0 < x1[:, None])
            upright = (y0[:, None] < y1) & (y0 < y1[:, None])
            pairs = np.argwhere(np.triu(across & upright, 1))
            assert not len(pairs), [(found[i], found[j]) for i, j in pairs[:5]]


@pytest.fixture
def drawn(monkeypatch):
    found = Drawn()

    class Canvas(sheets.FigureCanvasAgg):
        def draw(self):
            super().draw()
            for text in self.figure.findobj(Text):
                if text.get_visible() and text.get_text().strip():
                    box = text.get_window_extent(self.get_renderer())
                    found.append((self.figure, text.get_text(), box.extents))

    monkeypatch.setattr(sheets, "FigureCanvasAgg", Canvas)
    return found


def training_face(labels, title="F001, task 1, frame 7", aus=DISFA_AUS):
    labels = np.asarray(labels, np.int8)
    known = (labels >= 0).all()
    return TrainingFace(
        title,
        np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8),
        labels,
        global_description(aus, labels > 0, "woman") if known else "",
        tuple(
            local_description(au, bool(on)) if on >= 0 else ""
            for au, on in zip(aus, labels, strict=True)
        ),
    )


def test_a_face_with_its_labels_and_sentences(drawn):
    face = training_face([1, 0, 0, 0, 0, 1, 0, 0])
    contact_sheet([face], DISFA_AUS, HEADING)
    drawn.check()
    assert drawn.texts.count("on") == 2
    assert drawn.texts.count("off") == 6
    for sentence in (face.sentence, *face.sentences):
        assert sentence in " ".join(drawn.texts)
    assert "AU12 lip corner puller" in drawn.texts
    assert "SYNTHETIC FACES: rendered" in drawn.texts


def test_an_unknown_label_is_stated_to_be_masked(drawn):
    contact_sheet([training_face([1, -1, 0, 0, 0, 0, 0, 0])], DISFA_AUS, HEADING)
    drawn.check()
    assert drawn.texts.count("?") == 1
    assert drawn.texts.count(UNKNOWN) == 1
    assert NO_SENTENCE in " ".join(drawn.texts)


@pytest.mark.parametrize("faces", [1, 2, 5])
def test_the_sheet_shows_every_face_at_its_own_pixels(drawn, faces):
    cards = [
        training_face(np.ones(len(EVERY_AU)), title=f"{k} {LONG}", aus=EVERY_AU)
        for k in range(faces)
    ]
    sheet = contact_sheet(cards, EVERY_AU, HEADING)
    drawn.check()
    assert sum(text.startswith(f"{faces - 1} W") for text in drawn.texts) == 1
    for au, unit in ACTION_UNITS.items():
        assert drawn.texts.count(f"AU{au:02d} {unit.name}") == faces, "names are whole"
    face = enlarged(cards[0].image)
    top = face[0].tobytes()
    places = [
        (y, found.start() // 3)
        for y, row in enumerate(sheet)
        for found in re.finditer(re.escape(top), row.tobytes())
    ]
    assert len(places) == faces
    for y, x in places:
        np.testing.assert_array_equal(sheet[y : y + FACE, x : x + FACE], face)


def random_labels(rng, frames, aus=EVERY_AU):
    return rng.random((frames, len(aus))) < 0.3, rng.random((frames, len(aus))) < 0.9


def test_labels_are_drawn_with_their_numbers(drawn, rng):
    au, known = random_labels(rng, 200_000)
    known[:, 3] = False
    au[:, 4] = False
    sets = {
        "training": count(au[:100_000], known[:100_000]),
        "validation": count(au[100_000:120_000], known[100_000:120_000]),
        "test": count(au[120_000:], known[120_000:]),
    }
    subjects = [Subject(f"{k}{LONG}", "validation", count(au[k::9], known[k::9])) for k in range(9)]
    label_picture(EVERY_AU, sets, subjects, HEADING)
    drawn.check()
    texts = drawn.texts
    assert "SYNTHETIC FACES: rendered" in texts
    for counts in sets.values():
        assert percent(counts.rates[0]) in texts
        unknown = counts.frames - counts.known[0]
        assert f"{counts.active[0]:,} of {counts.known[0]:,}, {unknown:,} unknown" in texts
        assert f"{100 * counts.together[2] / counts.frames:.1f}" in texts
    assert texts.count("-") == 3, "a rate of nothing known"
    assert texts.count("?") == 9, "no subject's labels of that unit are known"
    assert all(f"AU{au:02d}" in texts for au in EVERY_AU)


def test_bars_are_as_long_as_their_rates(rng):
    au, known = random_labels(rng, 400, DISFA_AUS)
    counts = count(au, np.ones_like(known))
    nobody = Subject("F001", "training", count(au[:1], known[:1] & False))
    picture = label_picture(DISFA_AUS, {"training": counts}, [nobody], HEADING)
    accent = np.array([int(sheets.LIGHT.accent[i : i + 2], 16) for i in (1, 3, 5)])
    lengths = (picture == accent).all(-1).sum(1)
    bars = [
        run.max()
        for run in np.split(lengths, np.flatnonzero(lengths == 0))
        if run.max(initial=0) > 20
    ]
    room = sheets.WIDTH - 2 * sheets.MARGIN - label_pictures.NAME - label_pictures.COUNTS
    np.testing.assert_allclose(np.array(bars[:8]) / room, counts.rates, atol=3 / room)


def test_a_set_without_frames_and_many_subjects(drawn, rng):
    au, known = random_labels(rng, 40, DISFA_AUS)
    sets = {"training": count(au, known), "test": count(au[:0], known[:0])}
    crowd = [Subject(f"P{k}", "training", count(au[:1], known[:1])) for k in range(500)]
    label_picture(DISFA_AUS, sets, crowd, HEADING)
    drawn.check()
    assert f"P{label_pictures.MOST_SUBJECTS - 1}" in drawn.texts
    assert any("120 of 500 subjects, labels.json has all" in text for text in drawn.texts)


def numbers(matrix):
    return [[None if undefined(value) else float(value) for value in row] for row in matrix]


def test_cooccurrence_in_numbers_and_pairs(drawn, rng):
    au, known = random_labels(rng, 300)
    au[:, 1] = au[:, 0]
    au[:, 2] = ~au[:, 0]
    au[:, 5] = False
    together = numbers(phi(au, known))
    cooccurrence_picture(together, EVERY_AU, HEADING)
    drawn.check()
    texts = drawn.texts
    assert texts.count("+1.00") == 2 + 1, "two cells and the pair"
    assert texts.count("-1.00") == 2 * (2 + 1)
    assert texts.count("-") == 2 * (len(EVERY_AU) - 1), (
        "a unit that never changes: its row and column"
    )
    pairs = strongest(together, EVERY_AU, 3)
    assert {frozenset(pair[:2]) for pair in pairs} == {
        frozenset(pair) for pair in ((1, 2), (1, 4), (2, 4))
    }
    assert "SYNTHETIC FACES: rendered" in texts


def test_no_pair_at_all(drawn):
    nothing = [[None, None], [None, None]]
    cooccurrence_picture(nothing, (1, 2), HEADING)
    drawn.check()
    assert "no two units of which both change" in drawn.texts
    assert strongest(nothing, (1, 2), 5) == []


def test_names_are_text_whatever_their_characters(drawn, rng):
    au, known = random_labels(rng, 20, DISFA_AUS)
    names = [r"$\frac{1$", "a_b^c", "\u5f20\u4f1f", "<b>&amp;"]
    subjects = [Subject(name, "test", count(au, known)) for name in names]
    label_picture(DISFA_AUS, {"training": count(au, known)}, subjects, HEADING)
    drawn.check()
    assert set(names) <= set(drawn.texts)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x24F)), st.integers(40, 600))
def test_wrapped_text_has_room_and_loses_no_word(text, room):
    with drawing():
        lines = wrap(text, room)
        assert all(text_width(line) <= room for line in lines)
        if all(text_width(word) <= room for word in text.split()):
            assert " ".join(lines).split() == text.split()


def test_shortened_text_ends_in_dots():
    assert shorten("short", 200) == "short"
    cut = shorten("lip corner depressor", 90)
    assert cut.endswith("...")
    assert text_width(cut) <= 90


def test_a_picture_is_saved_as_it_is(tmp_path, rng):
    picture = rng.integers(0, 256, (7, 5, 3), np.uint8)
    save(picture, tmp_path / "picture.png.partial")
    read = cv2.imdecode(np.fromfile(tmp_path / "picture.png.partial", np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read[..., ::-1], picture)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.54, "+.54"), (-0.26, "-.26"), (1.0, "+1.00"), (-0.999, "-1.00"), (0.001, ".00")],
)
def test_coefficients_are_short(value, text):
    assert signed(value) == text


def test_undefined_numbers_are_dashes():
    assert (signed(None), percent(float("nan")), percent(None)) == ("-", "-", "-")
