"""Frames of a video whose faces are told from the frames around them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlfau_jax.inference.shots as shots
from tests.inference.films import FILM, frames, who, write_video
from vlfau_jax.data.crop.face import Face
from vlfau_jax.inference.between import faces_between
from vlfau_jax.inference.predict import predict
from vlfau_jax.inference.predict_options import PredictOptions


def face(left, top, side=100.0, confidence=0.9):
    eyes = np.array([[left + 0.3 * side, top + 0.4 * side], [left + 0.7 * side, top + 0.4 * side]])
    return Face((left, top, side, side), eyes, confidence, 2)


@given(
    moves=st.lists(st.tuples(st.floats(-15, 15), st.floats(-15, 15)), min_size=1, max_size=5),
    share=st.floats(0, 1),
    swap=st.randoms(),
)
def test_faces_that_move_are_halfway_in_the_order_of_the_first(moves, share, swap):
    before = [face(300.0 * k, 50.0, confidence=0.5 + k / 10) for k in range(len(moves))]
    after = [face(300 * k + x, 50 + y, 100 + x / 5, 0.7) for k, (x, y) in enumerate(moves)]
    mixed = list(after)
    swap.shuffle(mixed)
    found = faces_between(before, mixed, share)
    for one, other, between in zip(before, after, found, strict=True):
        expected = (1 - share) * np.array(one.box) + share * np.array(other.box)
        np.testing.assert_allclose(between.box, expected)
        np.testing.assert_allclose(between.eyes, (1 - share) * one.eyes + share * other.eyes)
        assert between.confidence == min(one.confidence, other.confidence)
        assert between.found == one.found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], []),
        ([face(0, 0)], []),
        ([], [face(0, 0)]),
        ([face(0, 0)], [face(0, 0), face(300, 0)]),
        ([face(0, 0)], [face(60, 0)]),
        ([face(0, 0), face(300, 0)], [face(0, 0), face(500, 0)]),
    ],
)
def test_nothing_is_told_where_something_happened(before, after):
    assert faces_between(before, after) is None


def test_a_confidence_that_one_does_not_state_is_not_stated():
    (found,) = faces_between([face(0, 0, confidence=None)], [face(0, 0)])
    assert found.confidence is None


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """A film of 25 frames a second."""
    path = tmp_path_factory.mktemp("fast") / "fast.mp4"
    return write_video(path, frames(FILM), rate=25)


OPTIONS = PredictOptions(batch_size=4, captions="changes", overlay=True)


@pytest.fixture(scope="module")
def told(model_folder, fast, tmp_path_factory):
    """The folder of a run, and the frames whose faces were not looked for."""
    spared, look, out = [], shots._look, tmp_path_factory.mktemp("told")

    def looks(shot, how, known=None):
        if known is not None:
            spared.append(shot.number)
        return look(shot, how, known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shots, "_look", looks)
        predict(model_folder, [fast], out, OPTIONS)
    return out, sorted(spared)


def rows(out):
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def test_every_face_is_found_and_every_other_frame_is_spared(told):
    out, spared = told
    assert len(spared) >= 4 and all(number % 2 == 0 for number in spared)
    of_frame = {}
    for row in rows(out):
        of_frame.setdefault(row["frame"], []).append(row)
    for number, cast in enumerate(FILM, 1):
        found = [row for row in of_frame[number] if row["success"]]
        assert {who(row, FILM) for row in found} <= cast.keys()
        # Where they cross, one is behind the other.
        assert len(found) == len(cast) or 14 <= number <= 24
        if number in spared:
            assert cast.keys() == FILM[number - 2].keys() == FILM[number].keys()


def test_their_places_are_those_of_a_search(told, model_folder, fast, tmp_path, monkeypatch):
    monkeypatch.setattr(shots, "FAST", 0.0)
    predict(model_folder, [fast], tmp_path, OPTIONS)
    searched = {(row["frame"], row["face_id"]): row for row in rows(tmp_path) if row["success"]}
    out, spared = told
    compared = [row for row in rows(out) if row["frame"] in spared and row["success"]]
    assert compared
    for row in compared:
        other = searched[row["frame"], row["face_id"]]["box"]
        assert np.abs(np.subtract(row["box"], other)).max() < 0.12 * other[2]


def test_slow_films_are_searched_frame_by_frame(model_folder, tmp_path, monkeypatch):
    film = write_video(tmp_path / "slow.mp4", frames(FILM[:6]), rate=10)
    known, between = [], shots.faces_between
    monkeypatch.setattr(shots, "faces_between", lambda *a: known.append(a) or between(*a))
    predict(model_folder, [film], tmp_path / "out", OPTIONS)
    assert not known


@pytest.mark.parametrize("last", [4, 7, 16])
def test_a_run_that_was_interrupted_tells_the_same(last, told, model_folder, fast, tmp_path):
    look = shots._look

    def stops(shot, *arguments):
        if shot.number == last:
            raise KeyboardInterrupt
        return look(shot, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shots, "_look", stops)
        predict(model_folder, [fast], tmp_path, OPTIONS)
    predict(model_folder, [fast], tmp_path, OPTIONS)
    for name in ("predictions.jsonl", "predictions.csv"):
        assert (tmp_path / name).read_bytes() == (told[0] / name).read_bytes()
