"""Predicts how a training step scales over devices, from programs compiled for some of them.

Weak scaling: every device keeps its images, so its products, its HBM bytes and its temporaries stay
as they were compiled. What changes with the number of devices n, with payloads P of
`account.collectives` (a sum is sent twice, once to add and once to give the result):

    sent      (2 P_reduce + P_gather + P_scatter) (n - 1) / n     a step and device, by rings
    state     parameters and optimizer, in as many parts as the axis 'fsdp' has

A step takes as long as its roofline t on one device, and the sends take s = sent / interconnect.
Efficiency is then t / (t + s) where nothing is sent while something is computed, and
t / max(t, s) where all is. Not counted: the delay of a message, links that others use, unequal
devices, input. A real step is slower than its roofline, so the share of its sends is smaller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlfau_jax.account.devices import device_for
from vlfau_jax.account.roofline import roofline
from vlfau_jax.account.step_report import StepReport
from vlfau_jax.errors import UserError
from vlfau_jax.records import read_record

_ROUNDS = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "all-to-all": 1}


@dataclass(frozen=True)
class Point:
    """A step on some number of devices.

    Attributes:
        devices: how many.
        exposed: efficiency where no send overlaps with computing.
        hidden: efficiency where every send does.
        peak_gb: memory that it needs on each.
        compiled: whether a program for so many devices was compiled; its memory and its sends are
            then the program's.
    """

    devices: int
    exposed: float
    hidden: float
    peak_gb: float
    compiled: bool


@dataclass(frozen=True)
class Series:
    """One network on one kind of mesh.

    Attributes:
        name: the files' name without the number of devices, "swin_b-data".
        report: the compiled program from which the others are predicted, that of most devices.
        points: by number of devices.
    """

    name: str
    report: StepReport
    points: tuple[Point, ...]


def read_reports(folder: Path) -> dict[str, list[StepReport]]:
    """The files NAME-DEVICES.json of `compile_only --out` in a folder, by NAME.

    Raises:
        UserError: there are none, or one is no such file.
    """
    found: dict[str, list[StepReport]] = {}
    for path in sorted(folder.glob("*-*.json")):
        found.setdefault(path.stem.rpartition("-")[0], []).append(read_record(path, StepReport))
    if not found:
        raise UserError(f"{folder}: no file NAME-DEVICES.json of compile_only --out")
    return found


def predicted(name: str, reports: Iterable[StepReport], devices: Iterable[int]) -> Series | None:
    """A series over numbers of devices; None where no program of it fits or says what it sends.

    Raises:
        UserError: no figures for the kind of device.
    """
    compiled = {one.devices: one for one in reports if one.collectives is not None}
    if not compiled:
        return None
    base = compiled[max(compiled)]
    points = [_point(base, compiled.get(n), n) for n in sorted({*devices, *compiled})]
    return Series(name, base, tuple(points))


def _point(base: StepReport, report: StepReport | None, devices: int) -> Point:
    device = device_for(base.device_kind)
    if device.interconnect is None:
        raise UserError(f"{base.device_kind}: no source says how fast its interconnect is")
    images = base.batch_size / base.devices
    alone = roofline(
        device,
        base.dtype,
        images=images,
        flops=base.gflop_per_image * 1e9 * images,
        hbm_bytes=base.hbm_gb_per_image * 1e9 * base.per_chip,
    ).seconds
    sent = _sent_gb(base, devices) if report is None else report.sent_gb
    between = sent * 1e9 / device.interconnect
    peak = _peak_gb(base, devices) if report is None else report.peak_gb
    return Point(
        devices, alone / (alone + between), alone / max(alone, between), peak, report is not None
    )


def _sent_gb(base: StepReport, devices: int) -> float:
    payload = sum(_ROUNDS.get(kind, 1) * one.gb for kind, one in base.collectives.items())
    return payload * (devices - 1) / devices


def _peak_gb(base: StepReport, devices: int) -> float:
    """With the state in other parts: 'fsdp' spans all devices, or stays as wide as it is."""
    state = base.parameters_gb + base.optimizer_gb
    spans = base.mesh["data"] == 1 < base.mesh["fsdp"]
    parts = devices if spans else base.mesh["fsdp"]
    return base.peak_gb + state * (base.mesh["fsdp"] / parts - 1)


def table(series: Iterable[Series]) -> str:
    """The points as a table in Markdown."""
    rows = ["| program | devices | peak GB | efficiency | |", "|---|---:|---:|---:|---|"]
    for one in series:
        for point in one.points:
            how = "compiled" if point.compiled else "predicted"
            rows.append(
                f"| {one.name} | {point.devices} | {point.peak_gb:.1f} | {point.exposed:.1%} to "
                f"{point.hidden:.1%} | {how} |"
            )
    return "\n".join(rows)
