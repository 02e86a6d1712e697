import numpy as np
import pytest

from vlfau_jax.account import timing
from vlfau_jax.account.timing import LEAST_TURNS, in_turns, spread


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes only when it is told to."""

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    monkeypatch.setattr(timing, "time", clock := Clock())
    return clock


def test_every_turn_runs_each_once_and_every_second_one_backwards(clock):
    order = []

    def call(name, seconds):
        def run():
            order.append(name)
            clock.now += seconds * (1 + order.count(name))

        return run

    taken = in_turns({"a": call("a", 1.0), "b": call("b", 0.5)}, seconds=1e-9)
    assert order == ["a", "b", "b", "a", "a", "b"] and LEAST_TURNS == 3
    np.testing.assert_allclose(taken["a"], [2, 3, 4])
    np.testing.assert_allclose(taken["b"], [1, 1.5, 2])
    assert spread(taken["a"] / taken["b"]) == {"median": 2, "lower": 2, "upper": 2}


def test_it_goes_on_for_so_long(clock):
    def tick():
        clock.now += 1.0

    assert len(in_turns({"tick": tick}, seconds=9.5)["tick"]) == 10
