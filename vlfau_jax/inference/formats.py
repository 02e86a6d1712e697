"""The other formats of a model folder: written beside the program, and compared with the network.

Each runs in a process of its own that has no jax, and must give what the live network gives, to
`TOLERANCE`, its maps to `MAP_TOLERANCE`; its sentences token for token.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlfau_jax.data.text.vocabulary import START
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.inference import run_format
from vlfau_jax.inference.checked_faces import Arrays, run
from vlfau_jax.inference.program import environment
from vlfau_jax.inference.trained import Trained
from vlfau_jax.model.vlfau import VLFAU, normalise

TOLERANCE = 1e-5  # of probabilities, attention and maps; of a score below -1, of it
# Of spatial maps between two ways of computing. In float32 those of the demo's network are 0.7e-5
# (XLA), 0.8e-5 (onnxruntime) and 1.1e-5 (PyTorch) from what it gives in float64: nobody's is right.
# A map is the sigmoid, of slope 1/4, of a convolution with weights of a sum of 4.4 of features F up
# to 140, which no norm bounds; float32 keeps those to 4e-7 of the largest. Each part has its share:
# alone in float32, the others in float64, the backbone moves maps by 0.8e-5 (its convolutions by
# 0.3e-5, attention and LayerNorm by less than 0.1e-5), fusion by 0.4e-5, refinement by 0.6e-5.
MAP_TOLERANCE = 1e-4
_TIE = 1e-4  # between the logits of two words: rounding decides
_SECONDS = 3600
_MOST_ONNX = 2_000_000_000  # bytes of weights; protobuf's limit is 2 GiB


@dataclass(frozen=True)
class Format:
    """A format that export can write beside the program.

    Attributes:
        file: its file in the folder.
        needs: the modules without which it cannot be written and compared.
        advice: how to get them.
    """

    file: str
    needs: tuple[str, ...]
    advice: str


PROGRAM_FORMAT = "stablehlo"
FORMATS = {
    "onnx": Format("model.onnx", ("onnx", "onnxruntime"), "pip install 'vlfau_jax[onnx]'"),
    "pytorch": Format("model.py", ("torch",), "pip install 'vlfau_jax[pytorch]'"),
}


def wanted_formats(text: str) -> tuple[str, ...]:
    """The formats that `--format` names, separated by commas, in the order of `FORMATS`.

    Raises:
        UserError: an unknown one, or what it needs is not installed.
    """
    names = {name.strip() for name in text.split(",")} - {PROGRAM_FORMAT}
    if unknown := sorted(names - FORMATS.keys()):
        raise UserError(
            f"--format={text}: {unknown[0]!r} is none; give some of "
            f"{', '.join((PROGRAM_FORMAT, *FORMATS))}, separated by commas"
        )
    found = tuple(name for name in FORMATS if name in names)
    for name in found:
        absent = [m for m in FORMATS[name].needs if importlib.util.find_spec(m) is None]
        if absent:
            raise UserError(
                f"--format={name} needs {absent[0]}, which is not installed: {FORMATS[name].advice}"
            )
    return found


def as_compared(trained: Trained) -> Trained:
    """The network as these formats compute it: in float32, whatever training computed in."""
    options = replace(trained.model.options, dtype="float32")
    return replace(trained, model=trained.model.clone(options=options))


def write_format(
    name: str, trained: Trained, weights: Mapping[str, np.ndarray], folder: Path
) -> dict[str, Any]:
    """Writes a format into the folder; returns its record for config.json.

    Args:
        name: a key of `FORMATS`.
        trained: the network.
        weights: the tensors of the weights file.
        folder: where.
    """
    file = FORMATS[name].file
    if name == "pytorch":
        code = resources.files("vlfau_jax.inference").joinpath("torch_model.py").read_text()
        (folder / file).write_text(code)
        return {"file": file, "compute": "float32"}
    from vlfau_jax.inference.onnx_graph import OPSET
    from vlfau_jax.inference.onnx_model import IMAGE, SENTENCES, onnx_model

    size = sum(value.nbytes for value in weights.values())
    if size > _MOST_ONNX:
        raise UserError(
            f"--format=onnx: an ONNX file holds 2 GB, the weights have {size / 1e9:.1f} GB; give "
            "--weights=bfloat16 or int8"
        )
    local, whole = trained.max_words
    size = trained.data.image_size
    model = onnx_model(
        trained.model.options,
        weights,
        units=len(trained.aus),
        words=trained.vocabulary.size,
        image_size=size,
        lengths={"local": local + 1, "global": whole + 1},
        own_length=trained.model.max_own_words + 1,
    )
    (folder / file).write_bytes(model.SerializeToString())
    inputs = {IMAGE: f"uint8 RGB [b, {size}, {size}, 3], cropped by crop_rule; any b"}
    if trained.captions:
        inputs[SENTENCES] = "bool []: false writes none, which is faster; their arrays are empty"
    return {"file": file, "opset": OPSET, "compute": "float32", "inputs": inputs}


def run_elsewhere(name: str, folder: Path, images: np.ndarray) -> Arrays:
    """What a format of a folder gives for faces, in a process without jax.

    Raises:
        RunError: the process failed.
    """
    with TemporaryDirectory() as scratch:
        faces, out = Path(scratch, "faces.npy"), Path(scratch, "answers.npz")
        np.save(faces, images)
        command = [sys.executable, "-P", run_format.__file__, name, folder, faces, out]
        try:
            ran = subprocess.run(
                list(map(str, command)),
                capture_output=True,
                env=environment(),
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RunError(
                f"the exported {name} took more than {_SECONDS} s for {len(images)} images; "
                "nothing was exported"
            ) from None
        if ran.returncode:
            last = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise RunError(f"the exported {name} does not run ({last}); nothing was exported")
        with np.load(out, allow_pickle=False) as arrays:
            return dict(arrays)


def live_arrays(trained: Trained, images: np.ndarray) -> Arrays:
    """What the live network gives for faces, where it runs."""
    live = jax.jit(trained.describe)
    return run(lambda batch: live(trained.params, batch), images)


def compare_formats(
    names: Sequence[str], trained: Trained, images: np.ndarray, folder: Path
) -> None:
    """Compares formats with the network in float32 on the CPU, where all of them compute alike.

    Raises:
        RunError: one gives something else, or does not run.
    """
    if not names:
        return
    trained = as_compared(trained)
    with jax.default_device(_cpu()):
        expected = live_arrays(trained, images)
        for name in names:
            found = run_elsewhere(name, folder, images)
            compare(f"exported {name}", found, expected, trained, images, MAP_TOLERANCE)


def _cpu() -> jax.Device | None:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return None


def compare(
    what: str,
    found: Arrays,
    expected: Arrays,
    trained: Trained,
    images: np.ndarray,
    maps: float = TOLERANCE,
) -> None:
    """Checks that two ways of computing gave the same.

    A sentence may go another way from where the two likeliest words differ by less than rounding;
    it is printed, and its attention and score are not compared.

    Args:
        what: gave `found`, for the message.
        found: by name.
        expected: by name, what `trained` gave.
        trained: the live network.
        images: uint8 [b, h, w, 3].
        maps: the largest difference of spatial maps.

    Raises:
        RunError: they differ.
    """

    def differ(name: str, difference: float) -> RunError:
        return RunError(
            f"the {what}'s {name} differ from the live model's by {difference:g} on "
            f"{len(images)} images; nothing was exported"
        )

    if found.keys() != expected.keys():
        raise RunError(f"the {what} gives {', '.join(found)}; nothing was exported")
    same = {}
    for kind in ("local", "global"):
        name = f"{kind}_tokens"
        if name not in expected:
            continue
        if found[name].shape != expected[name].shape:
            raise differ(name, float("inf"))
        same[kind] = (found[name] == expected[name]).all(-1)
        for place in np.argwhere(~same[kind]):
            if not _is_tie(kind, tuple(place), found[name], expected, trained, images):
                raise differ(name, float((~same[kind]).sum()))
            print(f"{what}: a sentence differs where two words are as likely", file=sys.stderr)
    for name, values in expected.items():
        kind, _, quantity = name.partition("_")
        if quantity == "tokens":
            continue
        if found[name].shape != values.shape:
            raise differ(name, float("inf"))
        difference = np.abs(values - found[name])
        if quantity == "scores":
            difference = difference / np.maximum(1, np.abs(values))
        if kind in same:
            difference = difference[same[kind]]
        largest = float(difference.max(initial=0.0))
        if not largest <= (maps if kind == "spatial" else TOLERANCE):  # true for NaN, too
            raise differ(name, largest)


def _is_tie(
    kind: str,
    place: tuple[int, ...],
    tokens: np.ndarray,
    expected: Arrays,
    trained: Trained,
    images: np.ndarray,
) -> bool:
    """Whether the live network finds the first words in which two sentences differ as likely."""
    face, found = place[0], tokens[place]
    said = {}
    for one in ("local", "global"):
        rows = expected.get(f"{one}_tokens")
        if rows is None:  # of a captioner that is not there
            rows = np.zeros((len(images), *((len(trained.aus),) if one == "local" else ()), 1), int)
        row = rows[face]
        said[one] = np.concatenate([np.full((*row.shape[:-1], 1), START), row], -1)[None]
    model: VLFAU = trained.model
    image = normalise(jnp.asarray(images[face][None]))
    outputs = model.apply({"params": trained.params}, image, said["local"], said["global"])
    logits = np.asarray(getattr(outputs, f"{kind}_logits"))[(0, *place[1:])]
    own = expected[f"{kind}_tokens"][place]
    at = int(np.argmax(found != own))
    return bool(logits[at, own[at]] - logits[at, found[at]] < _TIE)
