"""What the devices of a mesh send each other in a step: read from the program, and by hand."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from vlfau_jax.account import hlo
from vlfau_jax.account.parts import Address, address

KINDS = tuple(dict.fromkeys(hlo.COLLECTIVES.values()))
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")
_AXIS = re.compile(r"'([^']+)'(?:=(\d+)|:\(\d+\)(\d+))?")


@dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
        kind: one of `KINDS`.
        payload: bytes of the whole array on each device, over all runs, without padding: what is
            summed, what a gather gives, what a scatter takes.
        group: devices that take part together.
        times: how often it runs.
        address: for which part.
        name: the instruction's.
    """

    kind: str
    payload: int
    group: int
    times: int
    address: Address
    name: str

    @property
    def sent(self) -> float:
        """Bytes that a device sends, with rings: all but its own share, twice for a sum."""
        if self.kind == "collective-permute":
            return self.payload
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * self.payload * (self.group - 1) / self.group


def collectives(program: str | hlo.Module, devices: int | None = None) -> list[Collective]:
    """The collectives of a compiled program, asynchronous ones once, in loops as often as they run.

    Args:
        program: its text, or the text as `hlo.parse` gives it.
        devices: how many run it; needed where a collective of all of them names no group.
    """
    module = hlo.parse(program) if isinstance(program, str) else program
    found, seen = [], set()
    for run in hlo.walk(module):
        for computation, one in _within(module, run):
            # A TPU's asynchronous collective proceeds in several fusions, beside other work.
            if computation is not run.computation:
                if one.channel in seen:
                    continue
                seen.add(one.channel)
            found.append(
                Collective(
                    hlo.COLLECTIVES[one.opcode],
                    _payload(computation, one) * run.times,
                    _group(one, devices),
                    run.times,
                    address(one.op_name or run.instruction.op_name),
                    run.instruction.name,
                )
            )
    return [one for one in found if one.group > 1]


def _within(module: hlo.Module, run: hlo.Run) -> Iterator[tuple[hlo.Computation, hlo.Instruction]]:
    """The collective that an instruction is, or those inside it, with where they stand."""
    one = run.instruction
    if one.opcode in hlo.COLLECTIVES:
        yield run.computation, one
    elif one.opcode in ("fusion", "async-start"):
        for name in one.called.get("calls", ()):
            computation = module.computations[name]
            for inner in computation.instructions.values():
                if inner.opcode in hlo.COLLECTIVES:
                    yield computation, inner


def by_kind(found: list[Collective]) -> dict[str, int]:
    """Payload in bytes of each kind that occurs, in the order of `KINDS`."""
    sizes: dict[str, int] = defaultdict(int)
    for one in found:
        sizes[one.kind] += one.payload
    return {kind: sizes[kind] for kind in KINDS if sizes[kind]}


def sent_bytes(found: list[Collective]) -> float:
    """Bytes that a device sends in all."""
    return sum(one.sent for one in found)


def _payload(computation: hlo.Computation, one: hlo.Instruction) -> int:
    operands = sum(
        shape.packed for name in one.operands for shape in computation.instructions[name].shapes
    )
    if hlo.COLLECTIVES[one.opcode] != "all-gather":
        return operands
    results = sum(shape.packed for shape in one.shapes)
    return results - operands if one.opcode.endswith("-start") else results


def _group(one: hlo.Instruction, devices: int | None) -> int:
    """How many devices take part together."""
    text = one.text
    if listed := _LISTED.search(text):
        return len(listed[1].split(","))
    if iota := _IOTA.search(text):
        return int(iota[2])
    if named := _MESH.search(text):  # mesh['x'=2,'y'=4] {'y'}, or a part of an axis: {'y':(1)2}
        sizes = {name: int(size) for name, size, _ in _AXIS.findall(named[1])}
        axes = _AXIS.findall(named[2])
        return math.prod(int(part) if part else sizes[name] for name, _, part in axes)
    if one.opcode.startswith("collective-permute"):
        return 2
    if devices is None or not ("replica_groups={}" in text or "replica_groups=" not in text):
        raise ValueError(f"cannot read the groups of devices in {text[:400]!r}")
    return devices


