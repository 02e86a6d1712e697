import os

import pytest

from vlfau_jax.data.workers import Workers
from vlfau_jax.errors import RunError


@pytest.mark.parametrize("count", [0, 2])
def test_results_come_in_order(count):
    with Workers(count) as workers:
        assert list(workers.starmap(pow, [(k, 2) for k in range(9)])) == [k * k for k in range(9)]


def test_a_killed_process_ends_the_wait():
    with Workers(1) as workers, pytest.raises(RunError, match="was killed"):
        list(workers.starmap(os._exit, [(9,)] * 4))
