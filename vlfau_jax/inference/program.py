"""A model folder's program: judged by another process, then read and compiled by this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
from jax import export

import vlfau_jax
from vlfau_jax.errors import FileError, RunError
from vlfau_jax.inference.program_check import REFUSED, Request

_CHECK = ("-m", "vlfau_jax.inference.program_check")
_SECONDS = 600  # after which a check counts as hanging; its own limits are far lower


def platform() -> str:
    """What this process computes on, by the names of exported programs."""
    backend = jax.default_backend()
    return "cuda" if backend == "gpu" else backend


def load_program(path: Path, content: bytes, request: Request) -> export.Exported:
    """A program that was found to be harmless and what `request` says.

    Args:
        path: the file, for messages.
        content: its bytes.
        request: what it should be.

    Raises:
        FileError: it is another one, holds what it may not, takes more than it should, or cannot be
            read.
        RunError: the check itself failed.
    """
    body = request.model_dump_json().encode() + b"\n" + content
    try:
        run = subprocess.run(
            [sys.executable, "-P", *_CHECK],
            input=body,
            capture_output=True,
            env=environment(),
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FileError(path, f"was not read in {_SECONDS} s; export the model again") from None
    if run.returncode == REFUSED:
        raise FileError(path, run.stdout.decode(errors="replace").strip())
    if run.returncode < 0:
        name = signal.Signals(-run.returncode).name
        raise FileError(path, f"cannot be read: the process that tried was ended by {name}")
    if run.returncode:
        last = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise RunError(f"{path} could not be checked: {last}")
    return export.deserialize(bytearray(content))


def environment() -> dict[str, str]:
    """Of a process that finds this one's packages and leaves its accelerators alone."""
    package = Path(vlfau_jax.__file__).parent.parent
    places = [str(package), *filter(None, sys.path)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places), "JAX_PLATFORMS": "cpu"}
