"""The verb `predict`: pictures and videos in, files of predictions out, by an exported model."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from vlfau_jax.data.crop.registry import finder_for
from vlfau_jax.errors import RunError, UserError, printable, saying
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import absolute_folder, clear, created, written_together
from vlfau_jax.inference.describing import Described, Describer
from vlfau_jax.inference.exported_model import SYNTHETIC_MODEL, ExportedModel
from vlfau_jax.inference.faces import Limits
from vlfau_jax.inference.finishing import finish
from vlfau_jax.inference.kept_rows import PROGRESS, Request, Rows, interrupted, request
from vlfau_jax.inference.overlay import MAPS, MapFile
from vlfau_jax.inference.pictures import Picture, find_pictures, passed_over_lines
from vlfau_jax.inference.predict_options import PredictOptions
from vlfau_jax.inference.prediction_files import (
    COLUMNS,
    CSV,
    JSONL,
    NAMES,
    describe_columns,
    prediction_record,
    written_path,
)
from vlfau_jax.inference.shots import Place, Portrait, look_with, portraits, shots
from vlfau_jax.inference.table_formats import check_formats
from vlfau_jax.inference.video import VideoFrames, camera_frames, promised_frames, pyav

ON_SCREEN = 5
_MOST_AHEAD = 16  # frames of which the decoded pictures may wait


@dataclass
class Summary:
    """Counts of described and of dropped faces, and the lines of the first predictions.

    Attributes:
        only_largest: whether the other faces of a picture are left out.
        damaged: video, as `written_path` writes it -> what is damaged in it.
    """

    only_largest: bool = False
    described: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)
    with_others: int = 0
    passed_over: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    first: list[Mapping[str, Any]] = field(default_factory=list)
    damaged: dict[str, list[str]] = field(default_factory=dict)

    def remark(self, source: Picture, texts: list[str]) -> None:
        """Notes what is damaged in a video."""
        self.damaged[written_path(source.path)] = texts

    def add(self, record: Mapping[str, Any]) -> None:
        """Counts one row; the first few predictions are kept for the screen."""
        self.with_others += self.only_largest and record["faces"] > 1
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
        """How many rows were counted."""
        return self.described + self.dropped.total()

    def counts(self) -> str:
        """How many were described, and how many were dropped for each reason."""
        dropped = (f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return ", ".join([f"{self.described} described", *dropped])

    def remarks(self) -> list[str]:
        """Lines about what is doubtful among the described, and what was not described."""
        lines = [f"{path}: {'; '.join(texts)}" for path, texts in self.damaged.items()]
        if self.doubtful:
            doubts = (f"{count} {reason}" for reason, count in sorted(self.doubtful.items()))
            lines.append(f"described though doubtful: {', '.join(doubts)}")
        if self.with_others:
            lines.append(f"{self.with_others} pictures show other faces, which are not described")
        return lines + passed_over_lines(self.passed_over)

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
            lines.append(SYNTHETIC_MODEL)
        return printable("\n".join(lines))


def predict(
    model: str | Path | None,
    inputs: Sequence[str | Path],
    out: str | Path,
    options: PredictOptions | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    crop_file: str = "",
    verify: str = "",
    limits: Limits | None = None,
) -> Summary:
    """Describes the faces of pictures and videos; writes CSV, JSONL and what their columns mean.

    A picture that cannot be read, shows no face or a doubtful one gets a row with success 0 and is
    counted, as is what a folder holds that is neither picture nor video; so does each frame of a
    video. A thread decodes videos, others, one for each core, read pictures and find faces, while
    the model describes those before. Memory holds some frames and two batches of faces, however
    many there are.

    The files get their names together, once all rows are there. Rows that were finished when a run
    was interrupted stay in a hidden folder in `out`, and the next run that asks the same goes on
    after them: with the same model, inputs, tables, options and version. The files are then
    those of an uninterrupted run.

    Args:
        model: a folder that `export` wrote; None for the one that ships, and a line says so.
        inputs: pictures, videos and folders of them (read with all below them, sorted).
        out: folder for predictions.csv, predictions.jsonl and predictions.columns.json.
        options: `PredictOptions()` if None.
        overwrite: replace these files where they exist, and rows of an interrupted run.
        resume: go on after such rows, also where they are to replace older files.
        crop_file: the file that the model's crop rule reads, if it reads one.
        verify: the SHA-256 that the model folder must have; "" for any.
        limits: beyond which a face is doubtful; `Limits()` if None.

    Raises:
        UserError: a model folder that is incomplete, a crop file that is not the model's, a finder
            that it cannot use, inputs without a picture or video, outputs that exist, rows of
            another request, landmarks or boxes that cannot be read; another process is writing
            there.
        RunError: not one face could be described; the outputs then hold the reason for each.
            Or the model gave no usable numbers, or the machine has no more of something.
        KeyboardInterrupt: Ctrl-C; the message says what is kept.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other; give one")
    options, limits = options or PredictOptions(), limits or Limits()
    check_formats(options.formats)
    if options.camera >= 0 and (inputs or options.overlay):
        raise UserError("--camera excludes other inputs and --overlay, which reads them again")
    out = absolute_folder("--out", out)
    cv2.setNumThreads(0)  # each thread has a picture of its own; OpenCV's own would compete
    summary = Summary(only_largest=options.faces == "largest")
    with created("--out", out), written_together(out, NAMES, keep=True) as folder:
        kept = interrupted(folder)
        _refuse_existing(out, kept, overwrite, resume)
        sources, summary.passed_over, camera = _sources(inputs, options)
        lasting = camera is None  # what a camera showed does not come again
        videos = any(source.video for source in sources)
        if videos and lasting:
            pyav()
        size = options.batch_size if videos else min(options.batch_size, len(sources))
        exported = ExportedModel(model, crop_file, size, verify)
        finder = finder_for(exported.crop_rule, options.finder)
        said = asdict(limits) | asdict(options) | {"batch_size": exported.batch_size}
        said["finder"] = finder.digest
        asked = request(exported.digest, sources, finder, said, exported.devices)
        if kept and not overwrite and (difference := kept.difference(asked)):
            raise UserError(
                f"{out} holds rows of an interrupted predict that was asked otherwise "
                f"({difference}); give --overwrite to remove them, or another --out"
            )
        if not kept or overwrite or not lasting:
            clear(folder)
        others = (MAPS,) if options.overlay else ()
        with (
            saying(lambda: _what_is_kept(out, summary if lasting else None), out),
            Rows(folder, asked, exported.aus, others, lasting) as rows,
            _Progress(sources, options.every) as bar,
        ):
            for record in rows.kept():
                summary.add(record)
            if summary.count:
                bar.say(f"going on after {summary.count} finished rows of {out}")
            begin = rows.progress.place
            summary.damaged |= rows.progress.damaged
            bar.go_on(begin)
            look = look_with(exported, finder, options.faces, limits)
            all_shots = shots(sources, options.every, begin, summary.remark, camera)
            ahead = min(exported.batch_size, _MOST_AHEAD)
            maps = MapFile(folder / MAPS, rows.progress.rows) if options.overlay else None
            with closing(portraits(all_shots, look, begin, ahead)) as people:
                _add_rows(people, exported, options, rows, maps, summary, bar)
            rows.close()
            columns = describe_columns(
                exported.aus, exported.thresholds, exported.outputs, exported.untaught
            )
            thresholds = dict(zip(exported.aus, exported.thresholds, strict=True))
            finish(folder, sources, thresholds, columns, options, folder / PROGRESS)
    if not summary.described:
        counts = "; ".join([summary.counts(), *summary.remarks()])
        raise RunError(f"no face could be described: {counts}; see {out / JSONL}")
    print(summary.text(out, exported.synthetic))
    return summary


