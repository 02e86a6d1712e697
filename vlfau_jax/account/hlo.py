"""Reads the text of a compiled program, `jax.stages.Compiled.as_text()`: XLA's scheduled HLO.

One line is one instruction:

    %name = f32[8,49]{1,0:T(8,128)S(1)} fusion(%a, %b), kind=kLoop, calls=%c, metadata={op_name=...}

A type is dtype, sizes and layout. The layout lists the dimensions from the fastest to the slowest,
then the tiles into which memory is cut (openxla.org/xla/tiled_layout), then the memory space: none
is a device's main memory (HBM), S(1) is a TPU's vector memory. Not everything of a program is read,
only what `traffic` and `collectives` need.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,<=]*)\](\{[^}]*\})?")
_REFERENCE = re.compile(r"%([\w.\-]+)")
_TILE = re.compile(r"\(([\d,*]*)\)")
_CALLED = re.compile(
    r"(calls|to_apply|body|condition|branch_computations|true_computation|false_computation|"
    r"called_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_OP_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_KNOWN_TRIPS = re.compile(r'known_trip_count"?:\s*\{\s*"?n"?:\s*"?(\d+)')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_WIDTHS = {"pred": 8, "token": 0, "opaque": 0}


@dataclass(frozen=True, slots=True)
class Shape:
    """An array type. `bytes` is what it takes in memory, tiles filled up; `space` 0 is HBM."""

    dtype: str
    sizes: tuple[int, ...]
    bytes: int
    space: int

    @property
    def packed(self) -> int:
        """Bytes of its elements alone, without what fills tiles up."""
        return -(-math.prod(self.sizes) * dtype_bits(self.dtype) // 8)


@dataclass(slots=True)
class Instruction:
    """One instruction; `shapes` are those of its results, tuples flattened.

    `operands` and `called` are names; `called` maps an attribute ("body") to computations.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    called: dict[str, tuple[str, ...]]
    op_name: str
    text: str

    @property
    def bytes(self) -> int:
        """Of all results, in whatever memory."""
        return sum(shape.bytes for shape in self.shapes)

    @property
    def channel(self) -> str:
        """Of a collective: those of the same number are one, spread over several instructions."""
        found = _CHANNEL.search(self.text)
        return found[1] if found else self.name

    def integer(self) -> int | None:
        """The value of an integer constant; None for anything else."""
        if self.opcode != "constant":
            return None
        found = re.search(r"constant\((-?\d+)\)", self.text)
        return int(found[1]) if found else None

    def index(self) -> int:
        """Which element a get-tuple-element takes, or which parameter this is."""
        pattern = r"parameter\((\d+)\)" if self.opcode == "parameter" else r"index=(\d+)"
        return int(re.search(pattern, self.text)[1])


@dataclass(slots=True)
class Computation:
    """A computation: its instructions by name, in the order of the schedule."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""

    def parameters(self) -> dict[int, Instruction]:
        """Parameters by number."""
        return {i.index(): i for i in self.instructions.values() if i.opcode == "parameter"}

    def users(self) -> dict[str, list[Instruction]]:
        """Who reads each instruction."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                if operand in found:
                    found[operand].append(instruction)
        return found


@dataclass(slots=True)
class Module:
    """A compiled program: all computations, and the one that runs."""

    computations: dict[str, Computation]
    entry: str

    def trips(self, caller: Computation, loop: Instruction) -> int | None:
        """How often the body of a `while` runs: as XLA notes it, or as its condition counts.

        None where neither says so: a loop that ends early depends on values.
        """
        known = _KNOWN_TRIPS.search(loop.text)
        if known:
            return int(known[1])
        return _Counter(self, caller, loop).trips()


