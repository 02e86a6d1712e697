"""The verb `predict`: pictures in, files of predictions out, by an exported model."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from vlfau_jax.data.raw.frames import read_picture
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.data.workers import in_threads
from vlfau_jax.errors import RunError, UserError, printable, saying
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder, clear, created, written_together
from vlfau_jax.inference.exported_model import MOST_FACES, ExportedModel
from vlfau_jax.inference.faces import FoundFace, Limits
from vlfau_jax.inference.kept_rows import Request, Rows, interrupted, request
from vlfau_jax.inference.pictures import Picture, find_pictures
from vlfau_jax.inference.prediction import LOSSES
from vlfau_jax.inference.prediction_files import (
    COLUMNS,
    CSV,
    JSONL,
    NAMES,
    describe_columns,
    prediction_record,
)

ON_SCREEN = 5
NAMED = 3  # of the files that were passed over for one reason


@dataclass
class Summary:
    """Counts of described and of dropped pictures, and the lines of the first predictions."""

    described: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)
    with_others: int = 0
    passed_over: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    first: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        """Counts one picture; the first few predictions are kept for the screen."""
        self.with_others += record["faces"] > 1
        if not record["success"]:
            self.dropped[record["reason"]] += 1
            return
        self.described += 1
        if "reason" in record:
            self.doubtful[record["reason"]] += 1
        if len(self.first) < ON_SCREEN:
            self.first.append(record)

    @property
    def count(self) -> int:
        """How many pictures were counted."""
        return self.described + self.dropped.total()

    def counts(self) -> str:
        """How many were described, and how many were dropped for each reason."""
        dropped = (f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return ", ".join([f"{self.described} described", *dropped])

    def remarks(self) -> list[str]:
        """Lines about what is doubtful among the described, and what was not described."""
        lines = []
        if self.doubtful:
            doubts = (f"{count} {reason}" for reason, count in sorted(self.doubtful.items()))
            lines.append(f"described though doubtful: {', '.join(doubts)}")
        if self.with_others:
            lines.append(f"{self.with_others} pictures show other faces, which are not described")
        for reason, paths in sorted(self.passed_over.items()):
            names = ", ".join(printable(path.name) for path in paths[:NAMED])
            more = ", ..." if len(paths) > NAMED else ""
            lines.append(f"passed over: {reason}: {len(paths)} ({names}{more})")
        return lines

    def text(self, out: Path, synthetic: bool) -> str:
        """The lines for the screen."""
        lines = []
        for record in self.first:
            active = [
                f"AU{int(au):02d} {ACTION_UNITS[int(au)].name} {unit['probability']:.2f}"
                for au, unit in record["per_au"].items()
                if unit["active"]
            ]
            sentence = [f"  {record['sentence']}"] if record["sentence"] is not None else []
            lines += [record["source"], *sentence, f"  {', '.join(active) or 'no unit'}"]
        more = self.described - len(self.first)
        lines += [f"... and {more} more"] if more else []
        lines += self.remarks()
        lines.append(f"{self.counts()}; {out / CSV}, {JSONL}, {COLUMNS}")
        if synthetic:
            lines.append("the model was trained on synthetic faces: it knows nothing of real ones")
        return printable("\n".join(lines))


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    batch_size: int = 32,
    crop_file: str = "",
    verify: str = "",
    limits: Limits | None = None,
    keep_doubtful: bool = False,
) -> Summary:
    """Describes the largest face of every picture; writes CSV, JSONL and what their columns mean.

    A picture that cannot be read, shows no face or a doubtful one gets a row with success 0 and is
    counted, as is what a folder holds that is no picture. Threads, one for each core, read pictures
    and find faces while the model describes those before. Memory holds two batches of faces,
    however many pictures there are.

    The files get their names together, once all rows are there. Rows that were finished when a run
    was interrupted stay in a hidden folder in `out`, and the next run that asks the same goes on
    after them: with the same model, pictures, tables, options and version. The files are then
    those of an uninterrupted run.

    Args:
        model: a folder that `export` wrote.
        inputs: pictures and folders of pictures (read with all below them, sorted).
        out: folder for predictions.csv, predictions.jsonl and predictions.columns.json.
        overwrite: replace these files where they exist, and rows of an interrupted run.
        resume: go on after such rows, also where they are to replace older files.
        batch_size: the most faces in each run of the program.
        crop_file: the file that the model's crop rule reads, if it reads one.
        verify: the SHA-256 that the model folder must have; "" for any.
        limits: beyond which a face is doubtful; `Limits()` if None.
        keep_doubtful: describe doubtful faces, too; their rows have the reason.

    Raises:
        UserError: a batch size out of range, a model folder that is incomplete, a crop file that is
            not the model's, inputs without a picture, outputs that exist, rows of another request,
            landmarks or boxes that cannot be read; another process is writing there.
        RunError: not one picture could be described; the outputs then hold the reason for each.
            Or the model gave no usable numbers, or the machine has no more of something.
        KeyboardInterrupt: Ctrl-C; the message says what is kept.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other; give one")
    if not 1 <= batch_size <= MOST_FACES:
        raise UserError(f"--batch_size={batch_size}: out of range; expected 1 to {MOST_FACES}")
    out = absolute_folder("--out", out)
    limits = limits or Limits()
    cv2.setNumThreads(0)  # each thread has a picture of its own; OpenCV's own would compete
    summary = Summary()
    with created("--out", out), written_together(out, NAMES, keep=True) as folder:
        kept = interrupted(folder)
        _refuse_existing(out, kept, overwrite, resume)
        found = find_pictures(inputs)
        pictures, summary.passed_over = found.pictures, found.passed_over
        exported = ExportedModel(model, crop_file, min(batch_size, len(pictures)), verify)
        options = asdict(limits) | {"keep_doubtful": keep_doubtful}
        options["batch_size"] = exported.batch_size
        asked = request(exported.digest, pictures, exported.crop_rule, options, exported.devices)
        if kept is None or overwrite:
            clear(folder)
        elif difference := kept.difference(asked):
            raise UserError(
                f"{out} holds rows of an interrupted predict that was asked otherwise "
                f"({difference}); give --overwrite to remove them, or another --out"
            )
        with (
            saying(lambda: _what_is_kept(out, summary, len(pictures)), out),
            Rows(folder, asked, exported.aus) as rows,
            tqdm(total=len(pictures), desc="predict", unit="picture") as bar,
            ExitStack() as stack,
        ):
            for record in rows.kept(pictures, exported.batch_size):
                summary.add(record)
                bar.update()
            if summary.count:
                bar.write(f"going on after {summary.count} finished rows of {out}", file=sys.stderr)
            left = pictures[summary.count :]
            look = partial(_read_face, exported, limits=limits)
            faces = stack.enter_context(closing(in_threads(look, left, ahead=exported.batch_size)))
            for picture, result in zip(left, exported.results(faces, keep_doubtful), strict=True):
                if result.drop_reason in LOSSES.values():
                    print(f"{picture.path}: {result.detail}", file=sys.stderr)
                record = prediction_record(picture, result)
                rows.add(record)
                summary.add(record)
                bar.update()
            columns = describe_columns(
                exported.aus, exported.thresholds, exported.outputs, exported.untaught
            )
            (folder / COLUMNS).write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")
    if not summary.described:
        counts = "; ".join([summary.counts(), *summary.remarks()])
        raise RunError(f"no picture could be described: {counts}; see {out / JSONL}")
    print(summary.text(out, exported.synthetic))
    return summary


def _refuse_existing(out: Path, kept: Request | None, overwrite: bool, resume: bool) -> None:
    existing = [str(out / name) for name in NAMES if (out / name).exists()]
    if not existing or overwrite or (resume and kept):
        return
    other = "; --resume goes on with an interrupted run that was to replace them" if kept else ""
    raise UserError(f"{' and '.join(existing)} exist; give --overwrite to replace them{other}")


def _what_is_kept(out: Path, summary: Summary, pictures: int) -> str:
    if not summary.count:
        return "nothing is kept"
    return (
        f"{summary.count} of {pictures} rows are kept in {out}; give the same command with "
        "--resume to go on"
    )


def _read_face(model: ExportedModel, picture: Picture, limits: Limits) -> FoundFace:
    """What there is to describe of a picture file."""
    try:
        image = read_picture(picture.path)
    except Unreadable as error:
        return FoundFace(None, LOSSES[error.loss], error.detail)
    return model.look(image, picture.path, picture.root, limits)
