"""A trace of some steps by jax.profiler, and how to look at it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from vlfau_jax.files import absolute_folder, named


@contextmanager
def profiled(folder: str | Path) -> Iterator[None]:
    """Writes a trace of what runs inside into `folder`; each call adds one, none is replaced.

    Raises UserError where `folder` cannot be one.
    """
    path = absolute_folder("--profile", Path(folder))
    with named(path):
        path.mkdir(parents=True, exist_ok=True)
        with jax.profiler.trace(str(path), create_perfetto_trace=True):
            yield
    traces = sorted(path.glob("plugins/profile/*/perfetto_trace.json.gz"))
    print(
        f"profile: {traces[-1] if traces else path}: open it at https://ui.perfetto.dev, or "
        f"`pip install xprof` and run `xprof {path}`",
        file=sys.stderr,
    )
