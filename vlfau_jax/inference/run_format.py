"""Runs one format of a model folder without what it does not need: a process of its own.

    python run_format.py onnx|pytorch|stablehlo FOLDER FACES.npy OUT.npz

FACES holds uint8 [b, size, size, 3]; OUT gets the arrays that the format gives. This file imports
nothing of its package: what a format needs beside NumPy is what a user of the folder needs.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

# What must not be imported, so that nothing depends on it unnoticed.
WITHOUT = {
    "onnx": ("jax", "flax", "torch", "onnx", "vlfau_jax"),
    "pytorch": ("jax", "flax", "transformers", "vlfau_jax"),
    "stablehlo": ("flax", "torch", "vlfau_jax"),
}


def run_onnx(folder: Path, faces: np.ndarray) -> dict[str, np.ndarray]:
    """By onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    given = {"image": faces}
    if any(one.name == "sentences" for one in session.get_inputs()):
        given["sentences"] = np.asarray(True)
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def run_pytorch(folder: Path, faces: np.ndarray) -> dict[str, np.ndarray]:
    """By the folder's own module."""
    import torch

    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module
    sys.dont_write_bytecode = True  # in the folder
    spec.loader.exec_module(module)
    answers = module.load(folder).describe(torch.from_numpy(faces))
    return {name: value.numpy() for name, value in answers.items()}


def run_stablehlo(folder: Path, faces: np.ndarray) -> dict[str, np.ndarray]:
    """By jax.export."""
    import jax
    from jax import export
    from safetensors.numpy import load_file

    weights = load_file(folder / "model.safetensors")
    program = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    return jax.device_get(jax.jit(program.call)(weights, faces))


RUN = {"onnx": run_onnx, "pytorch": run_pytorch, "stablehlo": run_stablehlo}


def main(kind: str, folder: str, faces: str, out: str) -> None:
    """Runs the format `kind` of `folder`; prints which version of what ran it."""
    for name in WITHOUT[kind]:
        sys.modules[name] = None
    arrays = RUN[kind](Path(folder), np.load(faces, allow_pickle=False))
    np.savez(out, **arrays)
    there = {name: sys.modules.get(name) for name in ("jax", "onnxruntime", "torch")}
    print(json.dumps({name: module.__version__ for name, module in there.items() if module}))


if __name__ == "__main__":
    main(*sys.argv[1:])
