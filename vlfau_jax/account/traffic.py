"""Bytes that a compiled program moves to and from a device's main memory (HBM), by part.

XLA's own `cost_analysis()['bytes accessed']` counts traffic to a TPU's vector memory as well. Here
only arrays without a memory space count, at their size in memory, tiles filled up:

- an instruction reads each of its operands once and writes its results; a kernel that reads an
  operand again for every block of its result moves more, which the text does not say;
- a fusion does the same, whatever it computes inside; of an operand that it only slices or gathers
  from it reads the slices; an in-place update (dynamic-update-slice, scatter) reads and writes the
  updated places alone;
- an asynchronous copy counts where it starts; its end, tuples, bitcasts and parameters move
  nothing;
- the body of a loop counts as often as the loop turns (`hlo.Module.trips`), of a conditional the
  branch that moves most.

On a GPU or a CPU there are no memory spaces: there the count says what would move without caches.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from vlfau_jax.account import hlo
from vlfau_jax.account.parts import PARTS, Address, address

_NOTHING = {
    "add-dependency",
    "after-all",
    "async-done",
    "async-update",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "domain",
    "get-tuple-element",
    "infeed",
    "iota",
    "opt-barrier",
    "outfeed",
    "parameter",
    "partition-id",
    "recv",
    "replica-id",
    "send",
    "tuple",
    "while",
}
_SLICING = {"slice", "dynamic-slice", "gather"}
_UPDATING = {"dynamic-update-slice": 1, "scatter": 2}  # operand that holds the new values
# Calls of XLA's own that name memory or note a fact about it.
_IDLE = re.compile(
    'custom_call_target="(?:AllocateBuffer|ConcatBitcast|AssumeGatherIndicesInBound)"'
)


class Moved(NamedTuple):
    """What one instruction moves, in bytes of HBM over all its runs.

    `times` is how often it runs; `counted` whether that is known (`hlo.Run`).
    """

    instruction: hlo.Instruction
    address: Address
    read: int
    written: int
    times: int
    counted: bool
    branches: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        """Read and written."""
        return self.read + self.written


@dataclass(frozen=True)
class Traffic:
    """HBM traffic of one run of a program on one device.

    Attributes:
        moved: what moves bytes, largest first; of a conditional, the heaviest branch.
        branches: bytes of every branch of every conditional, by its name.
        uncounted: the loops whose trips are unknown, each counted as one trip.
    """

    moved: tuple[Moved, ...]
    branches: dict[str, tuple[int, ...]]
    uncounted: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """In all."""
        return sum(one.bytes for one in self.moved)

    @property
    def read(self) -> int:
        """Bytes read."""
        return sum(one.read for one in self.moved)

    def by_address(self) -> dict[Address, int]:
        """Bytes by part and direction, in the order of `PARTS`."""
        found: dict[Address, int] = defaultdict(int)
        for one in self.moved:
            found[one.address] += one.bytes
        return dict(sorted(found.items(), key=lambda item: (PARTS.index(item[0][0]), item[0][1])))


def traffic(program: str | hlo.Module) -> Traffic:
    """Reads the HBM traffic from a program's text, or from the text as `hlo.parse` gives it."""
    module = hlo.parse(program) if isinstance(program, str) else program
    memory = _Memory(module)
    moved, uncounted = [], []
    for run in hlo.walk(module):
        if run.instruction.opcode == "while":
            if module.trips(run.computation, run.instruction) is None:
                uncounted.append(run.instruction.name)
            continue
        read, written = memory.moves(run.computation, run.instruction)
        if read or written:
            moved.append(
                Moved(
                    run.instruction,
                    memory.address(run.computation, run.instruction),
                    read * run.times,
                    written * run.times,
                    run.times,
                    run.counted,
                    run.branches,
                )
            )
    moved, branches = _heaviest(moved)
    moved.sort(key=lambda one: -one.bytes)
    return Traffic(tuple(moved), branches, tuple(uncounted))


def by_part(text: str) -> dict[Address, int]:
    """HBM bytes of a program's text by (part, direction)."""
    return traffic(text).by_address()


