"""What a process has freed serves it again, without new pages."""

import platform
import subprocess
import sys

import pytest

from tests.processes import ROOT

PROGRAM = """
import resource
import numpy as np
from vlfau_jax.cli.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
first = faults()
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc than glibc's")
def test_a_large_array_takes_the_pages_of_the_last_one():
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first > 50 > second
