"""What a program in StableHLO may hold, and the memory and work that running it takes at most.

A program is code. The operations below compute their results from their operands and do nothing
else: none calls a function of the process, communicates or draws random numbers. They are all that
a network needs. A loop must count up to a constant, so that a program ends, and every shape is
known. What remains is how much a program takes, which is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import prod

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

_ELEMENTWISE = """
    abs add and ceil clamp compare convert divide exponential exponential_minus_one floor is_finite
    log log_plus_one logistic maximum minimum multiply negate not or power remainder rsqrt select
    sign sqrt subtract tanh xor
""".split()  # noqa: SIM905 (a list of them would be 40 lines)
_MOVING = """
    broadcast_in_dim concatenate constant dynamic_slice dynamic_update_slice gather iota
    optimization_barrier pad reshape reverse slice transpose
""".split()  # noqa: SIM905
_FILLING = {f"stablehlo.{name}" for name in ("broadcast_in_dim", "constant", "iota", "reshape")}
_SCALAR = {f"stablehlo.{name}" for name in (*_ELEMENTWISE, "constant", "return")}
# Their regions compute one element from few; they are run for every element.
_APPLYING = {f"stablehlo.{name}" for name in ("reduce", "reduce_window", "scatter", "sort")}
_NESTING = {f"stablehlo.{name}" for name in ("case", "if", "while")}
_PRODUCTS = {f"stablehlo.{name}" for name in ("convolution", "dot_general")}
ALLOWED = (
    {f"stablehlo.{name}" for name in (*_ELEMENTWISE, *_MOVING, "return")}
    | {f"chlo.{name}" for name in ("erf", "erfc", "square", "top_k")}
    | {"func.return"}
    | _APPLYING
    | _NESTING
    | _PRODUCTS
)
_BYTES = {"i1": 1, "i8": 1, "ui8": 1, "i32": 4, "ui32": 4, "i64": 8, "bf16": 2, "f32": 4}
_MOST_DIMENSIONS = 12
_SORTING = 64  # comparisons of an element, far more than the logarithm of any size
_DEEPEST = 8
_LONGEST_LOOP = 2**31 - 2**16  # a counter of 32 bits does not overflow


class Refused(Exception):
    """What a program holds and may not, in words."""


@dataclass(frozen=True)
class Cost:
    """What running a program takes.

    Attributes:
        operations: how many it has, and how many operands these have.
        executed: the same, each as often as loops run it.
        loop: rounds of its longest loop.
        largest: bytes of its largest array, padding included that an operation adds on the way.
        live: the most bytes that are needed at once, if it is run in its order.
        work: results, times the operands that each is computed from.
        constant: the part of `work` that does not depend on the program's arguments, but for
            filling arrays; a compiler may do it, slowly.
    """

    operations: int = 0
    executed: int = 0
    loop: int = 0
    largest: int = 0
    live: int = 0
    work: int = 0
    constant: int = 0

    def excess(self, other: Cost, slack: Cost) -> str | None:
        """The first of its numbers that is above twice the other's and `slack`, in words."""
        for field in fields(self):
            mine, limit = (getattr(cost, field.name) for cost in (self, other))
            limit = 2 * limit + getattr(slack, field.name)
            if mine > limit:
                return f"{field.name} {mine}, at most {limit} expected"
        return None


def cost(module: ir.Module) -> Cost:
    """Measures a module of one function whose shapes are all known.

    Raises:
        Refused: it holds what is not among `ALLOWED`, or a loop without a bound.
    """
    functions = list(module.body.operations)
    if [function.operation.name for function in functions] != ["func.func"]:
        raise Refused("several functions")
    (body,) = functions[0].regions[0].blocks
    for argument in body.arguments:
        _size(argument)
    measure = _Measure()
    live = measure.block(body, 1, constant=False)
    return Cost(
        measure.operations, measure.executed, measure.loop, measure.largest, live, *measure.work
    )


