import os

import jax
import pytest

from tests.tiny import ONE_DEVICE
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.rounding import (
    computed_on,
    cpu_cores,
    cpu_threads,
    other_rounding,
    stated_threads,
)


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """64 cores, and no variable that states another number of threads."""
    for name in ("PJRT_NPROC", "NPROC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def test_threads_are_the_cores_that_this_process_may_use():
    assert (cpu_cores(), stated_threads(), cpu_threads()) == (64, None, 64)


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"NPROC": "12"}, 12),
        ({"NPROC": " 12 ", "PJRT_NPROC": "13"}, 13),
        ({"NPROC": "12", "PJRT_NPROC": "many"}, 12),
        ({"NPROC": "", "PJRT_NPROC": "1.5"}, 64),
        ({"PJRT_NPROC": "2"}, 8),  # devices
        ({"PJRT_NPROC": "-3"}, 8),
    ],
)
def test_variables_go_before_the_cores_and_every_device_has_a_thread(
    monkeypatch, variables, threads
):
    assert jax.local_device_count() == 8
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cpu_threads() == threads


def test_a_mesh_is_named_with_the_threads_of_cpus():
    assert computed_on(make_mesh(ONE_DEVICE)) == "1 x cpu, 64 threads"
    assert computed_on(make_mesh(MeshOptions(2, 2, 2))) == "8 x cpu, 64 threads"


def test_only_another_computer_is_warned_of():
    now = "1 x cpu, 2 threads"
    assert other_rounding({"computed_on": now}, now) == ""
    assert other_rounding({}, now) == other_rounding({"computed_on": None}, now) == ""
    warning = other_rounding({"computed_on": "4 x TPU v5e"}, now)
    assert warning.startswith("warning: trained on 4 x TPU v5e so far, now on 1 x cpu, 2 threads")
