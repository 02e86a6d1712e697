"""A YuNet in ONNX that takes any bright square of 32 pixels for a face: its program, untrained.

OpenCV's FaceDetectorYN reads maps of score, box and five points at strides 8, 16 and 32 from it.
The file is protocol-buffer wire format, written by hand: there is no onnx package here.
"""

from __future__ import annotations

import math

import numpy as np

BOX = (0.5, 0.5, math.log(3), math.log(4))  # centre in the cell; 3 cells wide, 4 high


def _varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, array: np.ndarray) -> bytes:
    kind = {"float32": 1, "int64": 7}[str(array.dtype)]
    dims = b"".join(_field(1, n) for n in array.shape)
    return _field(5, dims + _field(2, kind) + _field(8, name) + _field(9, array.tobytes()))


def _ints(name: str, values: tuple[int, ...]) -> bytes:
    numbers = b"".join(_field(8, n) for n in values)
    return _field(5, _field(1, name) + numbers + _field(20, 7))


def _node(kind: str, inputs: tuple[str, ...], output: str, attributes: bytes = b"") -> bytes:
    names = b"".join(_field(1, name) for name in inputs)
    return _field(1, names + _field(2, output) + _field(3, output) + _field(4, kind) + attributes)


def _value(number: int, name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, n)) for n in shape)
    return _field(number, _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims))))


def tiny_yunet(points: tuple[float, ...]) -> bytes:
    """The model's file; `points` are x and y of right eye, left eye, nose, mouth's corners."""
    graph = b""
    for stride in (8, 16, 32):
        bright = np.full((1, 3, stride, stride), 1 / (3 * stride**2 * 255), np.float32)
        heads = {
            "cls": (0 * bright, (1.0,)),
            "obj": (bright, (0.0 if stride == 32 else -1.0,)),
            "bbox": (0 * bright, BOX),
            "kps": (0 * bright, points),
        }
        for name, (weights, bias) in heads.items():
            out, n = f"{name}_{stride}", len(bias)
            graph += _tensor(f"{out}_w", np.repeat(weights, n, 0))
            graph += _tensor(f"{out}_b", np.array(bias, np.float32))
            graph += _tensor(f"{out}_s", np.array([1, -1, n], np.int64))
            size = _ints("kernel_shape", (stride, stride)) + _ints("strides", (stride, stride))
            graph += _node("Conv", ("input", f"{out}_w", f"{out}_b"), f"{out}_conv", size)
            graph += _node("Transpose", (f"{out}_conv",), f"{out}_t", _ints("perm", (0, 2, 3, 1)))
            graph += _node("Reshape", (f"{out}_t", f"{out}_s"), out)
            graph += _value(12, out, (1, (640 // stride) ** 2, n))
    graph = _field(2, "tiny") + graph + _value(11, "input", (1, 3, 640, 640))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
