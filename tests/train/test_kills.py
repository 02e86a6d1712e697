"""A run that is killed again and again ends as an uninterrupted one."""

import pytest

from tests import kill_train

pytestmark = pytest.mark.slow


def test_kills_lose_nothing_but_the_steps_since_the_last_save(tmp_path):
    # Aimed at: a save, the start-up after it, a save, a step, a step, a save.
    kills, faults = kill_train.test(tmp_path, kills=6, seed=5, workers=1)
    print(kill_train.summary(kills))
    assert not faults
    assert len(kills) == 6
    assert {"save", "step"} <= {one.where for one in kills}
