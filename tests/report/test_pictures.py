"""The pictures of `inspect`: everything asked for is written, inside its block, over nothing."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vlfau_jax.report.canvas import Heading, shorten, width, wrap
from vlfau_jax.report.style import STYLE

from vlfau_jax.data.read.statistics import count, phi
from vlfau_jax.data.text.descriptions import global_description, local_description
from vlfau_jax.facs import ACTION_UNITS, DISFA_AUS
from vlfau_jax.report import canvas, label_pictures
from vlfau_jax.report.contact_sheet import FACE, NO_SENTENCE, UNKNOWN, Shown, contact_sheet
from vlfau_jax.report.label_pictures import (
    Person,
    cooccurrence_picture,
    label_picture,
    percent,
    signed,
    strongest,
)

EVERY_AU = tuple(ACTION_UNITS)
LONG = "W" * 400
HEADING = Heading("Title", "about it " * 60, "SYNTHETIC FACES: rendered")


class Written(list):
    """Every text that was drawn, by block: (block, text, box around it)."""

    @property
    def texts(self):
        return [text for _, text, _ in self]

    def check(self):
        """Nothing is cut off by its block's edge, and no two texts of a block overlap."""
        for block, text, (x0, y0, x1, y1) in self:
            w, h = block.image.size
            assert x0 >= 0 and x1 <= w and y0 >= 0 and y1 <= h, text
        blocks = {id(block): [] for block, _, _ in self}
        for block, text, box in self:
            for other, (x0, y0, x1, y1) in blocks[id(block)]:
                apart = box[0] >= x1 or x0 >= box[2] or box[1] >= y1 or y0 >= box[3]
                assert apart, (text, other)
            blocks[id(block)].append((text, box))


@pytest.fixture
def written(monkeypatch):
    found, draw = Written(), canvas.Block.text

    def text(self, x, y, text, **style):
        draw(self, x, y, text, **style)
        font = canvas.font(style.get("size", canvas.TEXT))
        box = self._draw.textbbox((x, y), text, font=font, anchor=style.get("anchor", "ls"))
        if text:
            found.append((self, text, box))

    monkeypatch.setattr(canvas.Block, "text", text)
    return found


def shown(labels, title="F001, task 1, frame 7", aus=DISFA_AUS):
    labels = np.asarray(labels, np.int8)
    known = (labels >= 0).all()
    return Shown(
        title,
        np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8),
        labels,
        global_description(aus, labels > 0, "woman") if known else "",
        tuple(
            local_description(au, bool(on)) if on >= 0 else ""
            for au, on in zip(aus, labels, strict=True)
        ),
    )


def drawn(words):
    """The written lines as one text: sentences are wrapped."""
    return " ".join(words)


def test_a_face_with_its_labels_and_sentences(written):
    face = shown([1, 0, 0, 0, 0, 1, 0, 0])
    contact_sheet([face], DISFA_AUS, HEADING)
    written.check()
    assert written.texts.count("on") == 2
    assert written.texts.count("off") == 6
    for sentence in (face.sentence, *face.sentences):
        assert sentence in drawn(written.texts)
    assert "AU12 lip corner puller" in written.texts
    assert "SYNTHETIC FACES: rendered" in written.texts


def test_an_unknown_label_is_said_to_be_masked(written):
    contact_sheet([shown([1, -1, 0, 0, 0, 0, 0, 0])], DISFA_AUS, HEADING)
    written.check()
    assert written.texts.count("?") == 1
    assert written.texts.count(UNKNOWN) == 1
    assert NO_SENTENCE in drawn(written.texts)


@pytest.mark.parametrize("faces", [1, 2, 5])
def test_the_sheet_shows_every_face_at_its_own_pixels(written, faces):
    cards = [shown(np.ones(15), title=f"{k} {LONG}", aus=EVERY_AU) for k in range(faces)]
    sheet = np.asarray(contact_sheet(cards, EVERY_AU, HEADING))
    written.check()
    assert sum(text.startswith(f"{faces - 1} W") for text in written.texts) == 1
    for au, unit in ACTION_UNITS.items():
        assert written.texts.count(f"AU{au:02d} {unit.name}") == faces, "names are whole"
    face = canvas.enlarged(cards[0].image, FACE)
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