# The `train.compile_effort` down to which XLA for TPUs gathers parameters as they are stored. Above
# it gathers in bfloat16 what it multiplies so (libtpu 0.0.42.1: -0.4 does, -0.5 does not).
AS_STORED = -0.5
# Parameters that are used in float32 whatever the compute dtype.
_FLOAT32 = re.compile(r"norm\w*/|relative_position_bias|^refinement/|^classifier/|logits_bias")


def expected(
    params: Any,
    mesh: Mapping[str, int],
    *,
    frozen: tuple[str, ...] = (),
    compute_bytes: int = 4,
    parts: int = 1,
    scored: tuple[str, ...] = (),
    compile_effort: float = 0.0,
) -> dict[str, float]:
    """Payload by kind that training needs, by hand, where the axis 'tensor' is 1.

    Every device computes with whole parameters on its own images, so that

    - parameters that 'fsdp' splits are gathered, once a step. That is before a scan's loop over
      blocks, and neither its backward pass nor `remat` gathers again. Of micro-batches, XLA for TPU
      gathers before both loops, for CPU before each of them, for GPU in each micro-batch;
    - their gradients are summed over all devices that split the batch ('data' and 'fsdp').

    What the network casts to the compute dtype has its gradient in that dtype; `_FLOAT32` names the
    rest, and XLA for CPU computes all in float32. The norm of the gradient and the loss terms, a
    few numbers, are left out.

    Args:
        params: parameters as `jax.ShapeDtypeStruct` with their `NamedSharding`.
        mesh: size of every axis.
        frozen: modules without a gradient.
        compute_bytes: of an element of the compute dtype.
        parts: micro-batches.
        scored: modules of which micro-batches need a first forward pass (`train.accumulate`).
        compile_effort: `train.compile_effort`.
    """
    gathered = summed = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        platform = leaf.sharding.mesh.devices.flat[0].platform
        wide = platform == "cpu" or _FLOAT32.search(name)
        width = leaf.dtype.itemsize if wide else compute_bytes
        if "fsdp" in _axes(leaf.sharding) and mesh["fsdp"] > 1:
            if platform == "tpu":
                each = _gathered_by_tpu(leaf, width, compile_effort)
            else:  # as stored where a backward pass follows, whatever it is cast to
                each = leaf.dtype.itemsize + (width if path[0].key in scored else 0)
                each *= 1 if platform == "cpu" else parts
            gathered += math.prod(leaf.shape) * each
        if path[0].key not in frozen and mesh["data"] * mesh["fsdp"] > 1:
            summed += _gradient_elements(params[path[0].key], path, leaf) * width * parts
    return {"all-gather": gathered, "all-reduce": summed}


def _gathered_by_tpu(leaf: jax.ShapeDtypeStruct, width: int, compile_effort: float) -> int:
    """Bytes of an element in a gather; `width` is that of the dtype it is used in.

    A TPU multiplies float32 in bfloat16 unless told otherwise, and gathers a matrix so.
    """
    if compile_effort <= AS_STORED:
        return leaf.dtype.itemsize
    return 2 if len(leaf.shape) > 1 else width


def _gradient_elements(module: Mapping[str, Any], path: tuple, leaf: jax.ShapeDtypeStruct) -> int:
    """Elements of a parameter's gradient that are summed over devices."""
    name = path[-1].key
    if name in ("words", "words_to_gates") and "words_to_gates" in module:
        # Every device multiplies both into its own table [vocabulary, gates]. Summed is the
        # table's gradient; theirs follow from it.
        table = *module["words"].shape[:-1], module["words_to_gates"].shape[-1]
        return math.prod(table) if name == "words" else 0
    return math.prod(leaf.shape)


def _axes(sharding: NamedSharding) -> set[str]:
    spec: PartitionSpec = sharding.spec
    return {axis for axis in spec if axis is not None}
