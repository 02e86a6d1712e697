import pytest

from vlfau_jax.train import clock as module
from vlfau_jax.train.clock import PARTS, Clock


def test_parts_are_counted_separately_and_continue_after_a_resume(monkeypatch):
    now = 100.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    clock = Clock({"train": 5.0})
    with clock("train"):
        now += 2.0
    now += 8.0  # between the parts
    with clock("data_wait"):
        now += 1.0
    assert clock.seconds.keys() == set(PARTS)
    assert (clock.seconds["train"], clock.seconds["data_wait"]) == (7.0, 1.0)
    assert clock.training == clock.seconds["train"] + clock.seconds["data_wait"]
    assert clock.seconds["eval"] == 0


def test_a_failure_still_counts():
    clock = Clock()
    with pytest.raises(KeyError), clock("eval"):
        raise KeyError
    assert clock.seconds["eval"] > 0
    with clock("eval"):
        pass


def test_parts_neither_nest_nor_appear_from_nowhere():
    clock = Clock()
    with pytest.raises(ValueError, match="'train' is running"), clock("train"), clock("eval"):
        pass
    with pytest.raises(ValueError, match="'lunch' is unknown"), clock("lunch"):
        pass
