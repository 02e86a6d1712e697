"""The training program of devices that nobody here owns: compiled, and what it says of itself."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import jax
from pydantic import Field

from vlfau_jax.account import hlo
from vlfau_jax.account.batch_search import Sample, largest_that_fits
from vlfau_jax.account.compiler import Compiled, TooLarge, compile_step, usable_memory
from vlfau_jax.account.devices import device_for
from vlfau_jax.account.flops import Task, flops, total
from vlfau_jax.account.parts import PARTS
from vlfau_jax.account.roofline import roofline
from vlfau_jax.account.topology import open_topology
from vlfau_jax.account.traffic import traffic
from vlfau_jax.errors import UserError
from vlfau_jax.files import absolute_folder, created, named, written_whole
from vlfau_jax.records import Record, Text
from vlfau_jax.sharding.arrays import shards
from vlfau_jax.sharding.mesh import make_mesh
from vlfau_jax.train.experiment import Program, Settings, published_program
from vlfau_jax.train.workdir import config_digest

_Number = Annotated[float, Field(ge=0)]
_Count = Annotated[int, Field(ge=0)]


class PartCost(Record):
    """What one part of the network costs for an image.

    Attributes:
        forward_gflop: products, forward.
        training_gflop: products of a training step, forward included.
        forward_hbm_mb: 10^6 bytes to and from main memory on the way forward.
        backward_hbm_mb: the same on the way back.
    """

    forward_gflop: _Number = 0.0
    training_gflop: _Number = 0.0
    forward_hbm_mb: _Number = 0.0
    backward_hbm_mb: _Number = 0.0


class Tried(Record):
    """One batch of the search: images a device, and bytes (10^9) that the step needs."""

    per_chip: _Count
    peak_gb: _Number
    fits: bool


class StepReport(Record):
    """One training step on the devices of a topology: the `--out` file of compile_only.

    GB are 10^9 bytes of one device, images those of one device, and a device is what JAX calls one:
    a chip, of a TPU7x half of one. What a program that does not fit would have said is None.

    Attributes:
        topology: its name.
        device_kind: JAX's name of a device.
        devices: number of devices of the mesh.
        mesh: devices along each axis.
        batch_size: images of a step, over all devices.
        per_chip: images of a step on one device.
        micro_batches: parts in which a device computes these.
        fits: whether the program fits in a device's memory.
        over_gb: by how much it is too large; 0 where it fits.
        memory_gb: memory that a program may use.
        parameters: number of parameters of the network.
        parameters_gb: their bytes on a device.
        optimizer_gb: bytes of the optimizer's state and of the average, if one is kept.
        temporaries_gb: what the step needs while it runs.
        peak_gb: parameters, optimizer, batch, temporaries and code.
        gflop_per_image: products that the network needs for an image in training, all devices
            together.
        hbm_gb_per_image: traffic to and from main memory.
        collectives: kind -> number, bytes and those of the formula, of a step.
        parts: part of the network -> its cost.
        uncounted_loops: loops whose number of turns the program does not say, counted as one.
        roofline_images_per_second: of one device, at most.
        roofline_mfu: the share of its peak FLOP/s that is then used.
        bound: what limits it.
        compile_seconds: by a clock.
        compile_cpu_seconds: of all threads.
        lower_seconds: of tracing, by a clock.
        search: the batches that `--search_batch` compiled.
        versions: of the compilers.
        config_digest: SHA-256 of the experiment's keys.
    """

    topology: Text
    device_kind: Text
    devices: _Count
    mesh: dict[Text, _Count]
    batch_size: _Count
    per_chip: _Number
    micro_batches: _Count
    fits: bool
    over_gb: _Number
    memory_gb: _Number
    parameters: _Count
    parameters_gb: _Number
    optimizer_gb: _Number
    temporaries_gb: _Number | None = None
    peak_gb: _Number
    gflop_per_image: _Number
    hbm_gb_per_image: _Number | None = None
    collectives: dict[Text, dict[Text, float | None]] | None = None
    parts: dict[Text, PartCost]
    uncounted_loops: _Count = 0
    roofline_images_per_second: _Number | None = None
    roofline_mfu: _Number | None = None
    bound: Text | None = None
    compile_seconds: _Number | None = None
    compile_cpu_seconds: _Number | None = None
    lower_seconds: _Number | None = None
    search: tuple[Tried, ...] = ()
    versions: dict[Text, Text]
    config_digest: Text


def compile_only(
    settings: Settings,
    topology: str,
    *,
    per_chip: int | None = None,
    search_batch: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> StepReport:
    """Compiles the step that `train` would run on a topology, and prints an account of it.

    Args:
        settings: the experiment. Its data need not exist: units, words and lengths of sentences are
            those published of its data set.
        topology: `account.topology.open_topology`.
        per_chip: images a device; None for those of `train.batch_size`.
        search_batch: find the most images a device computes at once (`train.device_batch` is not
            read), and give the account of that step.
        out: a JSON file for the account, if any.
        overwrite: replace `out` where it exists.

    Raises:
        UserError: options that do not fit each other or the devices, a topology that is unknown or
            whose compiler is not installed, or an `out` that is unusable.
        RunError: the compiler fails.
    """
    if not out:
        return _account(settings, topology, per_chip, search_batch)
    path = Path(out)
    _check_file(path, overwrite)
    with created("--out", path.absolute().parent), written_whole(path) as partial:
        report = _account(settings, topology, per_chip, search_batch)
        with named(path):
            partial.write_text(report.model_dump_json(indent=1) + "\n")
    return report


def _check_file(out: Path, overwrite: bool) -> None:
    absolute_folder("--out", out.parent)
    if out.is_dir():
        raise UserError(f"--out={out}: this is a folder; name a file, such as {out}/step.json")
    if os.path.lexists(out) and not overwrite:
        raise UserError(f"--out={out} exists; give --overwrite to replace it")


def _account(
    settings: Settings, topology: str, per_chip: int | None, search_batch: bool
) -> StepReport:
    devices = open_topology(topology)
    if not search_batch:
        program = published_program(_with_batch(settings, devices, per_chip), devices)
        report = account_of(program, topology)
    else:
        report = _searched(settings, devices, topology, per_chip)
    print(shown(report))
    return report


def _with_batch(
    settings: Settings, devices: Sequence[jax.Device], per_chip: int | None
) -> Settings:
    """The experiment with `per_chip` images on every device that has images of its own."""
    if per_chip is None:
        return settings
    size = per_chip * shards(make_mesh(settings.mesh, devices))
    return replace(settings, train=replace(settings.train, batch_size=size))


def _searched(
    settings: Settings, devices: Sequence[jax.Device], topology: str, per_chip: int | None
) -> StepReport:
    settings = replace(settings, train=replace(settings.train, device_batch=0))
    reports: dict[int, StepReport] = {}

    def measure(images: int) -> Sample:
        program = published_program(_with_batch(settings, devices, images), devices)
        report = reports[images] = account_of(program, topology)
        print(f"{images} images a device: {_fit(report)}", flush=True)
        return Sample(images, report.peak_gb, report.fits)

    memory = usable_memory(devices[0]) / 1e9
    found, samples = largest_that_fits(measure, memory, first=per_chip or 8)
    tried = tuple(Tried(per_chip=s.images, peak_gb=s.needed, fits=s.fits) for s in samples)
    return reports[found or min(reports)].model_copy(update={"search": tried})


def account_of(program: Program, topology: str) -> StepReport:
    """Compiles a program and reads from it what `StepReport` holds."""
    device = program.mesh.devices.flat[0]
    settings, memory = program.settings, usable_memory(device)
    task = _task(program)
    by_part = flops(
        program.model.options, task, settings.objective, frozen=settings.optimizer.frozen
    )
    parts = {
        part: {"forward_gflop": cost.forward / 1e9, "training_gflop": cost.training / 1e9}
        for part, cost in by_part.items()
    }
    state = program.abstract
    known: dict[str, Any] = {
        "topology": topology,
        "device_kind": device.device_kind,
        "devices": program.mesh.size,
        "mesh": dict(program.mesh.shape),
        "batch_size": settings.train.batch_size,
        "per_chip": settings.train.batch_size / shards(program.mesh),
        "micro_batches": program.micro_batches,
        "memory_gb": memory / 1e9,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "parameters_gb": _bytes(state.params) / 1e9,
        "optimizer_gb": _bytes((state.opt_state, state.ema)) / 1e9,
        "gflop_per_image": total(by_part).training / 1e9,
        "versions": _versions(device),
        "config_digest": config_digest(dataclasses.asdict(settings)),
    }
    try:
        compiled = compile_step(program)
    except TooLarge as error:
        return StepReport(
            fits=False,
            over_gb=(error.needed - memory) / 1e9,
            peak_gb=error.needed / 1e9,
            parts=parts,
            **known,
        )
    return StepReport(**known | _read(program, compiled, parts, total(by_part).training, memory))


def _read(
    program: Program,
    compiled: Compiled,
    parts: dict[str, dict[str, float]],
    flops_per_image: float,
    memory: float,
) -> dict[str, Any]:
    """What a compiled program says, as fields of `StepReport`."""
    settings, mesh = program.settings, program.mesh
    images = settings.train.batch_size / shards(mesh)
    module = hlo.parse(compiled.text)
    moved = traffic(module)
    for (part, direction), size in moved.by_address().items():
        parts.setdefault(part, {})[f"{direction}_hbm_mb"] = size / images / 1e6
    device = device_for(mesh.devices.flat[0].device_kind)
    bound = roofline(
        device,
        program.model.options.dtype,
        images=settings.train.batch_size / mesh.size,
        flops=flops_per_image * settings.train.batch_size / mesh.size,
        hbm_bytes=moved.bytes,
    )
    return {
        "fits": compiled.peak <= memory,
        "over_gb": max(0.0, compiled.peak - memory) / 1e9,
        "temporaries_gb": compiled.temporaries / 1e9,
        "peak_gb": compiled.peak / 1e9,
        "hbm_gb_per_image": moved.bytes / images / 1e9,
        "collectives": {},
        "parts": {part: parts[part] for part in PARTS if part in parts},
        "uncounted_loops": len(moved.uncounted),
        "roofline_images_per_second": bound.images_per_second,
        "roofline_mfu": bound.mfu,
        "bound": bound.bound,
        "compile_seconds": compiled.seconds,
        "compile_cpu_seconds": compiled.cpu_seconds,
        "lower_seconds": compiled.lower_seconds,
    }


def _task(program: Program) -> Task:
    """The sizes that FLOPs depend on; of a batch, the part that a device computes at once."""
    of, model = program.spec, program.model
    at_once = program.settings.train.batch_size // shards(program.mesh) // program.micro_batches
    return Task(
        image_size=of["image"][0][1],
        au_count=model.au_count,
        vocabulary=model.vocabulary_size,
        local_tokens=of["local_tokens"][0][-1],
        global_tokens=of["global_tokens"][0][-1],
        batch=at_once,
    )


def _bytes(tree: Any) -> int:
    """Bytes of abstract arrays on one device."""
    return sum(
        int(jax.numpy.dtype(leaf.dtype).itemsize) * _elements(leaf)
        for leaf in jax.tree.leaves(tree)
    )


def _elements(leaf: jax.ShapeDtypeStruct) -> int:
    size = 1
    for extent in leaf.sharding.shard_shape(leaf.shape):
        size *= extent
    return size


def _versions(device: jax.Device) -> dict[str, str]:
    names = ("jax", "jaxlib", "libtpu" if device.platform == "tpu" else "jax-cuda13-plugin")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"  # TPU_LIBRARY_PATH names a file of one's own
    return found


def _fit(report: StepReport) -> str:
    if report.fits:
        free = report.memory_gb - report.peak_gb
        return f"fits in {report.memory_gb:.2f} GB with {free:.2f} GB to spare"
    return f"does NOT fit: {report.over_gb:.2f} GB more than {report.memory_gb:.2f} GB"


def shown(report: StepReport) -> str:
    """The account as tables for the screen."""
    mesh = ", ".join(f"{axis} {size}" for axis, size in report.mesh.items())
    lines = [
        f"{report.topology}: {report.devices} x {report.device_kind}, mesh {mesh}; "
        f"{report.batch_size} images a step, {report.per_chip:g} a device"
        + (f" in {report.micro_batches} parts" if report.micro_batches > 1 else ""),
        _fit(report),
        "",
        *_memory(report),
        "",
        *_parts(report.parts),
        "",
    ]
    if report.temporaries_gb is None:
        return "\n".join(lines)
    lines += [
        f"HBM bytes: {report.hbm_gb_per_image:.3f} GB an image"
        + (
            f"; {report.uncounted_loops} loops of unknown length count as one turn"
            if report.uncounted_loops
            else ""
        ),
        f"roofline: {report.roofline_images_per_second:.0f} images/s a device, MFU "
        f"{report.roofline_mfu:.1%}; {report.bound} is the limit",
        f"compiled in {report.compile_seconds:.0f} s, {report.compile_cpu_seconds:.0f} s of CPU; "
        f"traced in {report.lower_seconds:.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in report.versions.items()),
    ]
    return "\n".join(lines)


def _memory(report: StepReport) -> list[str]:
    rows = {
        "parameters": report.parameters_gb,
        "optimizer": report.optimizer_gb,
        "temporaries": report.temporaries_gb,
        "peak": report.peak_gb,
    }
    named_sizes = ", ".join(f"{name} {size:.2f}" for name, size in rows.items() if size is not None)
    return [f"GB a device: {named_sizes} ({report.parameters / 1e6:.1f} million parameters)"]


def _parts(parts: Mapping[str, PartCost]) -> list[str]:
    head = ("GFLOP an image", "MB of HBM an image")
    lines = [
        f"{'':<18}{head[0]:>20}{head[1]:>32}",
        f"{'part':<18}{'forward':>10}{'training':>10}{'forward':>12}{'backward':>10}{'sum':>10}",
    ]
    whole = PartCost()
    for name, cost in parts.items():
        lines.append(_row(name, cost))
        whole = PartCost(
            **{key: value + getattr(cost, key) for key, value in whole.model_dump().items()}
        )
    return [*lines, _row("in all", whole)]


def _row(name: str, cost: PartCost) -> str:
    both = cost.forward_hbm_mb + cost.backward_hbm_mb
    return (
        f"{name:<18}{cost.forward_gflop:>10.3f}{cost.training_gflop:>10.3f}"
        f"{cost.forward_hbm_mb:>12.1f}{cost.backward_hbm_mb:>10.1f}{both:>10.1f}"
    )
