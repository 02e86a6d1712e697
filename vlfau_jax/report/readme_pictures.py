"""Draws the two pictures of the project's README from a finished demo.

python -m vlfau_jax.report.readme_pictures --workdir=runs/demo --out=vlfau_jax/report/readme
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import cv2
import jax
import numpy as np
from jax import export as jax_export
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from safetensors.numpy import load_file

import vlfau_jax
from vlfau_jax.errors import UserError
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.report.pictures import times_even
from vlfau_jax.report.theme import LIGHT

STYLE = {
    "font.family": "DejaVu Sans",
    "text.color": LIGHT.ink,
    "axes.labelcolor": LIGHT.soft,
    "axes.edgecolor": LIGHT.line,
    "xtick.color": LIGHT.soft,
    "ytick.color": LIGHT.ink,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
ACTIVE_UNITS = 5  # of the face on the card, so that their maps and sentences fit beside each other


@dataclass(frozen=True)
class Described:
    """A test face and what the model gives for it.

    Attributes:
        face: uint8 [h, w, 3] RGB, as the model gets it.
        labels: bool [n].
        prediction: scores and sentences.
        maps: float [n, h', w'], the spatial attention of each unit's branch.
    """

    face: np.ndarray
    labels: np.ndarray
    prediction: Prediction
    maps: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Bool [n]: whether a unit's prediction agrees with its label."""
        return self.prediction.active == self.labels


def _active(line: Mapping[str, Any]) -> int:
    return sum(unit["label"] == 1 for unit in line["per_au"].values())


