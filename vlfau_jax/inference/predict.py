"""Pictures in, scores and sentences out, with an exported model folder and nothing else of it.

What runs is the exported program itself, which was compared with the live model when it was
written; its files are checked against their digests first.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tqdm import tqdm

from vlfau_jax.data.crop.cropping import find_and_crop
from vlfau_jax.data.crop.registry import rule_from_record
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.raw.frames import read_image
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder, file_digest, written_whole
from vlfau_jax.inference.export import CONFIG, FORMAT, FORMAT_VERSION, PROGRAM, WEIGHTS
from vlfau_jax.inference.prediction import (
    DROP_REASONS,
    READ,
    Prediction,
    Reader,
    column_notes,
    csv_header,
    csv_row,
)
from vlfau_jax.inference.trained import outputs_of, read_options
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.train.workdir import CHECKPOINTS

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
CSV, JSONL, NOTES = "predictions.csv", "predictions.jsonl", "predictions.columns.json"
LOST = {"sentence": None, "sentence_probability": None, "per_au": None}  # a face not described
ON_SCREEN = 5


@dataclass(frozen=True)
class Picture:
    """A file to look at, its place (from 1) within the input it came from, and that folder."""

    path: Path
    frame: int
    root: Path


@dataclass
class Summary:
    """What came of the pictures: how many faces were described, and why others were not."""

    described: int = 0
    losses: Counter[str] = field(default_factory=Counter)
    first: list[tuple[Path, Prediction]] = field(default_factory=list)

    def add(self, picture: Picture, answer: Prediction | str) -> None:
        """Counts one picture; the first few are kept for the screen."""
        if isinstance(answer, str):
            self.losses[answer] += 1
            return
        self.described += 1
        if len(self.first) < ON_SCREEN:
            self.first.append((picture.path, answer))

    def counts(self) -> str:
        """How many were described, and how many were not for each reason."""
        lost = (f"{count} {reason}" for reason, count in sorted(self.losses.items()))
        return ", ".join([f"{self.described} described", *lost])

    def text(self, out: Path, synthetic: bool) -> str:
        """The lines for the screen."""
        lines = []
        for path, prediction in self.first:
            active = [
                f"AU{au:02d} {ACTION_UNITS[au].name} {p:.2f}"
                for au, p, on in zip(
                    prediction.aus, prediction.probabilities, prediction.active, strict=True
                )
                if on
            ]
            said = [f"  {prediction.sentence}"] if prediction.sentence is not None else []
            lines += [str(path), *said, f"  {', '.join(active) or 'no unit'}"]
        more = self.described - len(self.first)
        lines += [f"... and {more} more"] if more else []
        lines.append(f"{self.counts()}; {out / CSV}, {JSONL}, {NOTES}")
        if synthetic:
            lines.append("the model was trained on synthetic faces: it knows nothing of real ones")
        return "\n".join(lines)


class Exported:
    """A model folder, opened: checks it on the way in, then describes batches of faces."""

    def __init__(self, folder: Path, crop_file: str = "") -> None:
        self.config = _checked_config(folder)
        self.aus = tuple(unit["number"] for unit in self.config["aus"])
        self.thresholds = tuple(unit["threshold"] for unit in self.config["aus"])
        self.image_size: int = self.config["image_size"]
        options = read_options(ModelOptions, self.config["model"], folder / CONFIG)
        self.rule = _crop_rule(folder, self.config["crop_rule"], crop_file)
        self.reader = Reader(self.aus, self.thresholds, Vocabulary.load(folder))
        try:
            self._weights = jax.device_put(load_file(folder / WEIGHTS))
            program = jax_export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
        except (SafetensorError, ValueError) as error:
            raise UserError(f"{folder}: the model cannot be read ({error})") from error
        gives = jax.tree.unflatten(program.out_tree, program.out_avals)
        wanted = outputs_of(options)
        # The first programs gave no scores of sentences; their probabilities are then null.
        first = {name for name in wanted if not name.endswith("_scores")}
        if gives.keys() not in (wanted.keys(), first):
            raise UserError(
                f"{folder / CONFIG}: a model of these options gives {', '.join(wanted)}, but "
                f"{PROGRAM} gives {', '.join(gives)}; export the model again"
            )
        self.outputs = tuple(name for name in wanted if name in gives)
        self._run = jax.jit(program.call)

    def describe(self, faces: np.ndarray) -> list[Prediction]:
        """Predictions of faces uint8 RGB [b, image_size, image_size, 3]; one compilation a b."""
        answer = self._run(self._weights, faces)
        wanted = {name: answer[name] for name in READ if name in self.outputs}
        return list(self.reader.read(jax.device_get(wanted)))


def _checked_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder, once every file it lists has the digest it gives."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"--model={folder} has no {CONFIG}; name a folder that `export` wrote")
    if (folder / CHECKPOINTS).is_dir():
        raise UserError(
            f"--model={folder} is a training run's folder; name one that this writes: "
            f"python -m vlfau_jax export --workdir={folder} --out=MODEL"
        )
    try:
        config = json.loads(path.read_text())
        written = (config["format"], config["format_version"])
        digests = dict(config["files_sha256"])
        missing = {"aus", "crop_rule", "image_size", "model", "synthetic"} - config.keys()
        if missing:
            raise KeyError(*sorted(missing))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a model's config ({error!r}); name a folder that `export` wrote"
        ) from error
    if written != (FORMAT, FORMAT_VERSION):
        raise UserError(f"{path}: format {written}, this version reads {(FORMAT, FORMAT_VERSION)}")
    for name in (WEIGHTS, PROGRAM):
        if name not in digests:
            raise UserError(f"{path}: files_sha256 lacks {name}; export the model again")
    for name, digest in digests.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise UserError(f"{path}: lists {name!r}, which is not a file of this folder")
        if file_digest(file) != digest:
            raise UserError(f"{file}: changed since it was exported (SHA-256 differs); copy again")
    return config


def _crop_rule(folder: Path, written: dict[str, Any], file: str) -> CropRule:
    """The rule that cropped the training faces, with the file that it reads."""
    return rule_from_record(written, file, folder / CONFIG)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts 9.jpg before 10.jpg, part of the path by part."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(int(p), p) if p.isdecimal() else (-1, p) for p in pieces]


def find_pictures(inputs: Sequence[str | Path]) -> list[Picture]:
    """The pictures that inputs name: files as they are, folders with all below them, sorted.

    Raises:
        UserError: an input that does not exist or is not a picture, or no picture at all.
    """
    if not inputs:
        raise UserError("predict needs an INPUT: a picture, or a folder of pictures")
    found: list[tuple[Path, list[Path]]] = []
    for path in map(Path, inputs):
        if path.is_dir():
            walk = os.walk(path, onerror=_unreadable_folder)
            below = (Path(root) / name for root, _, names in walk for name in names)
            found.append((path, sorted((p for p in below if _is_picture(p)), key=_natural)))
        elif not path.exists():
            raise UserError(f"{path}: no such file or folder")
        elif not _is_picture(path):
            raise UserError(
                f"{path}: not a picture; expected one of {' '.join(SUFFIXES)}, or a folder"
            )
        else:
            found.append((path.parent, [path]))
    if not any(paths for _, paths in found):
        raise UserError(
            f"no picture below {', '.join(map(str, inputs))}; expected files that end in one of "
            f"{' '.join(SUFFIXES)}"
        )
    return [Picture(path, k, root) for root, paths in found for k, path in enumerate(paths, 1)]


def _unreadable_folder(error: OSError) -> None:
    raise UserError(f"{error.filename}: {error.strerror}; its pictures would be left out")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _face(picture: Picture, rule: CropRule, size: int) -> np.ndarray | str:
    """The cropped face uint8 [size, size, 3], or why there is none."""
    try:
        image = read_image(picture.path)
    except OSError as error:
        print(f"{picture.path}: {error.strerror or error}", file=sys.stderr)
        return "unreadable"
    if image is None:
        print(f"{picture.path}: {DROP_REASONS['unreadable']}", file=sys.stderr)
        return "unreadable"
    try:
        face = find_and_crop(image, rule, str(picture.path), picture.root)
    except NotInTable:
        return "not in the table"
    return "no face" if face is None else resize(face, size)


def _answers(
    model: Exported, pictures: Sequence[Picture], batch_size: int
) -> Iterator[tuple[Picture, Prediction | str]]:
    """Every picture with its prediction or its reason, in order, a batch in memory at a time."""
    batch_size = min(batch_size, len(pictures))
    rows = np.zeros((batch_size, model.image_size, model.image_size, 3), np.uint8)
    with tqdm(total=len(pictures), desc="predict", unit="picture") as bar:
        for start in range(0, len(pictures), batch_size):
            group = pictures[start : start + batch_size]
            faces = [_face(picture, model.rule, model.image_size) for picture in group]
            found = [face for face in faces if not isinstance(face, str)]
            # A batch is never cut to size: another size would compile another program.
            if found:
                rows[: len(found)] = found
            predictions = iter(model.describe(rows)[: len(found)] if found else [])
            for picture, face in zip(group, faces, strict=True):
                yield picture, face if isinstance(face, str) else next(predictions)
            bar.update(len(group))


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    batch_size: int = 32,
    crop_file: str = "",
) -> Summary:
    """Describes the largest face of every picture; writes CSV, JSONL and what their columns mean.

    A picture that cannot be read or shows no face gets a row with success 0 and is counted. Memory
    holds one batch, however many pictures there are.

    Args:
        model: a folder that `export` wrote.
        inputs: pictures and folders of pictures (read with all below them, sorted).
        out: folder for predictions.csv, predictions.jsonl and predictions.columns.json.
        overwrite: replace these files where they exist.
        batch_size: faces a pass.
        crop_file: the file that the model's crop rule reads, see registry.crop_rule.

    Raises:
        UserError: a model folder that is not whole, a crop file that is not the model's, inputs
            without a picture, outputs that exist, landmarks or boxes that cannot be read.
        RunError: not one picture could be described; the outputs then say why, for each.
    """
    out = absolute_folder("--out", out)
    there = [str(out / name) for name in (CSV, JSONL, NOTES) if (out / name).exists()]
    if there and not overwrite:
        raise UserError(f"{' and '.join(there)} exist; give --overwrite to replace them")
    pictures = find_pictures(inputs)
    exported = Exported(Path(model), crop_file)
    out.mkdir(parents=True, exist_ok=True)
    summary = Summary()
    notes = column_notes(exported.aus, exported.thresholds, exported.outputs)
    # File names are bytes: those that are no UTF-8 are written back as they are.
    text = {"encoding": "utf-8", "errors": "surrogateescape"}
    with (
        written_whole(out / CSV) as new_csv,
        written_whole(out / JSONL) as new_jsonl,
        written_whole(out / NOTES) as new_notes,
        new_csv.open("w", newline="", **text) as table,
        new_jsonl.open("w", **text) as lines,
    ):
        new_notes.write_text(json.dumps(notes, indent=2) + "\n")
        cells = csv.writer(table)
        cells.writerow(csv_header(exported.aus))
        for picture, answer in _answers(exported, pictures, batch_size):
            prediction = None if isinstance(answer, str) else answer
            where = _where(picture, prediction)
            cells.writerow(csv_row(where, prediction, len(exported.aus)))
            said = LOST | {"reason": answer} if prediction is None else prediction.to_json()
            lines.write(json.dumps(where | said) + "\n")
            summary.add(picture, answer)
    if not summary.described:
        raise RunError(f"no picture could be described: {summary.counts()}; see {out / JSONL}")
    print(summary.text(out, exported.config["synthetic"]))
    return summary


def _where(picture: Picture, prediction: Prediction | None) -> dict[str, Any]:
    found = int(prediction is not None)
    return {
        "frame": picture.frame,
        "face_id": 0,
        "timestamp": 0.0,
        "confidence": float(found),
        "success": found,
        "source": str(picture.path),
    }
