"""Two thousand damaged files: each is read, or refused in one line, in bounded time and memory."""

import pytest

from tests.fuzz import TARGETS, fuzz
from tests.processes import TIMEOUT

# Where reading compiles or loads networks, a case takes a second; there are fewer of them.
CASES = {
    "pictures": 500,
    "folder": 500,
    "bp4d": 300,
    "disfa": 200,
    "prepared": 200,
    "backbone": 150,
    "run": 100,
    "model": 50,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_no_damaged_file_does_more_than_one_line(name, tmp_path):
    assert fuzz(0, CASES[name], 1, (name,), tmp_path, seconds=TIMEOUT) == {}
