"""Reads the collectives from the text of a compiled program (XLA's HLO)."""

import re
from dataclasses import dataclass

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?\S+ = (.*?) ([a-z-]+?)(?:-start)?\(", re.MULTILINE)
_SHAPE = re.compile(r"\b[a-z]+\d*\[([\d,]*)\]")


@dataclass(frozen=True)
class Instruction:
    """kind, as "all-gather" or "dot"; shapes of its results on one device; the JAX operation."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    operation: str


def instructions(text: str, kinds: tuple[str, ...] = KINDS) -> list[Instruction]:
    """The instructions of these kinds, in the order of the text."""
    found = []
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if match and match[2] in kinds:
            shapes = tuple(
                tuple(int(size) for size in sizes.split(",") if size)
                for sizes in _SHAPE.findall(match[1])
            )
            operation = re.search(r'op_name="([^"]*)"', line)
            found.append(Instruction(match[2], shapes, operation[1] if operation else ""))
    return found


def bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape up to what XLA is free to change: the order of axes, and axes of one."""
    return tuple(sorted(size for size in shape if size != 1))


def strays(text: str, parameters: set[tuple[int, ...]]) -> list[Instruction]:
    """What moves arrays between devices that are no parameters: batches, windows, activations.

    Sums (all-reduce, reduce-scatter) are left out: they are what splitting is paid with.
    `parameters` are the shapes on a device that computes with them.
    """
    allowed = {bare(shape) for shape in parameters}
    return [
        one
        for one in instructions(text, ("all-gather", "all-to-all", "collective-permute"))
        if any(bare(shape) not in allowed for shape in one.shapes)
    ]