def largest(program: str | Traffic, count: int = 40, per: float = 1e6) -> str:
    """A table of the instructions that move most: bytes in units of `per` (images * 1e6, say)."""
    found = program if isinstance(program, Traffic) else traffic(program)
    lines = [f"{'read':>9} {'written':>9} {'times':>5}  part, instruction, result, op_name"]
    for one in found.moved[:count]:
        i = one.instruction
        result = i.text.partition(" = ")[2].partition(f" {i.opcode}(")[0]
        lines.append(
            f"{one.read / per:9.2f} {one.written / per:9.2f} {one.times:5d}  "
            f"{one.address.part} {one.address.direction} | {i.name} | {result[:120]} | "
            f"{i.op_name[-90:]}"
        )
    rest = sum(one.bytes for one in found.moved[count:])
    lines.append(f"{rest / per:9.2f} in {max(0, len(found.moved) - count)} more")
    return "\n".join(lines)


def table(program: str | Traffic, per: float = 1e6) -> str:
    """A table of HBM bytes by part, in units of `per`, with shares."""
    found = program if isinstance(program, Traffic) else traffic(program)
    whole = found.bytes or 1
    rows: dict[str, dict[str, int]] = defaultdict(lambda: {"forward": 0, "backward": 0})
    for (part, direction), size in found.by_address().items():
        rows[part][direction] += size
    lines = [f"{'part':<20} {'forward':>10} {'backward':>10} {'sum':>10} share"]
    for part, row in rows.items():
        both = sum(row.values())
        lines.append(
            f"{part:<20} {row['forward'] / per:10.2f} {row['backward'] / per:10.2f} "
            f"{both / per:10.2f} {both / whole:5.1%}"
        )
    lines.append(f"{'in all':<20} {'':10} {'':10} {found.bytes / per:10.2f}")
    lines += [f"unknown trips, counted as one: {name}" for name in found.uncounted]
    lines += [f"{name}: branches of {sizes} bytes" for name, sizes in found.branches.items()]
    return "\n".join(lines)


def _heaviest(moved: list[Moved]) -> tuple[list[Moved], dict[str, tuple[int, ...]]]:
    """Keeps the heaviest branch of each conditional; inner conditionals first."""
    sizes: dict[str, tuple[int, ...]] = {}
    while True:
        depth = max((len(one.branches) for one in moved), default=0)
        if not depth:
            return moved, sizes
        deepest = [one for one in moved if len(one.branches) == depth]
        weights: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for one in deepest:
            name, number = one.branches[-1]
            weights[name][number] += one.bytes
        sizes |= {
            name: tuple(found.get(i, 0) for i in range(max(found) + 1))
            for name, found in weights.items()
        }
        best = {name: max(found, key=found.__getitem__) for name, found in weights.items()}
        moved = [one for one in moved if len(one.branches) < depth] + [
            one._replace(branches=one.branches[:-1])
            for one in deepest
            if best[one.branches[-1][0]] == one.branches[-1][1]
        ]


