"""The verb `predict`: pictures in, files of predictions out, by an exported model."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from vlfau_jax.data.raw.frames import read_picture
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.errors import RunError, UserError, printable
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder
from vlfau_jax.inference.exported_model import ExportedModel, PictureResult
from vlfau_jax.inference.faces import FoundFace, Limits
from vlfau_jax.inference.pictures import Picture, find_pictures
from vlfau_jax.inference.prediction import LOSSES, DropReason, Prediction
from vlfau_jax.inference.prediction_files import COLUMNS, CSV, JSONL, prediction_files

ON_SCREEN = 5
NAMED = 3  # of the files that were passed over for one reason


@dataclass
class Summary:
    """Counts of described and of dropped pictures, and the first predictions."""

    described: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)
    doubtful: Counter[DropReason] = field(default_factory=Counter)
    with_others: int = 0
    passed_over: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    first: list[tuple[Path, Prediction]] = field(default_factory=list)

    def add(self, picture: Picture, result: PictureResult) -> None:
        """Counts one picture; the first few predictions are kept for the screen."""
        self.with_others += result.faces > 1
        if result.prediction is None:
            self.dropped[result.drop_reason] += 1
            return
        self.described += 1
        if result.doubt:
            self.doubtful[result.doubt] += 1
        if len(self.first) < ON_SCREEN:
            self.first.append((picture.path, result.prediction))

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
        for path, prediction in self.first:
            active = [
                f"AU{au:02d} {ACTION_UNITS[au].name} {p:.2f}"
                for au, p, on in zip(
                    prediction.aus, prediction.probabilities, prediction.active, strict=True
                )
                if on
            ]
            sentence = [f"  {prediction.sentence}"] if prediction.sentence is not None else []
            lines += [str(path), *sentence, f"  {', '.join(active) or 'no unit'}"]
        more = self.described - len(self.first)
        lines += [f"... and {more} more"] if more else []
        lines += self.remarks()
        lines.append(f"{self.counts()}; {out / CSV}, {JSONL}, {COLUMNS}")
        if synthetic:
            lines.append("the model was trained on synthetic faces: it knows nothing of real ones")
        return "\n".join(lines)


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    batch_size: int = 32,
    crop_file: str = "",
    limits: Limits | None = None,
    keep_doubtful: bool = False,
) -> Summary:
    """Describes the largest face of every picture; writes CSV, JSONL and what their columns mean.

    A picture that cannot be read, shows no face or a doubtful one gets a row with success 0 and is
    counted, as is what a folder holds that is no picture. Memory holds one batch, however many
    pictures there are.

    Args:
        model: a folder that `export` wrote.
        inputs: pictures and folders of pictures (read with all below them, sorted).
        out: folder for predictions.csv, predictions.jsonl and predictions.columns.json.
        overwrite: replace these files where they exist.
        batch_size: the most faces in each run of the program.
        crop_file: the file that the model's crop rule reads, if it reads one.
        limits: beyond which a face is doubtful; `Limits()` if None.
        keep_doubtful: describe doubtful faces, too; their rows have the reason.

    Raises:
        UserError: a model folder that is incomplete, a crop file that is not the model's, inputs
            without a picture, outputs that exist, landmarks or boxes that cannot be read.
        RunError: not one picture could be described; the outputs then hold the reason for each.
    """
    out = absolute_folder("--out", out)
    existing = [str(out / name) for name in (CSV, JSONL, COLUMNS) if (out / name).exists()]
    if existing and not overwrite:
        raise UserError(f"{' and '.join(existing)} exist; give --overwrite to replace them")
    found = find_pictures(inputs)
    pictures = found.pictures
    exported = ExportedModel(model, crop_file, min(batch_size, len(pictures)))
    faces = (_read_face(exported, picture, limits) for picture in pictures)
    results = exported.results(faces, keep_doubtful)
    out.mkdir(parents=True, exist_ok=True)
    summary = Summary(passed_over=found.passed_over)
    with (
        prediction_files(out, exported.aus, exported.thresholds, exported.outputs) as write,
        tqdm(total=len(pictures), desc="predict", unit="picture") as bar,
    ):
        for picture, result in zip(pictures, results, strict=True):
            write(picture, result)
            summary.add(picture, result)
            bar.update()
    if not summary.described:
        counts = "; ".join([summary.counts(), *summary.remarks()])
        raise RunError(f"no picture could be described: {counts}; see {out / JSONL}")
    print(summary.text(out, exported.synthetic))
    return summary


def _read_face(model: ExportedModel, picture: Picture, limits: Limits | None) -> FoundFace:
    """What there is to describe of a picture file."""
    try:
        image = read_picture(picture.path)
    except Unreadable as error:
        print(f"{printable(str(picture.path))}: {error.detail}", file=sys.stderr)
        return FoundFace(None, LOSSES[error.loss], error.detail)
    return model.look(image, picture.path, picture.root, limits)
