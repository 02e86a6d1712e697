"""The tensorflow-datasets builder of a data set, made from its record; it needs no TensorFlow.

A set has one split per subject, because folds are chosen when reading, and one shard per raw
sequence. Codes are stored as the raw files have them, unknown ones as -1: thresholds and exclusions
are applied when reading. The set's folder also holds digests.json and metadata.json
(data/set_record.py), and

    labels.npz        every example's subject, task, frame and codes, in the order of
                      as_data_source("+".join(sorted subjects)): labels are counted without images
    integrity.json    what the raw tree held and what was dropped; integrity.txt as tables
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import cv2
import numpy as np
import tensorflow_datasets as tfds

from vlfau_jax.data.crop.registry import RULES, crop_rule
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.prepare.shards import ShardFacts, ShardJob, features, write_shard
from vlfau_jax.data.prepare.shared_pictures import shared_pictures
from vlfau_jax.data.raw.file_account import account_files
from vlfau_jax.data.raw.frames import Place, place_of, source_of
from vlfau_jax.data.raw.integrity_text import save_report
from vlfau_jax.data.raw.label_counts import LabelCounts
from vlfau_jax.data.raw.label_options import STRICT, LabelOptions
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK
from vlfau_jax.data.raw.tree import ImageFiles, RawTree, Video
from vlfau_jax.data.set_record import LABELS, Metadata, Rendering, Shard, seal
from vlfau_jax.data.sets import DataSet
from vlfau_jax.data.synthetic.jobs import read_rendering
from vlfau_jax.errors import UserError
from vlfau_jax.files import locked

Written = tuple[ShardJob, ShardFacts]

_NAME = re.compile(r"([a-z]+)_(\d{1,4})(?:_([a-z]+))?(?:_offset(-?[1-9]\d{0,3}))?")
MOST_OFFSET = 9999  # the digits that _NAME reads


@dataclass(eq=False)
class AuConfig(tfds.core.BuilderConfig):
    """One variant of a data set's pictures.

    Attributes:
        crop: how faces are cropped.
        camera: the camera, if the data set has several; else "".
        frame_offset: label frame n shows picture n + frame_offset.
    """

    crop: CropRule = field(kw_only=True)
    camera: str = ""
    frame_offset: int = 0


def au_config(
    crop: CropRule, camera: str = "", frame_offset: int = 0, *, cameras: Sequence[str] = ()
) -> AuConfig:
    """Makes a config, named as `cascade_256`, `cascade_256_right` or `cascade_256_right_offset-1`.

    `cameras` are those of the data set; the name has any camera but the first.

    Raises:
        UserError: a frame offset out of range.
    """
    if abs(frame_offset) > MOST_OFFSET:
        raise UserError(
            f"--frame_offset={frame_offset} is out of range; expected -{MOST_OFFSET} to "
            f"{MOST_OFFSET}"
        )
    name = f"{crop.name}_{crop.size}"
    if camera in cameras[1:]:
        name += f"_{camera}"
    if frame_offset:
        name += f"_offset{frame_offset}"
    side = f", {camera} camera" if camera else ""
    offset = f", label frame n shows picture n{frame_offset:+d}" if frame_offset else ""
    return AuConfig(
        name=name,
        description=f"crop rule {crop.name}, {crop.size} pixels{side}{offset}",
        crop=crop,
        camera=camera,
        frame_offset=frame_offset,
    )


@cache
def config_named(name: str, cameras: tuple[str, ...]) -> AuConfig | None:
    """The config of that name, or None: no such rule, or one that needs a file to be named."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in RULES or (match[3] and match[3] not in cameras[1:]):
        return None
    try:
        rule = crop_rule(match[1], int(match[2]))
    except UserError:
        return None
    camera = match[3] or next(iter(cameras), "")
    return au_config(rule, camera, int(match[4] or 0), cameras=cameras)


class _Info(tfds.core.DatasetInfo):
    """Dataset information that is never looked up in Google's bucket of public data sets."""

    shards: Mapping[str, Sequence[Shard]] | None = None  # known once they are written

    def initialize_from_bucket(self) -> None:
        """Does nothing: no request is made, and no folder is left in /tmp."""

    def write_to_directory(self, dataset_info_dir: str, all_metadata: bool = True) -> None:
        """Writes tfds's files and then the digests: the last that tfds does for a set."""
        super().write_to_directory(dataset_info_dir, all_metadata)
        if self.shards is not None:
            seal(Path(dataset_info_dir), self.shards)


def _write_one_by_one(jobs: Sequence[ShardJob]) -> list[ShardFacts]:
    return [write_shard(job) for job in jobs]