class _Measure:
    def __init__(self) -> None:
        self.operations = self.executed = self.loop = self.largest = 0
        self.work = [0, 0]
        self._varying: set[ir.Value] = set()

    def block(self, block: ir.Block, rounds: int, constant: bool) -> int:
        """Counts a block that is run so often; returns the most bytes that it needs at once."""
        if not constant:
            self._varying.update(block.arguments)
        operations = [operation.operation for operation in block.operations]
        last = {}  # the operation after which a value is not needed any more
        for place, operation in enumerate(operations):
            last |= dict.fromkeys((*operation.results, *_operands(operation)), place)
        ending: dict[int, list[ir.Value]] = {}
        for value, place in last.items():
            ending.setdefault(place, []).append(value)
        own: dict[ir.Value, int] = {}
        live = most = 0
        for place, operation in enumerate(operations):
            own |= {result: _size(result) for result in operation.results}
            live += sum(own[result] for result in operation.results)
            most = max(most, live + self._operation(operation, rounds))
            live -= sum(own.pop(value, 0) for value in ending.get(place, ()))
        return most

    def _operation(self, operation: ir.Operation, rounds: int) -> int:
        """Counts an operation; returns the most bytes that its regions need at once."""
        name = operation.name
        if name not in ALLOWED:
            raise Refused(f"the operation {name}")
        for attribute in operation.attributes:
            key = attribute if isinstance(attribute, str) else attribute.name
            if "." in key or key.startswith("_"):
                raise Refused(f"the attribute {key} of {name}")
        constant = not any(value in self._varying for value in _operands(operation))
        if not constant:
            self._varying.update(operation.results)
        count = 1 + len(operation.operands)
        self.operations += count
        self.executed += rounds * count
        self.largest = max(self.largest, _padded(operation), *map(_size, operation.results))
        if name in _APPLYING:
            self.operations += _applied(operation)
        work = rounds * _work(operation)
        self.work[0] += work
        self.work[1] += work if constant and name not in _FILLING else 0
        if name not in _NESTING:
            return 0
        if name == "stablehlo.while":
            found = _rounds(operation)
            self.loop = max(self.loop, found)
            rounds *= max(found, 1)
        return max(
            self.block(block, rounds, constant)
            for region in operation.regions
            for block in region.blocks
        )


def _operands(operation: ir.Operation, depth: int = 0) -> Iterator[ir.Value]:
    """The values that it uses, those of its regions included."""
    if depth > _DEEPEST:
        raise Refused(f"more than {_DEEPEST} regions in each other")
    yield from operation.operands
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _operands(inner.operation, depth + 1)


def _shape(value: ir.Value) -> list[int]:
    if not isinstance(value.type, ir.RankedTensorType) or not value.type.has_static_shape:
        raise Refused(f"a value of the type {value.type}")
    if len(value.type.shape) > _MOST_DIMENSIONS:
        raise Refused(f"a value of {len(value.type.shape)} dimensions")
    return value.type.shape


def _size(value: ir.Value) -> int:
    elements = prod(_shape(value))
    kind = str(value.type.element_type)
    if kind not in _BYTES:
        raise Refused(f"a value of the type {value.type}")
    return elements * _BYTES[kind]


def _padded(operation: ir.Operation) -> int:
    """Bytes of what a window slides over, where the operation has one: padded and dilated."""
    if operation.name == "stablehlo.convolution":
        numbers = hlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
        places, dilation = list(numbers.input_spatial_dimensions), "lhs_dilation"
    elif operation.name == "stablehlo.reduce_window":
        places = list(range(len(_shape(operation.operands[0]))))
        dilation = "base_dilations"
    else:
        return 0
    shape = _shape(operation.operands[0])
    attributes = operation.attributes
    added = [0] * (2 * len(places))
    if "padding" in attributes:
        padding = ir.DenseIntElementsAttr(attributes["padding"])
        added = [padding[k] for k in range(2 * len(places))]
    steps = [1] * len(places)
    if dilation in attributes:
        steps = list(ir.DenseI64ArrayAttr(attributes[dilation]))
    for k, place in enumerate(places):
        shape[place] = shape[place] * steps[k] + abs(added[2 * k]) + abs(added[2 * k + 1])
    return prod(shape) * _BYTES[str(operation.operands[0].type.element_type)]


