"""Compiles a training step for devices that need not be here, and keeps what its compiler says."""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import SingleDeviceSharding

from vlfau_jax.account.topology import GPUS
from vlfau_jax.errors import RunError
from vlfau_jax.train.experiment import Program
from vlfau_jax.train.step import abstract_batch

T = TypeVar("T")

# Of a GPU's memory JAX allocates three quarters (jax.readthedocs.io/en/latest/gpu_memory_allocation
# .html); a TPU's compiler says what it may use.
GPU_SHARE = 0.75

# A GPU tries kernels of Triton and cuBLAS for each product and takes the fastest. Nothing can be
# tried here, and some products do not fit Triton's default tiles: all are cuBLAS's.
_WITHOUT_GPU = {"xla_gpu_enable_triton_gemm": False}

_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = r"(\d+(?:\.\d+)?)([BKMGT])"
_EXHAUSTED = (
    re.compile(rf"memory required for .*?\({_SIZE}\) exceeds available HBM \({_SIZE}\)", re.S),
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm", re.S),
)


class TooLarge(Exception):
    """A program that its compiler refuses, because it does not fit in a device's memory.

    Attributes:
        needed: bytes.
        available: bytes.
    """

    def __init__(self, needed: float, available: float) -> None:
        super().__init__(f"{needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are there")
        self.needed = needed
        self.available = available


@dataclass(frozen=True)
class Compiled:
    """A compiled program, one device's share of it.

    Attributes:
        text: the scheduled HLO.
        arguments: bytes of what it is given: state and batch.
        temporaries: bytes that it needs besides while it runs.
        peak: bytes of both, of results that take the place of no argument, and of its code.
        lower_seconds: of tracing, by a clock.
        seconds: of compiling, by a clock.
        cpu_seconds: of compiling, of all threads.
    """

    text: str
    arguments: int
    temporaries: int
    peak: int
    lower_seconds: float
    seconds: float
    cpu_seconds: float


def compile_step(program: Program) -> Compiled:
    """Lowers and compiles the step that `train` would run.

    Raises:
        TooLarge: it does not fit in a device's memory, says the compiler.
        RunError: the compiler fails.
    """
    begin = time.perf_counter()
    with elapsed("tracing"):
        batch = abstract_batch(program.spec, program.mesh)
        lowered = program.train_step().lower(program.abstract, batch)
    lower_seconds = time.perf_counter() - begin
    begin, cpu = time.perf_counter(), time.process_time()
    gpu = program.mesh.devices.flat[0].platform in ("cuda", "gpu")
    options = _WITHOUT_GPU if gpu else None
    compiled = interruptible(lambda: _compile(lowered, options), "compiling")
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    code = memory.generated_code_size_in_bytes
    return Compiled(
        text=compiled.as_text(),
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.argument_size_in_bytes + memory.temp_size_in_bytes + results + code,
        lower_seconds=lower_seconds,
        seconds=seconds,
        cpu_seconds=cpu,
    )


def usable_memory(device: jax.Device) -> float:
    """Bytes of a device's memory that a program may use.

    A TPU's compiler says it when it refuses a program that is too large for any device.
    """
    gpu = next((one for one in GPUS.values() if one.kind == device.device_kind), None)
    if gpu is not None:
        return gpu.memory * GPU_SHARE
    huge = jax.ShapeDtypeStruct((1 << 38,), jnp.float32)  # 1.1 TB
    lowered = jax.jit(lambda x: x + 1, in_shardings=SingleDeviceSharding(device)).lower(huge)
    try:
        _compile(lowered)
    except TooLarge as error:
        return error.available
    raise RunError(f"{device.device_kind}: its compiler does not say how much memory it has")


def _compile(
    lowered: jax.stages.Lowered, options: Mapping[str, Any] | None = None
) -> jax.stages.Compiled:
    with _uncached():
        try:
            return lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            if sizes := exhausted(str(error)):
                raise TooLarge(*sizes) from None
            raise RunError(f"the compiler failed: {' '.join(str(error).split())}") from error


@contextmanager
def _uncached() -> Iterator[None]:
    """What was compiled before takes no time, and nothing could be loaded for no device.

    JAX decides at a process's first compilation whether it keeps programs; `reset_cache` lets it
    decide again.
    """
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def exhausted(message: str) -> tuple[float, float] | None:
    """Bytes needed and bytes available, from a compiler's error; None where it is another."""
    for pattern in _EXHAUSTED:
        if match := pattern.search(message):
            needed, unit, available, other = match.groups()
            return float(needed) * _UNITS[unit], float(available) * _UNITS[other]
    return None


def interruptible(work: Callable[[], T], doing: str) -> T:
    """`work()` in another thread, so that Ctrl-C need not wait for a compiler, with the time spent.

    An interrupted thread goes on until the process ends, which does not wait for it.
    """
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    with elapsed(doing):
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)
        except KeyboardInterrupt:
            atexit.register(_leave, thread)
            raise
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def _leave(thread: threading.Thread) -> None:
    """Ends the process at once where a compiler still runs: JAX's own end would wait for it."""
    if thread.is_alive():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


@contextmanager
def elapsed(doing: str) -> Iterator[None]:
    """Writes to standard error what is being done and for how many seconds; nothing if few."""
    done, begin, live = threading.Event(), time.monotonic(), sys.stderr.isatty()
    stderr = sys.stderr

    def tell() -> None:
        shown = False
        while not done.wait(1 if live else 30):
            text = f"{doing}: {time.monotonic() - begin:.0f} s"
            stderr.write(f"\r{text} " if live else f"{text}\n")
            stderr.flush()
            shown = True
        if live and shown:
            stderr.write("\r" + " " * (len(doing) + 12) + "\r")
            stderr.flush()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