def test_labels_are_drawn_with_their_numbers(written, rng):
    au, known = random_labels(rng, 200_000)
    known[:, 3] = False
    au[:, 4] = False
    sets = {
        "training": count(au[:100_000], known[:100_000]),
        "validation": count(au[100_000:120_000], known[100_000:120_000]),
        "test": count(au[120_000:], known[120_000:]),
    }
    people = [Person(f"{k}{LONG}", "validation", count(au[k::9], known[k::9])) for k in range(9)]
    label_picture(EVERY_AU, sets, people, HEADING)
    written.check()
    told = written.texts
    assert "SYNTHETIC FACES: rendered" in told
    for counts in sets.values():
        assert percent(counts.rates[0]) in told
        unknown = counts.frames - counts.known[0]
        assert f"{counts.active[0]:,} of {counts.known[0]:,}, {unknown:,} unknown" in told
        assert f"{100 * counts.together[2] / counts.frames:.1f}" in told
    assert told.count("-") == 3, "a rate of nothing known"
    assert told.count("?") == 9, "nobody's labels of that unit are known"
    assert all(f"AU{au:02d}" in told for au in EVERY_AU)


def test_a_set_without_frames_and_many_people(written, rng):
    au, known = random_labels(rng, 40, DISFA_AUS)
    sets = {"training": count(au, known), "test": count(au[:0], known[:0])}
    crowd = [Person(f"P{k}", "training", count(au[:1], known[:1])) for k in range(500)]
    label_picture(DISFA_AUS, sets, crowd, HEADING)
    written.check()
    assert f"P{label_pictures.MOST_SUBJECTS - 1}" in written.texts
    assert any("120 of 500 people, labels.json has all" in text for text in written.texts)


def test_cooccurrence_in_numbers_and_pairs(written, rng):
    au, known = random_labels(rng, 300)
    au[:, 1] = au[:, 0]
    au[:, 2] = ~au[:, 0]
    au[:, 5] = False
    together = phi(au, known)
    cooccurrence_picture(together, EVERY_AU, HEADING)
    written.check()
    told = written.texts
    assert told.count("+1.00") == 2 + 1, "two cells and the pair"
    assert told.count("-1.00") == 2 * (2 + 1)
    assert told.count("-") == 2 * 14, "a unit that never changes: its row and column"
    pairs = strongest(together, EVERY_AU, 3)
    assert {frozenset(pair[:2]) for pair in pairs} == {
        frozenset(pair) for pair in ((1, 2), (1, 4), (2, 4))
    }
    assert "SYNTHETIC FACES: rendered" in told


def test_no_pair_at_all(written):
    cooccurrence_picture(np.full((2, 2), np.nan), (1, 2), HEADING)
    written.check()
    assert "no two units of which both change" in written.texts
    assert strongest(np.full((2, 2), np.nan), (1, 2), 5) == []


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x24F)), st.integers(40, 600))
def test_wrapped_text_has_room_and_loses_no_word(text, room):
    lines = wrap(text, room)
    assert all(width(line) <= room for line in lines)
    if all(width(word) <= room for word in text.split()):
        assert " ".join(lines).split() == text.split()


def test_shortened_text_ends_in_dots():
    assert shorten("short", 200) == "short"
    cut = shorten("lip corner depressor", 90)
    assert cut.endswith("...")
    assert width(cut) <= 90


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.54, "+.54"), (-0.26, "-.26"), (1.0, "+1.00"), (-0.999, "-1.00"), (0.001, ".00")],
)
def test_coefficients_are_short(value, said):
    assert signed(value) == said


def test_undefined_numbers_are_dashes():
    assert (signed(float("nan")), percent(float("nan")), percent(None)) == ("-", "-", "-")


def test_the_colours_are_the_style_sheets():
    light = STYLE.split("@media")[0]
    names = ("PAGE", "CARD", "INK", "SOFT", "LINE", "ACCENT", "RIGHT", "WRONG", "WARN", "WARN_INK")
    for name in names:
        key = name.lower().replace("_", "-")
        assert re.search(rf"--{key}: {getattr(canvas, name)};", light), name
    for k, colour in enumerate(canvas.SERIES):
        assert f"--c{k}: {colour};" in light
