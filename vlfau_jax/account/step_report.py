"""What `compile_only` says of a training step: the record of its `--out` file, and tables of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from vlfau_jax.records import Record, Text

_Number = Annotated[float, Field(ge=0)]
_Count = Annotated[int, Field(ge=0)]


class CollectiveCost(Record):
    """The collectives of one kind in a step, as one device sees them.

    Attributes:
        times: how many run.
        gb: payload, what is summed or gathered, in 10^9 bytes.
        formula_gb: the payload by hand (`account.collectives.expected`); None where it does not
            speak of this mesh.
    """

    times: _Count
    gb: _Number
    formula_gb: _Number | None = None


class PartCost(Record):
    """What one part of the network costs for an image.

    Attributes:
        forward_gflop: products, forward.
        training_gflop: products of a training step, forward included.
        forward_hbm_mb: 10^6 bytes to and from main memory in the forward pass.
        backward_hbm_mb: the same in the backward pass.
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
        dtype: of products.
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
        collectives: kind -> those of a step.
        sent_gb: what a device sends in a step, by rings.
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
    dtype: Text
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
    collectives: dict[Text, CollectiveCost] | None = None
    sent_gb: _Number | None = None
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


def fit(report: StepReport) -> str:
    """Whether the program fits in a device, in words."""
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
        fit(report),
        "",
        *_memory(report),
        "",
        *_parts(report.parts),
        "",
    ]
    if report.temporaries_gb is None:
        return "\n".join(lines)
    lines += [
        f"HBM bytes: {report.hbm_gb_per_image:.3g} GB an image"
        + (
            f"; {report.uncounted_loops} loops of unknown length count as one turn"
            if report.uncounted_loops
            else ""
        ),
        *_collectives(report),
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


def _collectives(report: StepReport) -> list[str]:
    lines = []
    for kind, cost in report.collectives.items():
        line = f"{kind}: {cost.gb:.4g} GB in {cost.times} a step"
        if cost.formula_gb:
            line += f", by hand {cost.formula_gb:.4g} ({cost.gb / cost.formula_gb - 1:+.0%})"
        lines.append(line)
    if lines:
        lines.append(f"sent by each device: {report.sent_gb:.4g} GB a step")
    return lines


def _parts(parts: Mapping[str, PartCost]) -> list[str]:
    head = ("GFLOP an image", "MB of HBM an image")
    lines = [
        f"{'':<18}{head[0]:>20}{head[1]:>32}",
        f"{'part':<18}{'forward':>10}{'training':>10}{'forward':>12}{'backward':>10}{'sum':>10}",
    ]
    whole = PartCost()
    for name, cost in parts.items():
        if any(cost.model_dump().values()):
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