def choose_lines(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The test faces to draw, from the lines of predictions.jsonl: chosen by labels alone.

    The first is the card's: the first face with `ACTIVE_UNITS` active units. The others are each
    subject's first face with most active units.
    """
    card = next(line for line in lines if _active(line) == ACTIVE_UNITS)
    best: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["subject"] not in best or _active(line) > _active(best[line["subject"]]):
            best[line["subject"]] = line
    return [card, *best.values()]


def describe(workdir: Path, lines: list[dict[str, Any]]) -> list[Described]:
    """Finds the faces of the lines in the demo's raw tree and runs the exported model on them."""
    model = vlfau_jax.load(workdir / "model")
    faces = np.stack([_find_face(model, workdir, line) for line in lines])
    results = zip(
        lines,
        faces,
        model.describe(faces),
        _spatial_maps(workdir / "model", faces),
        strict=True,
    )
    return [
        Described(face, np.array([unit["label"] == 1 for unit in line["per_au"].values()]), *result)
        for line, face, *result in results
    ]


def _find_face(model: ExportedModel, workdir: Path, line: Mapping[str, Any]) -> np.ndarray:
    folder = workdir / "raw/Sequences(2D+3D)" / line["subject"] / f"T{line['task']}"
    (path,) = (p for p in folder.glob("*.jpg") if int(p.stem) == line["frame"])
    face = model.find_face(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
    if isinstance(face, str):
        raise UserError(f"{path}: {face}")
    return face


def _spatial_maps(model: Path, faces: np.ndarray) -> np.ndarray:
    """Float [b, n, h', w'] of a model folder's program, for faces uint8 [b, h, w, 3]."""
    program = jax_export.deserialize(bytearray((model / "model.stablehlo").read_bytes()))
    arrays = jax.jit(program.call)(load_file(model / "model.safetensors"), faces)
    return np.asarray(arrays["spatial_maps"])


def draw_card(described: Described) -> plt.Figure:
    """One test face: its scores, its sentences, and the maps of its active units."""
    figure = plt.figure(figsize=(11, 6.1), facecolor="white")
    axes = figure.add_axes((0.01, 0.5, 0.255, 0.46))
    axes.imshow(described.face, interpolation="lanczos")
    axes.axis("off")
    _draw_scores(figure.add_axes((0.455, 0.5, 0.24, 0.435)), described)
    _draw_sentence(figure.add_axes((0.745, 0.5, 0.25, 0.46)), described)
    for column, i in enumerate(np.flatnonzero(described.labels)):
        left = 0.01 + 0.198 * column
        _draw_map(figure.add_axes((left + 0.018, 0.165, 0.15, 0.27)), described, i)
        axes = figure.add_axes((left, 0.0, 0.19, 0.155))
        axes.axis("off")
        text = textwrap.fill(described.prediction.sentences[i], 32)
        axes.text(0.49, 1.0, text, fontsize=8, ha="center", va="top", linespacing=1.3)
    return figure


def _draw_scores(axes: Axes, described: Described) -> None:
    prediction = described.prediction
    places = np.arange(len(prediction.aus))
    axes.barh(places, 1.0, color=LIGHT.page, height=0.7)
    colours = [LIGHT.right if right else LIGHT.wrong for right in described.right]
    axes.barh(places, prediction.probabilities, color=colours, height=0.7)
    for place, probability in zip(places, prediction.probabilities, strict=True):
        axes.text(1.03, place, f"{probability:.2f}", va="center", fontsize=8.5, color=LIGHT.soft)
    axes.axvline(0.5, color=LIGHT.ink, linewidth=0.8, linestyle=(0, (2, 2)))
    _name_units(axes, prediction.aus)
    for label, active in zip(axes.get_yticklabels(), described.labels, strict=True):
        label.set_weight("bold" if active else "normal")
        label.set_color(LIGHT.ink if active else LIGHT.soft)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.set_title("probability of each unit", fontsize=9, color=LIGHT.soft, loc="left", pad=4)


def _name_units(axes: Axes, aus: Sequence[int]) -> None:
    names = [f"AU{au} {ACTION_UNITS[au].name}" for au in aus]
    axes.set_yticks(np.arange(len(aus)), names, fontsize=9)
    axes.set_ylim(len(aus) - 0.5, -0.5)
    axes.tick_params(length=0, labelsize=8.8)


def _draw_sentence(axes: Axes, described: Described) -> None:
    axes.axis("off")
    axes.text(0, 1.0, "sentence about the whole face", fontsize=9, color=LIGHT.soft, va="top")
    text = textwrap.fill(described.prediction.sentence, 31)
    axes.text(0, 0.9, text, fontsize=11.5, va="top", linespacing=1.45)
    legend = (
        "bold: active according to the label\n"
        "green: prediction agrees, red: disagrees\n\n"
        "below, for each active unit: the spatial\n"
        "attention of its branch (7 x 7, enlarged,\none scale from 0) and the sentence"
    )
    axes.text(0, 0.0, legend, fontsize=8.5, color=LIGHT.soft, va="bottom", linespacing=1.4)


def _draw_map(axes: Axes, described: Described, i: int) -> None:
    """The map of unit i over the face, more opaque where it is higher; one scale for all."""
    height, width, _ = described.face.shape
    maps = times_even(described.maps[described.labels])
    level = times_even(described.maps[i]) / max(float(maps.max()), 1e-8)
    level = cv2.resize(level, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    axes.imshow(described.face, interpolation="lanczos")
    axes.imshow(level, cmap="turbo", alpha=0.5 * level, vmin=0, vmax=1)
    au = described.prediction.aus[i]
    axes.set_title(f"AU{au} {ACTION_UNITS[au].name}", fontsize=9.5, weight="bold", pad=4)
    axes.axis("off")


def draw_results(scores: Mapping[str, Any], people: Sequence[Described]) -> plt.Figure:
    """F1 of every unit beside its floor, and one face of each test subject.

    Args:
        scores: scores.json.
        people: nine of them.
    """
    figure = plt.figure(figsize=(11, 5.2), facecolor="white")
    axes = figure.add_axes((0.17, 0.055, 0.35, 0.825))
    aus = scores["aus"]
    places = np.arange(len(aus))
    f1 = [scores["per_au"][str(au)]["f1"] for au in aus]
    floors = [scores["floors_per_au"]["all_on"][str(au)] for au in aus]
    axes.barh(places, f1, color=LIGHT.accent, height=0.66, label="the demo")
    axes.barh(places, floors, color=LIGHT.second, height=0.2, label="floor: always on")
    for place, value in zip(places, f1, strict=True):
        axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=8.5, color=LIGHT.soft)
    _name_units(axes, aus)
    axes.set_xlim(0, 1)
    axes.set_title(
        f"F1 on {scores['frames']:,} rendered faces of {len(scores['test_subjects'])} new subjects",
        fontsize=10,
        loc="left",
        pad=24,
    )
    axes.legend(frameon=False, fontsize=8.8, ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 1))

    figure.text(0.575, 0.955, "one face of each of them, with its units", fontsize=10)
    key = (("detected", LIGHT.right), ("missed", LIGHT.soft), ("false alarm", LIGHT.wrong))
    for (text, colour), x in zip(key, (0.575, 0.655, 0.72), strict=True):
        figure.text(x, 0.91, text, fontsize=8.8, color=colour)
    for k, described in enumerate(people[:9]):
        row, column = divmod(k, 3)
        left, bottom = 0.575 + 0.142 * column, 0.645 - 0.3 * row
        axes = figure.add_axes((left, bottom, 0.115, 0.24))
        axes.imshow(described.face, interpolation="lanczos")
        axes.axis("off")
        _draw_units(axes, described)
    return figure


def _draw_units(axes: Axes, described: Described) -> None:
    """The numbers of the units that are active or detected, below a face."""
    active, detected = described.labels, described.prediction.active
    x = 0.0
    for au, is_active, is_detected in zip(described.prediction.aus, active, detected, strict=True):
        if not (is_active or is_detected):
            continue
        colour = (
            LIGHT.right if is_active and is_detected else LIGHT.wrong if is_detected else LIGHT.soft
        )
        axes.text(x, -0.03, str(au), fontsize=7.6, color=colour, va="top", transform=axes.transAxes)
        x += 0.085 if au < 10 else 0.14


def main() -> None:
    """Reads the demo and writes card.webp and results.webp."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = choose_lines(_read_lines(given.workdir / "predictions.jsonl"))
    card, *people = describe(given.workdir, lines)
    scores = json.loads((given.workdir / "scores.json").read_text())
    plt.rcParams.update(STYLE)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, figure in {"card": draw_card(card), "results": draw_results(scores, people)}.items():
        figure.savefig(given.out / f"{name}.webp", dpi=150, pil_kwargs={"quality": 88})


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