def parse(text: str) -> Module:
    """Reads a program's text."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if not line.startswith((" ", "}")):
            head = _HEAD.match(line)
            if head:
                current = computations[head[2]] = Computation(head[2])
                if head[1]:
                    entry = head[2]
            continue
        if current is None:
            continue
        match = _LINE.match(line)
        if not match:
            continue
        root, name, kind, opcode = match.groups()
        operands, rest = _operands(line, match.end(), opcode)
        named = _OP_NAME.search(line, rest)
        # Everything of interest stands before the compiler's own notes, which are long.
        notes = line.find(", backend_config=", rest)
        tail = line[rest:notes] if notes >= 0 else line[rest:]
        current.instructions[name] = Instruction(
            name,
            opcode,
            shapes(kind),
            operands,
            {
                attribute: tuple(_REFERENCE.findall(value)) or (value.strip("{}"),)
                for attribute, value in _CALLED.findall(tail)
            },
            named[1] if named else "",
            line.strip(),
        )
        if root:
            current.root = name
    return Module(computations, entry)


def _operands(line: str, start: int, opcode: str) -> tuple[tuple[str, ...], int]:
    """Names of the operands that begin at `start`, and where they end."""
    if opcode in ("constant", "parameter"):
        return (), start
    depth, end = 1, start
    while depth:
        close, opening = line.find(")", end), line.find("(", end)
        if close < 0:
            end = len(line)
            break
        if 0 <= opening < close:
            depth, end = depth + 1, opening + 1
        else:
            depth, end = depth - 1, close + 1
    return tuple(_REFERENCE.findall(line, start, end)), end


@functools.lru_cache(maxsize=100_000)
def shapes(text: str) -> tuple[Shape, ...]:
    """The arrays of a type as XLA writes it, tuples flattened."""
    return tuple(_shape(*found) for found in _ARRAY.findall(text))


def _shape(dtype: str, sizes: str, layout: str) -> Shape:
    dims = tuple(int(size.lstrip("<=")) for size in sizes.split(",") if size)
    order, _, rest = layout.strip("{}").partition(":")
    minor_to_major = [int(i) for i in order.split(",") if i] or list(range(len(dims)))[::-1]
    width = re.search(r"E\((\d+)\)", rest)
    bits = int(width[1]) if width else dtype_bits(dtype)
    space = re.search(r"S\((\d+)\)", rest)
    tiles = re.match(r"T((?:\([\d,*]*\))+)", rest)
    physical = [dims[i] for i in reversed(minor_to_major)]
    for tile in _TILE.findall(tiles[1]) if tiles else ():
        physical = _tiled(physical, tile)
    elements = math.prod(physical)
    return Shape(dtype, dims, -(-elements * bits // 8), int(space[1]) if space else 0)


def _tiled(physical: list[int], tile: str) -> list[int]:
    """Cuts the fastest dimensions into tiles: [..., n, m] -> [..., ceil(n/a), ceil(m/b), a, b]."""
    wanted = tile.split(",")
    physical = [1] * (len(wanted) - len(physical)) + physical
    outer, inner = physical[: len(physical) - len(wanted)], physical[len(physical) - len(wanted) :]
    sizes: list[int] = []
    carried = 1
    for size, extent in zip(inner, wanted, strict=True):
        if extent == "*":  # this dimension and the next are cut as one
            carried *= size
            continue
        sizes.append(carried * size)
        carried = 1
    extents = [int(extent) for extent in wanted if extent != "*"]
    return outer + [-(-n // t) for n, t in zip(sizes, extents, strict=True)] + extents


def dtype_bits(dtype: str) -> int:
    """Bits of an element: f32 32, bf16 16, pred 8 (a byte), s4 4, f8e4m3fn 8."""
    if dtype in _WIDTHS:
        return _WIDTHS[dtype]
    return int(re.search(r"\d+", dtype)[0]) if re.search(r"\d", dtype) else 0


class _Counter:
    """Counts the trips of a loop `for (i = first; i < limit; i += step)` from its computations."""

    def __init__(self, module: Module, caller: Computation, loop: Instruction) -> None:
        self._caller, self._loop = caller, loop
        self._condition = module.computations[loop.called["condition"][0]]
        self._body = module.computations[loop.called["body"][0]]
        self._module = module

    def trips(self) -> int | None:
        condition = self._condition
        compare = condition.instructions.get(condition.root)
        values = [(condition, name) for name in compare.operands] if compare else []
        if compare is not None and compare.opcode == "fusion":
            inner = self._module.computations[compare.called["calls"][0]]
            root, given = inner.instructions[inner.root], compare.operands
            compare, values = root, []
            for name in root.operands:
                one = inner.instructions[name]
                if one.opcode == "parameter":
                    values.append((condition, given[one.index()]))
                else:
                    values.append((inner, name))
        if compare is None or compare.opcode != "compare" or len(values) != 2:
            return None
        direction = re.search(r"direction=(\w+)", compare.text)[1]
        counters = [self._element(*value) for value in values]
        limits = [self._constant(*value) for value in values]
        if direction in ("GT", "GE"):  # limit > i
            counters, limits = counters[::-1], limits[::-1]
            direction = {"GT": "LT", "GE": "LE"}[direction]
        if direction not in ("LT", "LE", "NE") or counters[0] is None or limits[1] is None:
            return None
        first, step = self._first(counters[0]), self._step(counters[0])
        if first is None or not step:
            return None
        end = limits[1] + (direction == "LE")
        return max(0, -(-(end - first) // step))

    def _follow(self, computation: Computation, name: str) -> Instruction | None:
        instruction = computation.instructions.get(name)
        while instruction is not None and instruction.opcode in ("copy", "bitcast", "convert"):
            instruction = computation.instructions.get(instruction.operands[0])
        return instruction

    def _element(self, computation: Computation, name: str) -> int | None:
        """Which element of the loop's state a value is; None for a value that is none."""
        found = self._follow(computation, name)
        if found is None or found.opcode != "get-tuple-element":
            return None
        source = computation.instructions[found.operands[0]]
        return found.index() if source.opcode == "parameter" else None

    def _constant(self, computation: Computation, name: str) -> int | None:
        found = self._follow(computation, name)
        if found is None:
            return None
        if found.opcode == "constant":
            return found.integer()
        element = self._element(computation, name)
        if element is None or not self._unchanged(element):
            return None
        return self._first(element)

    def _first(self, element: int) -> int | None:
        """The value of an element of the state before the loop, where that is a constant."""
        state = self._caller.instructions.get(self._loop.operands[0])
        if state is None or state.opcode != "tuple":
            return None
        found = self._follow(self._caller, state.operands[element])
        return None if found is None else found.integer()

    def _unchanged(self, element: int) -> bool:
        root = self._body.instructions[self._body.root]
        return (
            root.opcode == "tuple" and self._element(self._body, root.operands[element]) == element
        )

    def _step(self, element: int) -> int | None:
        """By how much an element grows in a trip."""
        root = self._body.instructions[self._body.root]
        if root.opcode != "tuple":
            return None
        found = self._follow(self._body, root.operands[element])
        where = self._body
        given: tuple[str, ...] = ()
        if found is not None and found.opcode == "fusion":
            where = self._module.computations[found.called["calls"][0]]
            given = found.operands
            found = where.instructions[where.root]
        if found is None or found.opcode != "add":
            return None
        step, counted = None, False
        for name in found.operands:
            one = where.instructions[name]
            computation = where
            if one.opcode == "parameter" and given:
                computation, name = self._body, given[one.index()]
            if self._element(computation, name) == element:
                counted = True
            else:
                step = self._constant(computation, name)
        return step if counted else None


