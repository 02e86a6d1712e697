"""Builds a graph of ONNX operators: each call adds a node and returns the name of its result."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Of the format and of its operators: those of onnx 1.20 (December 2025), which all runtimes that
# are kept up read; newer operators would give nothing here.
IR_VERSION, OPSET = 13, 25

_DTYPES = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}

Value = str  # the name of a tensor in the graph
Left = tuple[Value, str, Sequence[int | str]]  # with dtype and shape; a text is any size


class Graph:
    """A graph that grows: `graph.MatMul(x, y)` adds that operator and returns its result's name.

    Operands are names, or arrays and numbers, which become constants. The body of a loop is a graph
    of its own, which sees all of the graph that it is in.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {} if outer is None else outer.constants
        self._known: dict[tuple, Value] = {} if outer is None else outer._known
        self._numbers: itertools.count = itertools.count() if outer is None else outer._numbers
        self.outer = outer

    def __getattr__(self, operator: str) -> Callable[..., Value]:
        if not operator[:1].isupper():
            raise AttributeError(operator)

        def add(*operands: Any, **attributes: Any) -> Value:
            return self.nodes_of(operator, operands, 1, attributes)[0]

        return add

    def nodes_of(
        self, operator: str, operands: Sequence[Any], results: int, attributes: Mapping[str, Any]
    ) -> list[Value]:
        """Adds an operator with several results, and returns their names."""
        names = [f"{operator}_{next(self._numbers)}" for _ in range(results)]
        operands = [x if isinstance(x, str) else self.constant(x) for x in operands]
        self.nodes.append(helper.make_node(operator, operands, names, names[0], **attributes))
        return names

    def constant(self, value: Any, name: str = "") -> Value:
        """A constant: Python's numbers are float32 or int64, as most operators take them."""
        array = np.asarray(value)
        if not isinstance(value, np.ndarray | np.generic):
            array = array.astype(
                {"f": np.float32, "i": np.int64}.get(array.dtype.kind, array.dtype)
            )
        key = (str(array.dtype), array.shape, array.tobytes())
        if name:
            self.constants[name] = numpy_helper.from_array(array, name)
            return name
        if key not in self._known:
            self._known[key] = f"constant_{next(self._numbers)}"
            self.constants[self._known[key]] = numpy_helper.from_array(array, self._known[key])
        return self._known[key]

    def cast(self, x: Value, dtype: str) -> Value:
        """`x` in another dtype."""
        return self.Cast(x, to=_DTYPES[dtype])

    def reshape(self, x: Value, *shape: int) -> Value:
        """`x` in another shape; 0 keeps the size of that axis, -1 takes what is left."""
        return self.Reshape(x, list(shape))

    def slice(self, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
        """x[start:end:step] along an axis."""
        return self.Slice(x, [start], [end], [axis], [step])

    def split(self, x: Value, parts: int) -> list[Value]:
        """Equal parts along the last axis."""
        return self.nodes_of("Split", [x], parts, {"axis": -1, "num_outputs": parts})

    def loop(
        self,
        steps: Value,
        state: Sequence[tuple[Value, str]],
        body: Callable[[Graph, list[Value]], tuple[Value, list[Value], list[Left]]],
    ) -> list[Value]:
        """Repeats a body while it says so, at most `steps` times.

        Args:
            steps: int64 [].
            state: what goes from step to step, each with its dtype.
            body: of (graph, state): whether to go on, the new state, and what every step leaves,
                each with its dtype and shape, which is that of no steps, too.

        Returns:
            The last state, then what the steps left, along a new first axis.
        """
        inner = Graph(self)
        place = next(self._numbers)
        names = [f"state_{place}_{i}" for i in range(len(state))]
        go_on, after, left = body(inner, list(names))
        dtypes = [dtype for _, dtype in state]
        inputs = [(f"step_{place}", "int64", []), (f"go_on_{place}", "bool", [])]
        values = [helper.make_tensor_value_info(n, _DTYPES[t], s) for n, t, s in inputs]
        values += [
            helper.make_tensor_value_info(name, _DTYPES[dtype], None)
            for name, dtype in zip(names, dtypes, strict=True)
        ]
        results = [(go_on, "bool", []), *((x, t, None) for x, t in zip(after, dtypes, strict=True))]
        given = [
            helper.make_tensor_value_info(name, _DTYPES[dtype], shape)
            for name, dtype, shape in (*results, *left)
        ]
        graph = helper.make_graph(inner.nodes, f"body_{place}", values, given)
        operands = [steps, np.asarray(True), *(name for name, _ in state)]
        return self.nodes_of("Loop", operands, len(state) + len(left), {"body": graph})

    def model(
        self,
        inputs: Mapping[str, tuple[str, Sequence[int | str]]],
        outputs: Mapping[str, tuple[Value, str, Sequence[int | str]]],
        text: str,
    ) -> onnx.ModelProto:
        """The whole as a model.

        Args:
            inputs: name -> dtype and shape, in which a text stands for any size.
            outputs: name -> value, dtype and shape.
            text: its documentation.
        """
        for name, (value, _, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name], name))
        graph = helper.make_graph(
            self.nodes,
            "vlfau",
            [helper.make_tensor_value_info(n, _DTYPES[t], s) for n, (t, s) in inputs.items()],
            [helper.make_tensor_value_info(n, _DTYPES[t], s) for n, (_, t, s) in outputs.items()],
            list(self.constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="vlfau_jax",
            doc_string=text,
        )
        onnx.checker.check_model(model, full_check=True)
        return model