class _Memory:
    """What instructions of one program read and write in HBM."""

    def __init__(self, module: hlo.Module) -> None:
        self._module = module
        self._users: dict[str, dict[str, list[hlo.Instruction]]] = {}
        self._channels: set[str] = set()
        self._known: dict[tuple[str, str], tuple[int | None, str]] = {}

    def moves(self, computation: hlo.Computation, one: hlo.Instruction) -> tuple[int, int]:
        """Bytes read and written by one run."""
        opcode = one.opcode
        if opcode in _NOTHING or opcode.endswith("-done"):
            return 0, 0
        if opcode == "custom-call" and _IDLE.search(one.text):
            return 0, 0
        if opcode == "copy-start":
            target, source = one.shapes[0], self._source(computation, one.operands[0])
            return _hbm(source), _hbm([target])
        called = one.called.get("calls")
        if opcode in ("fusion", "async-start") and called:
            return self._fusion(computation, one, self._module.computations[called[0]])
        if opcode.endswith("-start"):
            return self._started(computation, one)
        if opcode in _SLICING:
            size = sum(shape.bytes for shape in one.shapes)
            read = size * self._in_hbm(computation, one.operands[0])
            read += self._operands(computation, one.operands[1:])
            return read, _hbm(one.shapes)
        if opcode in _UPDATING:
            given = one.operands[_UPDATING[opcode]]
            size = sum(shape.bytes for shape in self._source(computation, given))
            in_hbm = one.shapes[0].space == 0
            read = self._operands(computation, one.operands[1:])
            read += size * in_hbm * (opcode == "scatter")
            return read, size * in_hbm
        return self._operands(computation, one.operands), _hbm(one.shapes)

    def _source(self, computation: hlo.Computation, name: str) -> tuple[hlo.Shape, ...]:
        found = computation.instructions.get(name)
        return found.shapes if found else ()

    def _in_hbm(self, computation: hlo.Computation, name: str) -> bool:
        return any(shape.space == 0 for shape in self._source(computation, name))

    def _operands(self, computation: hlo.Computation, names: Iterable[str]) -> int:
        return sum(_hbm(self._source(computation, name)) for name in dict.fromkeys(names))

    def _started(self, computation: hlo.Computation, one: hlo.Instruction) -> tuple[int, int]:
        """slice-start, all-gather-start, ...: its results are operands, results and contexts."""
        given = [self._source(computation, name) for name in one.operands]
        operands = [shape for shapes in given for shape in shapes]
        results = one.shapes
        if len(results) >= 2 * len(operands):  # the operands are passed on
            results = results[len(operands) :]
        results = results[: max(1, len(operands))]
        if one.opcode == "dynamic-update-slice-start":
            written = sum(shape.bytes for shape in given[1]) * (results[0].space == 0)
            return _hbm(given[1]), written
        if "slice" in one.opcode:
            size = sum(shape.bytes for shape in results[:1])
            return size * any(shape.space == 0 for shape in given[0]), _hbm(results[:1])
        return _hbm(operands), _hbm(results)

    def _fusion(
        self, computation: hlo.Computation, one: hlo.Instruction, inner: hlo.Computation
    ) -> tuple[int, int]:
        read: dict[str, int] = {}
        for number, name in enumerate(one.operands):
            source = self._source(computation, name)
            size = self._reads(inner, number)
            if any(shape.space == 0 for shape in source):
                whole = _hbm(source)
                size = whole if size is None else min(size, whole)
                read[name] = max(read.get(name, 0), size)
        root = inner.instructions[inner.root]
        results = one.shapes
        if one.opcode == "async-start":
            results = results[sum(len(self._source(computation, n)) for n in one.operands) :]
            results = results[: len(root.shapes)]
        sent = [i for i in inner.instructions.values() if i.opcode in hlo.COLLECTIVES]
        if not sent:
            return sum(read.values()), self._writes(inner, root, results)
        # Only what is computed beside the collective; its own buffers count once, at its start.
        written = self._writes(inner, root, results) if root.opcode == "tuple" else 0
        for own in sent:
            if own.channel not in self._channels:
                self._channels.add(own.channel)
                read[own.channel] = self._operands(inner, own.operands)
                buffers = [shape for shape in results if shape.sizes == own.shapes[0].sizes]
                written += own.bytes * (not buffers or any(b.space == 0 for b in buffers))
        return sum(read.values()), written

    def _writes(
        self, inner: hlo.Computation, root: hlo.Instruction, results: tuple[hlo.Shape, ...]
    ) -> int:
        if root.opcode == "tuple" and len(root.operands) == len(results):
            pairs = [
                (inner.instructions[name], shape)
                for name, shape in zip(root.operands, results, strict=True)
            ]
        elif len(results) == 1:
            pairs = [(root, results[0])]
        else:
            return _hbm(results)
        return sum(self._written(inner, *pair) for pair in pairs)

    def _written(self, inner: hlo.Computation, one: hlo.Instruction, shape: hlo.Shape) -> int:
        """Bytes that a result of a fusion takes: of an update in place, the new values alone."""
        if shape.space or one.opcode == "parameter" or one.opcode in hlo.COLLECTIVES:
            return 0  # in fast memory, passed on, or sent
        while one.opcode == "bitcast":
            one = inner.instructions[one.operands[0]]
        if one.opcode == "fusion":
            deeper = self._module.computations[one.called["calls"][0]]
            if len(one.shapes) == 1:
                return self._written(deeper, deeper.instructions[deeper.root], shape)
        if one.opcode in _UPDATING:
            given = inner.instructions[one.operands[_UPDATING[one.opcode]]]
            return min(given.bytes, shape.bytes)
        return shape.bytes

    def _reads(self, inner: hlo.Computation, number: int) -> int | None:
        """Bytes that a fused computation reads of its operand; None for all of it."""
        parameter = inner.parameters().get(number)
        if parameter is None:
            return None
        read, leaves = self._used(inner, parameter.name)
        # What leaves as it came was copied, unless it was updated in place.
        return None if leaves == "copied" else read

    def _used(self, inner: hlo.Computation, name: str) -> tuple[int | None, str]:
        """Bytes that the users of a value read of it (None: all), and how it leaves `inner`.

        It leaves as "copied", or, with new values written into it, as "updated"; "" if it does not.
        """
        if (inner.name, name) not in self._known:
            self._known[inner.name, name] = self._find_used(inner, name)
        return self._known[inner.name, name]

    def _find_used(self, inner: hlo.Computation, name: str) -> tuple[int | None, str]:
        total, leaves = 0, "copied" if name == inner.root else ""
        for user in self._users_of(inner, name):
            size, further = 0, ""
            if user.opcode == "bitcast":
                size, further = self._used(inner, user.name)
            elif user.opcode in _SLICING and name not in user.operands[1:]:
                size = user.bytes
            elif user.opcode in _UPDATING and name not in user.operands[1:]:
                size, further = self._used(inner, user.name)
                further = "updated" if further else ""
                if user.opcode == "scatter" and size is not None:
                    size += inner.instructions[user.operands[_UPDATING["scatter"]]].bytes
            elif user.opcode == "fusion":
                deeper = self._module.computations[user.called["calls"][0]]
                for parameter in deeper.parameters().values():
                    if user.operands[parameter.index()] == name:
                        part, how = self._used(deeper, parameter.name)
                        size = None if part is None or size is None else size + part
                        if how:
                            rest, further = self._used(inner, user.name)
                            further = how if further and how == "updated" else further
                            size = None if rest is None or size is None else size + rest
            elif user.name == inner.root and user.opcode == "tuple":
                further = "passed on"
            elif user.opcode in hlo.COLLECTIVES:
                pass
            elif user.name == inner.root and user.opcode == "custom-call":
                pass  # begins or ends a collective
            else:
                return None, leaves
            if size is None:
                return None, leaves
            total, leaves = total + size, further or leaves
        return total, leaves

    def _users_of(self, computation: hlo.Computation, name: str) -> list[hlo.Instruction]:
        if computation.name not in self._users:
            self._users[computation.name] = computation.users()
        return self._users[computation.name].get(name, [])

    def address(self, computation: hlo.Computation, one: hlo.Instruction) -> Address:
        """Where an instruction belongs: by its own name, what it computes, or whom it serves."""
        found = address(one.op_name)
        if found.part != "other":
            return found
        inside = self._inside(one)
        if inside.part != "other":
            return inside
        served = self._neighbour(computation, one, lambda i: self._users_of(computation, i.name))
        if served.part != "other":
            return served
        return self._neighbour(
            computation,
            one,
            lambda i: [
                computation.instructions[name]
                for name in i.operands
                if name in computation.instructions
            ],
        )

    def _inside(self, one: hlo.Instruction) -> Address:
        votes: dict[Address, int] = defaultdict(int)
        for name in one.called.get("calls", ()):
            for inner in self._module.computations[name].instructions.values():
                found = address(inner.op_name)
                if found.part != "other":
                    votes[found] += inner.bytes
        return max(votes, key=votes.__getitem__) if votes else address("")

    def _neighbour(
        self,
        computation: hlo.Computation,
        one: hlo.Instruction,
        step: Callable[[hlo.Instruction], list[hlo.Instruction]],
        most: int = 6,
    ) -> Address:
        """The first address among those next to it, then next to these, ..."""
        seen, front = {one.name}, [one]
        for _ in range(most):
            front = [
                other
                for instruction in front
                for other in step(instruction)
                if not (other.name in seen or seen.add(other.name))
            ]
            for other in front:
                found = address(other.op_name)
                if found.part == "other":
                    found = self._inside(other)
                if found.part != "other":
                    return found
        return address(one.op_name)


def _hbm(shapes: Iterable[hlo.Shape]) -> int:
    return sum(shape.bytes for shape in shapes if shape.space == 0)
