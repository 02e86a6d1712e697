"""XLA's compiled programs, kept on disk: the second start of the same experiment compiles little.

They lie in `$XDG_CACHE_HOME/vlfau_jax/xla` (`~/.cache/vlfau_jax/xla`). Where
JAX_COMPILATION_CACHE_DIR is set, JAX keeps them there instead, as it would anyhow;
JAX_ENABLE_COMPILATION_CACHE=0 keeps none. A program's key holds the program, its options and the
versions of JAX and XLA, but nothing of the processor that CPU programs were made for, nor of the
number of its cores, among which XLA divides their loops when it compiles: each kind of machine and
each number of cores has a folder of its own, since home folders are shared.

What is loaded from there runs as machine code. Only folders that belong to this user and that
nobody else may write to are used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
from pathlib import Path

from vlfau_jax.cache import cache_folder

MOST_BYTES = 4 << 30  # of one kind of machine; what was used longest ago is removed first
_LEAST_SECONDS = 0.1  # of compilation; what is quicker is not kept, unless JAX is told otherwise:
_LEAST_NAME = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def use_program_cache() -> Path | None:
    """Lets JAX keep programs; returns the folder, None where it keeps none or was told where.

    It never fails: without a folder that can be trusted, programs are compiled as ever, and stderr
    says why.
    """
    import jax

    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return None
    if importlib.util.find_spec("filelock") is None:  # JAX bounds the size with it
        return None
    try:
        folder = cache_folder("xla", _machine())
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        print(f"warning: compiled programs are not kept: {error}", file=sys.stderr)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
    if _LEAST_NAME not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    return folder


def _machine() -> str:
    """A name for all that decides which machine code is made, and runs, here."""
    from vlfau_jax.train.rounding import cpu_cores, stated_threads

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [x for x in lines if x.startswith(("flags", "Features", "model name"))][:2]
    cores = f"{cpu_cores()} cores, {stated_threads()} threads stated"
    system = platform.system(), platform.machine(), platform.processor()
    text = "\n".join([*system, *features, cores])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