def _sources(
    inputs: Sequence[str | Path], options: PredictOptions
) -> tuple[list[Picture], Mapping[str, Sequence[Path]], VideoFrames | None]:
    """What is looked at, what is passed over, and the frames of a webcam."""
    if options.camera >= 0:
        camera = camera_frames(options.camera, options.every, options.seconds)
        return [Picture(Path(f"camera:{options.camera}"), 1, Path(), video=True)], {}, camera
    found = find_pictures(inputs)
    return found.pictures, found.passed_over, None


def _add_rows(
    people: Iterable[Portrait],
    exported: ExportedModel,
    options: PredictOptions,
    rows: Rows,
    maps: MapFile | None,
    summary: Summary,
    bar: _Progress,
) -> None:
    """Describes faces, batch by batch: a row of each, and what an overlay draws of it."""
    describer = Describer(
        exported, options.captions, options.keep_doubtful, maps is not None, rows.progress.said
    )
    with nullcontext() if maps is None else closing(maps):
        for group in describer.batches(people):
            for one in describer.describe(group):
                record = prediction_record(one.portrait, one.result)
                if maps is not None:
                    maps.add(*_heat(one, exported.image_size))
                rows.add(record)
                summary.add(record)
                bar.show(one.portrait)
            if maps is not None:
                maps.flush()
            rows.mark(group[-1].place.after(), describer.said, summary.damaged)


def _heat(one: Described, side: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What `MapFile` holds of a face: its alignment, and the mean map of its active units."""
    alignment, prediction = one.portrait.face.alignment, one.result.prediction
    if one.maps is None or prediction is None or alignment is None:
        return None, None
    active = prediction.active
    return alignment / side, one.maps[active if active.any() else slice(None)].mean(0)


class _Progress(AbstractContextManager):
    """The bar on the screen: pictures and frames, of which a video's header says about how many."""

    def __init__(self, sources: Sequence[Picture], every: int) -> None:
        self._sizes = [
            -(-promised_frames(one.path) // every) if one.video else 1 for one in sources
        ]
        self._every, self._sources, self._last = every, sources, (-1, 0)
        unit = "frame" if any(one.video for one in sources) else "picture"
        total = None if 0 in self._sizes else sum(self._sizes)
        self._bar = tqdm(total=total, desc="predict", unit=unit)

    def say(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def go_on(self, place: Place) -> None:
        """Counts what is before a place."""
        before = sum(self._sizes[: place.source])
        if place.source < len(self._sources) and self._sources[place.source].video:
            before += (place.number - 1) // self._every
        self._bar.update(before)

    def show(self, portrait: Portrait) -> None:
        """Counts a picture or frame at its first face."""
        shot = portrait.shot.index, portrait.shot.number
        if shot != self._last:
            self._bar.update()
        self._last = shot

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _refuse_existing(out: Path, kept: Request | None, overwrite: bool, resume: bool) -> None:
    existing = [str(out / name) for name in NAMES if (out / name).exists()]
    if not existing or overwrite or (resume and kept):
        return
    other = "; --resume goes on with an interrupted run that was to replace them" if kept else ""
    raise UserError(f"{' and '.join(existing)} exist; give --overwrite to replace them{other}")


def _what_is_kept(out: Path, summary: Summary | None) -> str:
    if summary is None or not summary.count:
        return "nothing is kept"
    rows = f"{summary.count} rows are" if summary.count > 1 else "1 row is"
    return f"{rows} kept in {out}; give the same command with --resume to go on"
