import time

import pytest

from vlfau_jax.train.clock import PARTS, Clock


def test_parts_are_counted_separately_and_continue_after_a_resume():
    clock = Clock({"train": 5.0})
    with clock("train"):
        time.sleep(0.02)
    with clock("data_wait"):
        time.sleep(0.01)
    assert clock.seconds.keys() == set(PARTS)
    assert 5.02 <= clock.seconds["train"] < 5.5
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