class AuBuilder(tfds.core.DatasetBuilder, skip_registration=True):
    """Faces and codes of action units; builders.py makes a subclass for each data set.

    `python -m vlfau_jax prepare` runs it in parallel and continues after a kill;
    `builder.download_and_prepare` with a `manual_dir` writes the same bytes in one process.

    Attributes:
        DATA_SET: the data set's record.
        tree: the raw tree, if the caller has read it already.
        work: a folder on the file system of the set, for shards before they are moved into it.
        make: makes shards, in any order; returns their facts in the order of the jobs.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "2.0.0": "one shard a sequence; sex, box and alignment of every face; labels.npz",
    }
    DATA_SET: ClassVar[DataSet]

    tree: RawTree | None = None
    work: Path | None = None
    make: Callable[[Sequence[ShardJob]], list[ShardFacts]] = staticmethod(_write_one_by_one)

    def __init__(self, *, file_format: str = "array_record", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # tfds's own default, tfrecord, is neither written nor read without TensorFlow.
        self.info.set_file_format(file_format)

    @classmethod
    def read(cls, raw_dir: str | Path, config: AuConfig, options: LabelOptions = STRICT) -> RawTree:
        """Reads a raw tree's labels and finds its pictures. Raises UserError."""
        return cls.DATA_SET.read(
            raw_dir, camera=config.camera, frame_offset=config.frame_offset, options=options
        )

    @classmethod
    def get_builder_config(cls, name: str, version: Any = None) -> AuConfig | None:
        """The config of any name that `au_config` gives, listed or not."""
        return super().get_builder_config(name, version) or config_named(name, cls.DATA_SET.cameras)

    def _info(self) -> tfds.core.DatasetInfo:
        of = self.DATA_SET
        return _Info(
            builder=self,
            description=of.description,
            homepage=of.homepage,
            citation=of.citation,
            license=of.licence,
            features=features(of.aus and len(of.aus), self.builder_config.crop.size),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,  # the order is that of subject, task and frame
        )

    def _as_dataset(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("array_record sets are read by as_data_source")

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        self._refuse(download_config or tfds.download.DownloadConfig())
        with locked(Path(self.data_path).parent):  # tfds has put `incomplete...` into the path
            self._write(self.tree or self.read(dl_manager.manual_dir, self.builder_config))

    def _write(self, tree: RawTree) -> None:
        remarks = self.builder_config.crop.check_table(_places(tree), str(tree.root))
        tree.report.remarks["crop_table"] += remarks
        folder = self.data_path
        work = self.work or Path(folder) / "shards"
        work.mkdir(parents=True, exist_ok=True)
        jobs = [
            ShardJob(sequence, str(tree.root), self.builder_config.crop, str(work))
            for sequence in tree.sequences
        ]
        made = list(zip(jobs, self.make(jobs), strict=True))
        subjects = _complete_report(tree, made, self.builder_config.crop)
        tree.report.files = account_files(tree.root, _files_read(tree, self.builder_config.crop))
        self.info.set_splits(
            tfds.core.SplitDict([self._split(name, theirs) for name, theirs in subjects.items()])
        )
        self.info.metadata.update(self._metadata(tree, subjects))
        np.savez(Path(folder) / LABELS, **_label_arrays(subjects))
        save_report(tree.report, folder)
        self.info.shards = self._place_shards(subjects)
        if self.work is None:
            for left in work.iterdir():
                left.unlink()
            work.rmdir()

    def _refuse(self, asked: tfds.download.DownloadConfig) -> None:
        if asked.beam_runner or asked.beam_options or asked.max_examples_per_split is not None:
            raise UserError(
                "DownloadConfig's beam_runner, beam_options and max_examples_per_split do nothing "
                "here; run: python -m vlfau_jax prepare --beam_runner=..."
            )
        if self.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise UserError(
                f"file_format={self.info.file_format.value} is not written here; expected "
                "array_record"
            )

    def _template(self, subject: str) -> tfds.core.ShardedFileTemplate:
        return tfds.core.ShardedFileTemplate(
            data_dir=self.data_path,
            dataset_name=self.name,
            split=subject,
            filetype_suffix=self.info.file_format.file_suffix,
        )

    def _split(self, subject: str, written: Sequence[Written]) -> tfds.core.SplitInfo:
        return tfds.core.SplitInfo(
            name=subject,
            shard_lengths=[len(facts.kept) for _, facts in written],
            num_bytes=sum(facts.size for _, facts in written),
            filename_template=self._template(subject),
        )

    def _place_shards(self, subjects: dict[str, list[Written]]) -> dict[str, list[Shard]]:
        """Gives every shard its name in the set; the last step, so that a kill loses no shard."""
        placed: dict[str, list[Shard]] = {}
        for subject, written in subjects.items():
            template, placed[subject] = self._template(subject), []
            for k, (job, facts) in enumerate(written):
                target = template.sharded_filepath(shard_index=k, num_shards=len(written))
                try:
                    os.link(job.path, target)  # it keeps its old name until the set is in place
                except OSError:  # a file system without links
                    os.replace(job.path, target)
                shard = Shard(
                    file=target.name,
                    examples=len(facts.kept),
                    size=facts.size,
                    sha256=facts.sha256,
                )
                placed[subject].append(shard)
        return placed

    def _metadata(self, tree: RawTree, subjects: dict[str, list[Written]]) -> dict[str, Any]:
        report, config = tree.report, self.builder_config
        values = {
            "aus": list(tree.aus),
            "benchmark": list(tree.benchmark),
            "crop": report.crop,
            # Not part of the rule's digest, although they may change pixels.
            "crop_table_sha256": config.crop.table_digest(),
            "opencv": cv2.__version__,
            "synthetic": report.synthetic,
            "rendering": self._rendering(tree),
            "layout": report.layout,
            "camera": config.camera if report.layout == "raw" else "",
            "frame_offset": config.frame_offset,
            "tasks": sorted(
                {job.sequence.task for written in subjects.values() for job, _ in written}
            ),
            "subjects": {
                subject: {
                    "frames": sum(len(facts.kept) for _, facts in written),
                    "sex": written[0][0].sequence.sex,
                    "fold": tree.folds.get(subject, 0),
                }
                for subject, written in subjects.items()
            },
            "list_folds": _list_folds(tree, subjects),
        }
        return Metadata.model_validate(values).model_dump(exclude_none=True)

    def _rendering(self, tree: RawTree) -> Rendering | None:
        """How the tree's faces were rendered, if they lie where the renderer put them."""
        if not tree.report.synthetic or tree.report.layout == "me_graphau":
            return None
        return read_rendering(tree.root, self.DATA_SET.name)


def _files_read(tree: RawTree, crop: CropRule) -> set[str]:
    """The files below the raw tree that its set was made from."""
    mark = str(tree.root / SYNTHETIC_MARK)
    return {
        *chain.from_iterable(_picture_files(sequence.pictures) for sequence in tree.sequences),
        *tree.tables,
        *crop.tables(_places(tree)),
        *([mark] if os.path.exists(mark) else []),
    }


def _picture_files(pictures: ImageFiles | Video) -> Sequence[str]:
    return (pictures.path,) if isinstance(pictures, Video) else pictures.paths


def _places(tree: RawTree) -> Iterator[Place]:
    return (place_of(s.pictures, i) for s in tree.sequences for i in range(len(s.frames)))


def _list_folds(tree: RawTree, written: Collection[str]) -> dict[str, Any]:
    """`list_folds` of metadata.json: of the subjects who were written."""
    folds = {
        str(fold): {
            side: [name for name in names if name in written]
            for side, names in zip(("train", "test"), sides, strict=True)
        }
        for fold, sides in tree.list_folds.items()
    }
    return {fold: sides for fold, sides in folds.items() if all(sides.values())}


def _complete_report(
    tree: RawTree, made: Sequence[Written], crop: CropRule
) -> dict[str, list[Written]]:
    """Adds what was written and dropped to the tree's report; returns subject -> its shards."""
    report = tree.report
    report.crop = crop.describe()
    of_sequence = {(found.subject, found.task): found for found in report.sequences}
    subjects: dict[str, list[Written]] = {}
    for subject, theirs in groupby(made, key=lambda one: one[0].sequence.subject):
        counts, written = LabelCounts.zero(len(tree.aus)), []
        for job, facts in theirs:
            sequence, kept = job.sequence, list(facts.kept)
            of_sequence[subject, sequence.task].written = len(kept)
            counts.count(sequence.occurrence[kept], sequence.intensity[kept])
            for kind, i in facts.losses:
                report.losses[kind].append(source_of(job.root, sequence.pictures, i))
            for kind, number in facts.aligned_by.items():
                report.aligned_by[kind] = report.aligned_by.get(kind, 0) + number
            if kept:
                written.append((job, facts))
        if written:
            subjects[subject], report.subjects[subject] = written, counts
        else:
            report.remarks["subject_unusable"].append(subject)
    report.remarks["subject_unusable"].sort()
    report.shared_pictures, report.remarks["picture_shared"] = shared_pictures(made)
    if not subjects:
        raise UserError(
            f"{tree.root}: no labelled frame of any subject is usable; expected readable images "
            "with a face"
        )
    return subjects


def _label_arrays(subjects: dict[str, list[Written]]) -> dict[str, np.ndarray]:
    """The columns of labels.npz: int32 [m] of each key, int8 [m, n] of the codes."""
    columns: dict[str, list[np.ndarray]] = {
        key: [] for key in ("subject", "task", "frame", "occurrence", "intensity")
    }
    for i, written in enumerate(subjects.values()):
        for job, facts in written:
            sequence, kept = job.sequence, list(facts.kept)
            columns["subject"].append(np.full(len(kept), i, np.int32))
            columns["task"].append(np.full(len(kept), sequence.task, np.int32))
            columns["frame"].append(np.array(sequence.frames, np.int32)[kept])
            columns["occurrence"].append(sequence.occurrence[kept])
            columns["intensity"].append(sequence.intensity[kept])
    return {key: np.concatenate(parts) for key, parts in columns.items()}
