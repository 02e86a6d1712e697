"""The training program of devices that nobody here owns: compiled, and what it says of itself."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from vlfau_jax.account import hlo
from vlfau_jax.account.batch_search import Sample, largest_that_fits
from vlfau_jax.account.collectives import (
    KINDS,
    Collective,
    by_kind,
    collectives,
    expected,
    sent_bytes,
)
from vlfau_jax.account.compiler import Compiled, TooLarge, compile_step, usable_memory
from vlfau_jax.account.devices import device_for
from vlfau_jax.account.flops import Task, flops, total
from vlfau_jax.account.parts import PARTS
from vlfau_jax.account.result_file import reported
from vlfau_jax.account.roofline import roofline
from vlfau_jax.account.step_report import CollectiveCost, StepReport, Tried, fit, shown
from vlfau_jax.account.topology import open_topology
from vlfau_jax.account.traffic import traffic
from vlfau_jax.sharding.arrays import shards
from vlfau_jax.sharding.mesh import make_mesh
from vlfau_jax.train.experiment import Program, Settings, published_program
from vlfau_jax.train.workdir import config_digest

FIRST = 32  # images a device with which --search_batch begins


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
    return reported(
        lambda: _account(settings, topology, per_chip, search_batch),
        shown,
        out,
        overwrite,
        as_json=lambda report: report.model_dump_json(indent=1),
        example="step.json",
    )


def _account(
    settings: Settings, topology: str, per_chip: int | None, search_batch: bool
) -> StepReport:
    devices = open_topology(topology)
    if search_batch:
        return _searched(settings, devices, topology, per_chip)
    program = published_program(_with_batch(settings, devices, per_chip), devices)
    return account_of(program, topology)


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
        print(f"{images} images a device: {fit(report)}", flush=True)
        return Sample(images, report.peak_gb, report.fits)

    memory = usable_memory(devices[0]) / 1e9
    state = _bytes(published_program(_with_batch(settings, devices, 1), devices).abstract) / 1e9
    found, samples = largest_that_fits(measure, memory, state=state, first=per_chip or FIRST)
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
        "dtype": program.model.options.dtype,
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
            over_gb=max(0.0, error.needed - error.available) / 1e9,
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
    found = collectives(module, mesh.size)
    sent = sent_bytes(found)
    bound = roofline(
        device,
        program.model.options.dtype,
        images=settings.train.batch_size / mesh.size,
        flops=flops_per_image * settings.train.batch_size / mesh.size,
        hbm_bytes=moved.bytes,
        sent_bytes=sent,
    )
    return {
        "fits": compiled.peak <= memory,
        "over_gb": max(0.0, compiled.peak - memory) / 1e9,
        "temporaries_gb": compiled.temporaries / 1e9,
        "peak_gb": compiled.peak / 1e9,
        "hbm_gb_per_image": moved.bytes / images / 1e9,
        "collectives": _collectives(program, found),
        "sent_gb": sent / 1e9,
        "parts": {part: parts[part] for part in PARTS if part in parts},
        "uncounted_loops": len(moved.uncounted),
        "roofline_images_per_second": bound.images_per_second,
        "roofline_mfu": bound.mfu,
        "bound": bound.bound,
        "compile_seconds": compiled.seconds,
        "compile_cpu_seconds": compiled.cpu_seconds,
        "lower_seconds": compiled.lower_seconds,
    }


def _collectives(program: Program, found: Sequence[Collective]) -> dict[str, CollectiveCost]:
    """Those of each kind, beside what they should be by hand."""
    mesh, by_hand = program.mesh.shape, {}
    if mesh["tensor"] == 1:
        by_hand = expected(
            program.abstract.params,
            mesh,
            frozen=program.settings.optimizer.frozen,
            compute_bytes=jax.numpy.dtype(program.model.options.dtype).itemsize,
            parts=program.micro_batches,
            scored=_scored(program),
            compile_effort=program.settings.train.compile_effort,
        )
    sizes = by_kind(found)
    return {
        kind: CollectiveCost(
            times=sum(one.times for one in found if one.kind == kind),
            gb=sizes.get(kind, 0) / 1e9,
            formula_gb=by_hand[kind] / 1e9 if kind in by_hand else None,
        )
        for kind in KINDS
        if kind in sizes or by_hand.get(kind)
    }


def _scored(program: Program) -> tuple[str, ...]:
    """Modules of the forward pass from which micro-batches know the Dice term's gradient."""
    if program.micro_batches == 1 or not program.settings.objective.dice_weight:
        return ()
    own = ("global_captioner",) if program.model.options.global_context else ()
    return ("backbone", "fusion", "refinement", "classifier", *own)


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
