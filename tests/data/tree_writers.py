"""Tiny raw trees of noise pictures in all layouts, written cell by cell."""

import csv
from pathlib import Path

import cv2
import numpy as np

from vlfau_jax.data.raw.integrity import IntegrityReport, SequenceFacts
from vlfau_jax.facs import BP4D_AUS

HEADER = [str(i) for i in range(40)]
DISFA_CODED = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)


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


def write_bp4d(root: Path, subjects: tuple[str, ...]) -> Path:
    """A clean tree: tasks T1 and T2, frames 8 to 12 of each, numbers padded in T2 only."""
    rng = np.random.default_rng(1)
    for subject in subjects:
        for task, pattern in (("T1", "{}.jpg"), ("T2", "{:04d}.jpg")):
            folder = root / "Sequences(2D+3D)" / subject / task
            write_images(folder, [pattern.format(n) for n in range(8, 13)], rng)
            labels = root / "AUCoding" / "AU_OCC" / f"{subject}_{task}.csv"
            write_labels(labels, random_labels(range(8, 13), rng))
    return root


def write_video(path: Path, frames: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (48, 32))
    for _ in range(frames):
        video.write(rng.integers(0, 256, (32, 48, 3), np.uint8))
    video.release()


def write_levels(path: Path, levels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{n},{level}\n" for n, level in enumerate(levels, start=1)))


def write_disfa(root: Path, subjects: tuple[str, ...], frames: int = 5) -> Path:
    """A clean tree: left camera, twelve label files a subject, as many lines as frames."""
    rng = np.random.default_rng(3)
    for subject in subjects:
        write_video(root / "Videos_LeftCamera" / f"LeftVideo{subject}_comp.avi", frames, rng)
        for au in DISFA_CODED:
            path = root / "ActionUnit_Labels" / subject / f"{subject}_au{au}.txt"
            write_levels(path, rng.integers(0, 6, frames).tolist())
    return root


def write_lists(root: Path, name: str, rows: list[tuple[str, str]]) -> tuple[Path, Path]:
    """One pair of ME-GraphAU's lists, `name` as BP4D_train_{}_fold1: paths and label lines."""
    folder = root / "list"
    folder.mkdir(parents=True, exist_ok=True)
    paths, labels = (folder / f"{name.format(kind)}.txt" for kind in ("img_path", "label"))
    paths.write_text("".join(f"{path}\n" for path, _ in rows))
    labels.write_text("".join(f"{codes}\n" for _, codes in rows))
    return paths, labels


def write_table(root: Path, rows: list[str]) -> Path:
    """A folder set's labels.csv, and its pictures, which are in the first column."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.csv").write_text("".join(f"{row}\n" for row in rows))
    rng = np.random.default_rng(4)
    for row in rows[1:]:
        picture = root / row.split(",")[0]
        write_images(picture.parent, [picture.name], rng)
    return root


def facts_of(report: IntegrityReport, subject: str, task: int) -> SequenceFacts:
    """What a report says about one sequence."""
    (facts,) = (s for s in report.sequences if (s.subject, s.task) == (subject, task))
    return facts
