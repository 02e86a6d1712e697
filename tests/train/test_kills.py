"""A run that is killed ten times ends as one that nobody touched."""

from tests import kill_train


def test_ten_kills_lose_nothing_but_the_steps_since_the_last_save(tmp_path):
    kills, faults = kill_train.test(tmp_path, kills=10, seed=0, workers=1)
    print(kill_train.summary(kills))
    assert not faults
    assert len(kills) == 10
    assert {"save", "step"} <= {one.where for one in kills}