def _work(operation: ir.Operation) -> int:
    name = operation.name
    results = sum(prod(_shape(result)) for result in operation.results)
    operands = sum(prod(_shape(operand)) for operand in operation.operands)
    if name == "stablehlo.dot_general":
        left, _ = operation.operands
        numbers = hlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
        return results * prod(_shape(left)[k] for k in numbers.lhs_contracting_dimensions)
    if name == "stablehlo.convolution":
        _, kernel = operation.operands
        numbers = hlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
        outputs = _shape(kernel)[numbers.kernel_output_feature_dimension]
        return results * (prod(_shape(kernel)) // max(outputs, 1))
    if name not in _APPLYING:
        return results * _SORTING if name == "chlo.top_k" else results
    applied = _applied(operation)
    if name == "stablehlo.reduce_window":
        window = ir.DenseI64ArrayAttr(operation.attributes["window_dimensions"])
        return results * prod(window) * applied
    return operands * applied * (_SORTING if name == "stablehlo.sort" else 1)


def _applied(operation: ir.Operation) -> int:
    """How many operations the region of a reduction and the like has."""
    (block,) = operation.regions[0].blocks
    inside = [inner.operation for inner in block.operations]
    for inner in inside:
        if inner.name not in _SCALAR or any(_shape(result) for result in inner.results):
            raise Refused(f"{inner.name} inside {operation.name}")
    return len(inside)


def _rounds(loop: ir.Operation) -> int:
    """The most rounds of a while loop that counts from a constant to one."""
    condition, body = (region.blocks[0] for region in loop.regions)
    (going_on,) = _end(condition).operands
    found = []
    for place, limit in _limits(going_on, condition, {}).items():
        first = _integer(loop.operands[place])
        step = _step(_end(body).operands[place], body.arguments[place])
        if first is not None and step is not None and limit <= _LONGEST_LOOP:
            found.append(max(-(-(limit - first) // step), 0))
    if not found:
        raise Refused("a loop without a bound")
    return min(found)


def _end(block: ir.Block) -> ir.Operation:
    return list(block.operations)[-1].operation


def _limits(
    value: ir.Value, block: ir.Block, known: dict[ir.Value, dict[int, int]]
) -> dict[int, int]:
    """If an element of `value` is true, these arguments of the block are below these numbers.

    `known` holds what was found before, since a value may be an operand of many operations.
    """
    if value not in known:
        known[value] = _found_limits(value, block, known)
    return known[value]


def _found_limits(
    value: ir.Value, block: ir.Block, known: dict[ir.Value, dict[int, int]]
) -> dict[int, int]:
    operation = _defining(value)
    if operation is None:
        return {}
    operands = list(operation.operands)
    match operation.name:
        case "stablehlo.compare":
            return _compared(operation, block)
        case "stablehlo.and":
            left, right = (_limits(operand, block, known) for operand in operands)
            both = left.keys() & right.keys()
            return left | right | {place: min(left[place], right[place]) for place in both}
        case "stablehlo.or" | "stablehlo.concatenate":
            each = [_limits(operand, block, known) for operand in operands]
            common = set.intersection(*map(set, each))
            return {place: max(limits[place] for limits in each) for place in common}
        case "stablehlo.broadcast_in_dim" | "stablehlo.reshape":
            return _limits(operands[0], block, known)
        case "stablehlo.reduce" if len(operands) == 2 and _integer(operands[1]) == 0:
            (inner,) = operation.regions[0].blocks
            names = [each.operation.name for each in inner.operations]
            applied = next(iter(inner.operations)).operation
            if names == ["stablehlo.or", "stablehlo.return"] and list(applied.operands) == list(
                inner.arguments
            ):
                return _limits(operands[0], block, known)
    return {}


def _compared(operation: ir.Operation, block: ir.Block) -> dict[int, int]:
    left, right = operation.operands
    if str(left.type) not in ("tensor<i32>", "tensor<i64>"):
        return {}
    direction = hlo.ComparisonDirectionAttr(operation.attributes["comparison_direction"]).value
    if "compare_type" in operation.attributes:
        compared = hlo.ComparisonTypeAttr(operation.attributes["compare_type"]).value
        if compared not in ("SIGNED", "NOTYPE"):
            return {}
    if direction in ("GT", "GE"):
        left, right, direction = right, left, {"GT": "LT", "GE": "LE"}[direction]
    limit = _integer(right)
    if direction not in ("LT", "LE") or limit is None:
        return {}
    places = [place for place, argument in enumerate(block.arguments) if argument == left]
    return dict.fromkeys(places, limit + (direction == "LE"))


def _step(value: ir.Value, argument: ir.Value) -> int | None:
    """What is added to a loop's argument in each round, where that is a positive constant."""
    operation = _defining(value)
    if operation is None or operation.name != "stablehlo.add":
        return None
    left, right = operation.operands
    step = _integer(right if left == argument else left)
    counts = argument in (left, right) and step is not None and 0 < step < 2**16
    return step if counts else None


def _defining(value: ir.Value) -> ir.Operation | None:
    return None if isinstance(value, ir.BlockArgument) else value.owner.operation


def _integer(value: ir.Value) -> int | None:
    """The integer that a value of no dimensions is, where it is a constant."""
    operation = _defining(value)
    if operation is None or operation.name != "stablehlo.constant" or _shape(value):
        return None
    constant = operation.attributes["value"]
    if not isinstance(constant, ir.DenseIntElementsAttr):
        return None
    return int(constant[0])
