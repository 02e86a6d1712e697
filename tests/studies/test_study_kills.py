"""A study that is killed again and again ends with the table of an uninterrupted one."""

import pytest

from tests import kill_study

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("verb", "seed"), [("crossval", 1), ("ablate", 2)])
def test_kills_change_nothing_in_the_table(tmp_path, verb, seed):
    assert not kill_study.test(tmp_path, verb, kills=4, seed=seed)