# Operations that send between devices, by what they do; "-start" begins an asynchronous one.
COLLECTIVES = {
    f"{kind}{end}": kind
    for kind in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
    for end in ("", "-start")
}


class Run(NamedTuple):
    """An instruction that runs by itself, and when.

    Attributes:
        computation: where it stands.
        instruction: what runs.
        times: how often, the trips of all loops around it multiplied.
        counted: whether `times` is known; where it is not, every unknown loop counts as one trip.
        branches: the conditionals around it, outermost first, each with the number of the branch.
    """

    computation: Computation
    instruction: Instruction
    times: int
    counted: bool
    branches: tuple[tuple[str, int], ...]


def walk(module: Module) -> Iterator[Run]:
    """Every instruction that runs by itself; all branches of a conditional are given.

    What a fusion, a reduction or an asynchronous call computes inside is not given: it belongs to
    them.
    """
    pending: list[tuple[str, int, bool, tuple]] = [(module.entry, 1, True, ())]
    while pending:
        name, times, sure, branches = pending.pop()
        computation = module.computations[name]
        for instruction in computation.instructions.values():
            yield Run(computation, instruction, times, sure, branches)
            if instruction.opcode == "while":
                trips = module.trips(computation, instruction)
                inner = times * (1 if trips is None else trips), sure and trips is not None
                for part in ("body", "condition"):
                    pending.append((instruction.called[part][0], *inner, branches))
            elif instruction.opcode == "call":
                pending.append((instruction.called["to_apply"][0], times, sure, branches))
            elif instruction.opcode == "conditional":
                called = [one for names in instruction.called.values() for one in names]
                for number, one in enumerate(called):
                    here = (*branches, (instruction.name, number))
                    pending.append((one, times, sure, here))
