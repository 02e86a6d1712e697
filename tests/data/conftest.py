"""A tiny raw BP4D tree of noise pictures, written cell by cell, and the set prepared from it."""

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vlfau_jax.data.pipeline import Dataset, open_prepared
from vlfau_jax.data.prepare import prepare
from vlfau_jax.facs import BP4D_AUS

HEADER = [str(i) for i in range(40)]


def write_labels(path: Path, labels: dict[int, dict[int, int]]) -> None:
    """Writes {frame: {unit: code}} as an AU_OCC file; uncoded columns hold 9."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for frame, codes in labels.items():
            writer.writerow([frame] + [codes.get(i, 9) for i in range(1, 40)])


def write_images(folder: Path, names: list[str], rng: np.random.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (96, 80, 3), np.uint8))


def random_labels(frames: range, rng: np.random.Generator) -> dict[int, dict[int, int]]:
    return {n: {au: int(rng.integers(0, 2)) for au in BP4D_AUS} for n in frames}


@pytest.fixture
def write_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes a clean tree with the given subjects, tasks T1 and T2, frames 8 to 12 of each."""

    def write(subjects: tuple[str, ...] = ("F001", "M003"), name: str = "raw") -> Path:
        rng = np.random.default_rng(1)
        root = tmp_path / name
        for subject in subjects:
            for task, pattern in (("T1", "{}.jpg"), ("T2", "{:04d}.jpg")):
                folder = root / "Sequences(2D+3D)" / subject / task
                write_images(folder, [pattern.format(n) for n in range(8, 13)], rng)
                labels = root / "AUCoding" / "AU_OCC" / f"{subject}_{task}.csv"
                write_labels(labels, random_labels(range(8, 13), rng))
        return root

    return write


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A prepared set of three subjects, 5 frames each, whose 64-pixel crops tell frames apart."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(2)
    for subject in ("F001", "F004", "M003"):
        folder = root / "raw" / "Sequences(2D+3D)" / subject / "T6"
        write_images(folder, [f"{n:03d}.jpg" for n in range(1, 6)], rng)
        labels = random_labels(range(1, 6), rng)
        if subject == "M003":
            labels[2][14] = 9
        write_labels(root / "raw" / "AUCoding" / "AU_OCC" / f"{subject}_T6.csv", labels)
    prepare("bp4d", root / "raw", root / "set", crop="none", crop_size=64, workers=0)
    return open_prepared("bp4d", root / "set")
