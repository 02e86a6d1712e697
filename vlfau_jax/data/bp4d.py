"""BP4D-Spontaneous as a tensorflow-datasets builder that needs no TensorFlow.

One split per subject, so that folds are chosen when reading; codes are stored as the raw files
have them, with unknown as -1. Import this module and `tfds.data_source("bp4d/cascade_256", ...)`
works for anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer
from tensorflow_datasets.proto import tf_example_pb2

from vlfau_jax.data.bp4d_tree import RawSequence, RawTree, index_tree
from vlfau_jax.data.faces import Crop, CropRule, crop_frames, crop_rule, losses_without_face
from vlfau_jax.data.integrity import IntegrityReport, LabelCounts
from vlfau_jax.data.workers import Workers
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import BP4D_AUS

_DESCRIPTION = """\
BP4D-Spontaneous (Zhang et al., Image and Vision Computing 32, 2014): 41 subjects, 8 tasks, faces
coded for twelve facial action units in 146,847 frames. It is licensed by Binghamton University and
may not be redistributed: a licence holder names the raw tree as `manual_dir`.
"""


@dataclass
class Bp4dConfig(tfds.core.BuilderConfig):
    """One way to crop the faces."""

    crop: CropRule = field(kw_only=True)


def config_for(crop: CropRule) -> Bp4dConfig:
    """The builder config of a crop rule, named as `cascade_256`."""
    return Bp4dConfig(
        name=f"{crop.name}_{crop.size}",
        description=f"crop rule {crop.name}, {crop.size} pixels",
        crop=crop,
    )


class _Metadata(tfds.core.MetadataDict):
    """What a reader of the set must know, and the integrity report, saved in one go with it."""

    report: IntegrityReport | None = None

    def save_metadata(self, data_dir: Any) -> None:
        super().save_metadata(data_dir)
        if self.report is not None:
            self.report.save(Path(data_dir))


class _StableWriter(writer.ExampleWriter):
    """Protocol buffers write a map's keys in random order: sort them, for equal bytes each time."""

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        return super().write(path, ((key, _sorted_keys(record)) for key, record in examples))


def _sorted_keys(record: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(record).SerializeToString(deterministic=True)


class Bp4d(tfds.core.GeneratorBasedBuilder):
    """Builder of BP4D from its raw tree (see bp4d_tree.py), with cropped faces.

    Attributes:
        tree: the indexed raw tree, if the caller has indexed it already.
        workers: processes that find and crop faces; 0 does it in this one. The bytes written are
            the same for any number.
        on_frame: called once per labelled frame that has an image, for a progress bar.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        config_for(crop_rule("cascade", 256)),
        config_for(crop_rule("none", 256)),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "BP4D is licensed by Binghamton University; manual_dir is the folder that holds "
        "'Sequences(2D+3D)' and 'AUCoding'."
    )

    tree: RawTree | None = None
    workers: int = 0
    on_frame: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, **kwargs: Any) -> None:
        # array_record is the format that is written and read without TensorFlow.
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self) -> tfds.core.DatasetInfo:
        n = len(BP4D_AUS)
        size = self.builder_config.crop.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            homepage="https://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(size, size, 3), dtype=np.uint8, encoding_format="jpeg"
                    ),
                    "occurrence": tfds.features.Tensor(shape=(n,), dtype=np.int8),
                    "intensity": tfds.features.Tensor(shape=(n,), dtype=np.int8),
                    "subject": tfds.features.Text(),
                    "task": tfds.features.Scalar(dtype=np.int32),
                    "frame": tfds.features.Scalar(dtype=np.int32),
                    "source": tfds.features.Text(),
                }
            ),
            metadata=_Metadata(),
            disable_shuffling=True,  # keep the order of subject, task and frame
        )

    def _example_writer(self) -> writer.ExampleWriter:
        return _StableWriter(file_format=self.info.file_format)

    def _download_and_prepare(self, **kwargs: Any) -> None:
        with Workers(self.workers) as self._workers:
            super()._download_and_prepare(**kwargs)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        tree = self.tree or index_tree(dl_manager.manual_dir)
        crop = self.builder_config.crop
        report = tree.report
        report.crop = crop.describe()
        self.info.metadata.report = report
        sequences = self._usable_subjects(tree)
        report.subjects = {subject: LabelCounts.zero(len(BP4D_AUS)) for subject in sequences}
        # tfds exhausts the splits one after the other, in the order of this dict, which is that of
        # the sequences: one stream of crops serves them all and keeps the workers busy.
        crops = self._workers.starmap(
            partial(crop_frames, rule=crop),
            ((s.frames, s.paths) for theirs in sequences.values() for s in theirs),
        )
        return {
            subject: self._generate_examples(tree, theirs, crops)
            for subject, theirs in sequences.items()
        }

    def _usable_subjects(self, tree: RawTree) -> dict[str, list[RawSequence]]:
        """The sequences of subjects who show a face at least once; others are reported as lost.

        tfds must know the splits before the first is written and fails on an empty one. A face is
        nearly always found in a subject's first frame.
        """
        groups = groupby(tree.sequences, key=lambda sequence: sequence.subject)
        sequences = {subject: list(theirs) for subject, theirs in groups}
        paths = {
            subject: [path for sequence in theirs for path in sequence.paths]
            for subject, theirs in sequences.items()
        }
        probe = partial(losses_without_face, rule=self.builder_config.crop)
        probes = self._workers.starmap(probe, ((theirs,) for theirs in paths.values()))
        for (subject, theirs), losses in zip(paths.items(), probes, strict=True):
            if losses is None:
                continue
            del sequences[subject]
            tree.report.remarks["subject_unusable"].append(subject)
            for path, loss in zip(theirs, losses, strict=True):
                self.on_frame()
                tree.report.losses[loss].append(_source(path, tree))
        tree.report.remarks["subject_unusable"].sort()
        if not sequences:
            raise UserError(
                f"{tree.root}: no labelled frame of any subject is usable; expected readable "
                "images with a face"
            )
        return sequences

    def _generate_examples(
        self,
        tree: RawTree,
        sequences: list[RawSequence],
        crops: Iterator[list[Crop]],
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        report = tree.report
        counts = report.subjects[sequences[0].subject]
        for sequence in sequences:
            facts = report.facts(sequence.subject, sequence.task)
            for i, crop in enumerate(next(crops)):
                self.on_frame()
                source = _source(sequence.paths[i], tree)
                if crop.image is None:
                    report.losses[crop.loss].append(source)
                    continue
                yield (
                    counts.frames,
                    {
                        "image": crop.image,
                        "occurrence": sequence.occurrence[i],
                        "intensity": sequence.intensity[i],
                        "subject": sequence.subject,
                        "task": sequence.task,
                        "frame": sequence.frames[i],
                        "source": source,
                    },
                )
                counts.add(sequence.occurrence[i])
                facts.written += 1
        if not counts.frames:  # one was usable a moment ago
            raise RunError(
                f"{tree.root}: the images of subject {sequences[0].subject} changed while they "
                "were read; nothing was written, prepare again"
            )
        self.info.metadata.update(_metadata(report))


def _source(path: str, tree: RawTree) -> str:
    return Path(path).relative_to(tree.root).as_posix()


def _metadata(report: IntegrityReport) -> dict[str, Any]:
    return {
        "aus": list(report.aus),
        "crop": report.crop,
        "synthetic": report.synthetic,
        "tasks": sorted({facts.task for facts in report.sequences}),
        "subjects": {name: asdict(counts) for name, counts in report.subjects.items()},
    }
