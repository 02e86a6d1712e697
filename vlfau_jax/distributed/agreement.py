"""What several processes check before they compute together.

All see the same workdir, and every connection between their devices is open.
"""

from __future__ import annotations

import secrets
import socket
import time
from itertools import combinations
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlfau_jax.distributed.heartbeat import FOREVER
from vlfau_jax.distributed.processes import (
    check_same,
    is_first_process,
    key_value_store,
    run_on_first,
)
from vlfau_jax.errors import UserError

_KEYS = "vlfau_jax/agreement"
_DELAY = 10.0  # seconds that a network file system may take to show a new file


def barrier(name: str) -> None:
    """Returns once all processes are here, however late. `name` is used once in a run."""
    if key_value_store() is not None:
        key_value_store().wait_at_barrier(f"{_KEYS}/{name}", FOREVER)


def check_shared(flag: str, folder: Path) -> None:
    """Raises UserError unless every process sees the folder of the first, under the same path.

    The first process leaves a file there for a moment. Called once in a run.
    """
    if key_value_store() is None:
        return
    check_same(flag, str(folder.absolute()))
    without: list[str] = []
    if is_first_process():
        without = _processes_without(folder / f".seen_by_all_{secrets.token_hex(8)}")
    else:
        name = key_value_store().blocking_key_value_get(f"{_KEYS}/token", FOREVER)
        missing = f"process {jax.process_index()} on {socket.gethostname()}"
        answer = "" if _appears(folder / name) else missing
        key_value_store().key_value_set(f"{_KEYS}/without/{jax.process_index()}", answer)

    def refuse() -> None:
        if without:
            raise UserError(
                f"{', '.join(without)} cannot see {flag}={folder} of process 0 on "
                f"{socket.gethostname()}; give a folder on a file system that all machines share"
            )

    run_on_first("check_shared", refuse)


def _processes_without(token: Path) -> list[str]:
    """The other processes that do not see a file, which is removed again."""
    token.touch()
    try:
        key_value_store().key_value_set(f"{_KEYS}/token", token.name)
        others = (f"{_KEYS}/without/{k}" for k in range(1, jax.process_count()))
        answers = (key_value_store().blocking_key_value_get(key, FOREVER) for key in others)
        return [answer for answer in answers if answer]
    finally:
        token.unlink()


def _appears(token: Path) -> bool:
    until = time.monotonic() + _DELAY
    while not token.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def open_connections(mesh: Mesh) -> None:
    """Opens all connections between the processes' devices, while all are sure to be there.

    JAX opens those of a group of devices in their first collective. On CPU, a process that comes
    30 s after another then fails: as after a compilation that takes one longer. Once open, any
    collective waits for the last. The groups are those along every choice of the mesh's axes, and
    the one by which JAX and orbax compare values of the processes.
    """
    if key_value_store() is None:
        return
    axes = [name for name in mesh.axis_names if mesh.shape[name] > 1]
    groups = [group for n in range(len(axes)) for group in combinations(axes, n + 1)]
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    ones = jax.make_array_from_callback((mesh.size,), split, lambda _: np.ones(1, np.float32))

    def sums(one: jax.Array) -> list[jax.Array]:
        return [jax.lax.psum(one, group) for group in groups]

    specs = {"in_specs": split.spec, "out_specs": split.spec, "check_vma": False}
    program = jax.jit(jax.shard_map(sums, mesh=mesh, **specs)).lower(ones).compile()
    barrier("connect")
    jax.block_until_ready(program(ones))
    multihost_utils.sync_global_devices("connect")
