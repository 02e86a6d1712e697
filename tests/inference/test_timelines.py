"""Probabilities along a video: smoothed by time and person, and less a person's median."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.inference.timelines import corrected

THRESHOLDS = {1: 0.5, 12: 0.4}


def row(timestamp, value, person=0, source="a.mp4", video=True, success=1):
    units = {"1": {"probability": value, "active": (value or 0) > 0.5, "sentence": "s"}}
    units["12"] = {"probability": None, "active": None, "sentence": None}  # nobody taught it
    return {
        "source": source,
        "face_id": person,
        "timestamp": timestamp,
        "success": success,
        "video": video,
        "per_au": units if success else None,
    }


def probabilities(rows, **how):
    found = list(corrected(lambda: iter(rows()), THRESHOLDS, **how))
    return [one["per_au"] and one["per_au"]["1"]["probability"] for one in found], found


def test_a_persons_probabilities_are_averaged_over_the_seconds_around():
    def rows():
        values = [0.0, 0.6, 0.9, 0.3, 0.9]
        yield from (row(k / 10, value) for k, value in enumerate(values))
        yield row(0.5, None, success=0)
        yield row(5.0, 0.2)

    found, records = probabilities(rows, smooth=0.2)
    assert found == [0.3, 0.5, 0.6, 0.7, 0.6, None, 0.2]
    units = [record["per_au"]["1"] for record in records if record["success"]]
    assert [unit["active"] for unit in units] == [False, False, True, True, True, False]
    assert [unit["raw_probability"] for unit in units] == [0.0, 0.6, 0.9, 0.3, 0.9, 0.2]
    assert {unit["sentence"] for unit in units} == {"s"}
    assert records[0]["per_au"]["12"]["probability"] is None


def test_other_people_other_videos_and_pictures_do_not_count():
    def rows():
        yield row(0.0, 0.2)
        yield row(0.0, 0.8, person=1)
        yield row(0.1, 0.4)
        yield row(0.0, 0.9, source="b.mp4")
        yield row(0.0, 0.7, source="c.jpg", video=False)
        yield row(0.0, 0.1, source="d.jpg", video=False)

    found, records = probabilities(rows, smooth=1.0)
    assert found == [0.3, 0.8, 0.3, 0.9, 0.7, 0.1]
    assert "raw_probability" not in records[-1]["per_au"]["1"]


def test_the_median_of_each_person_is_subtracted():
    def rows():
        yield from (row(k, value) for k, value in enumerate((0.3, 0.95, 0.2)))
        yield row(1, 0.8, person=1)

    found, records = probabilities(rows, median=True)
    assert found == [0.0, 0.65, 0.0, 0.0]
    assert [record["per_au"]["1"]["active"] for record in records] == [False, True, False, False]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1), st.integers(0, 2)), max_size=30),
    st.sampled_from([0.1, 0.5, 2.0]),
)
def test_it_is_the_mean_that_numpy_gives(frames, smooth):
    frames = sorted(frames, key=lambda frame: frame[0])

    def rows():
        return iter([row(t / 8, value, person) for t, value, person in frames])

    found, _ = probabilities(rows, smooth=smooth)
    for (t, _, person), value in zip(frames, found, strict=True):
        near = [v for s, v, p in frames if p == person and abs(s - t) / 8 <= smooth / 2]
        assert value == pytest.approx(np.mean(near), abs=1e-6)
