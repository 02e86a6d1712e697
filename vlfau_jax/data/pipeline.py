"""Prepared sets to batches, in grain's one right order.

source, shuffle, repeat, random map, slice by host, batch, and only then an iterator: so step k's
batch depends on the seed and k alone, for any number of threads, worker processes and restarts, and
two hosts together see what one would.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from vlfau_jax.data.batch import Batch, spec, zeros
from vlfau_jax.data.captions import CaptionTables, noun_of
from vlfau_jax.data.faces import decode_image
from vlfau_jax.data.prepare import BUILDERS
from vlfau_jax.data.transforms import augment, resize
from vlfau_jax.errors import UserError


@dataclass(frozen=True)
class DataOptions:
    """What to read and how to show it.

    Attributes:
        name: the data set, "bp4d".
        data_dir: the folder that `prepare` wrote to.
        variant: the prepared crop, such as "cascade_256"; may be empty where there is only one.
        fold: 1 to 3, or 0 to train on every subject.
        aus: the action units to learn; empty for all of the data set's.
        image_size: pixels of the model's input.
        min_area: smallest share of the face crop that a training crop keeps.
        flip: mirror half of the training faces.
        jitter: strength of the changes in brightness, contrast and saturation.
        threads: threads that make batches (in each process).
        workers: processes that make batches; 0 makes them in this one.
    """

    name: str = "bp4d"
    data_dir: str = "data"
    variant: str = ""
    fold: int = 1
    aus: tuple[int, ...] = ()
    image_size: int = 112
    min_area: float = 0.7
    flip: bool = True
    jitter: float = 0.4
    threads: int = 2
    workers: int = 0

    def __post_init__(self) -> None:
        limits = {
            "image_size": (16, 1024),
            "min_area": (0.05, 1),
            "jitter": (0, 0.95),
            "threads": (0, 256),
            "workers": (0, 256),
        }
        for key, (low, high) in limits.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise UserError(f"data.{key}={value} is out of range; expected {low} to {high}")


@dataclass(frozen=True)
class Dataset:
    """A prepared set on disk.

    Attributes:
        name: the data set.
        folder: where it lies.
        aus: the action units, in the order of its label vectors.
        subjects: sorted.
        tasks: task numbers, sorted.
        crop: the crop rule, see faces.CropRule.describe.
        synthetic: True if the faces were rendered.
        counts: per subject `frames`, and `positives` and `known` per action unit.
    """

    name: str
    folder: Path
    aus: tuple[int, ...]
    subjects: tuple[str, ...]
    tasks: tuple[int, ...]
    crop: dict[str, Any]
    synthetic: bool
    counts: dict[str, dict[str, Any]]

    def source(self, subjects: Sequence[str]) -> Sequence[dict[str, Any]]:
        """Random access to the subjects' examples, subject by subject; images stay encoded."""
        builder = tfds.builder_from_directory(self.folder)
        return builder.as_data_source(
            "+".join(subjects), decoders={"image": tfds.decode.SkipDecoding()}
        )

    def frames(self, subjects: Sequence[str]) -> int:
        """Number of examples of `subjects`."""
        return sum(self.counts[subject]["frames"] for subject in subjects)

    def label_counts(self, subjects: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Active and known labels of `subjects` per action unit, each int64 [n]."""
        rows = [[self.counts[s]["positives"], self.counts[s]["known"]] for s in subjects]
        positives, known = np.array(rows, np.int64).reshape(-1, 2, len(self.aus)).sum(0)
        return positives, known

    def select(self, aus: Sequence[int]) -> tuple[int, ...]:
        """The units asked for, in the data set's order; none means all of them.

        Raises:
            UserError: a unit that the set does not code, or that is asked for twice.
        """
        missing = [au for au in aus if au not in self.aus]
        if missing or len(set(aus)) != len(aus):
            raise UserError(
                f"data.aus={tuple(aus)} names {'an unknown' if missing else 'a repeated'} unit; "
                f"{self.name} codes {', '.join(map(str, self.aus))}"
            )
        return tuple(au for au in self.aus if au in aus) or self.aus


def open_prepared(name: str, data_dir: str | Path, variant: str = "") -> Dataset:
    """Opens the set that `prepare` wrote under `data_dir`.

    Raises:
        UserError: a name that `prepare` does not know, no such set, several of which `variant`
            names none, or one without our metadata.
    """
    if name not in BUILDERS:
        raise UserError(
            f"data.name={name!r} is not a data set; `prepare` knows {', '.join(BUILDERS)}"
        )
    found = {
        path.parent.parent.name: path.parent
        for path in sorted((Path(data_dir) / name).glob("*/*/dataset_info.json"))
        if "incomplete" not in path.parent.name
    }
    if not found:
        raise UserError(
            f"data.data_dir={data_dir} holds no prepared {name}; expected the folder written by: "
            f"python -m vlfau_jax prepare --dataset={name} --raw_dir=DIR --data_dir={data_dir}"
        )
    if (variant and variant not in found) or (not variant and len(found) > 1):
        raise UserError(
            f"data.variant={variant!r} selects no set in {data_dir}/{name}; expected one of "
            f"{', '.join(found)}"
        )
    folder = found[variant] if variant else next(iter(found.values()))
    metadata = dict(tfds.builder_from_directory(folder).info.metadata or {})
    try:
        return Dataset(
            name=name,
            folder=folder,
            aus=tuple(metadata["aus"]),
            subjects=tuple(sorted(metadata["subjects"])),
            tasks=tuple(metadata["tasks"]),
            crop=metadata["crop"],
            synthetic=metadata["synthetic"],
            counts=metadata["subjects"],
        )
    except KeyError as error:
        raise UserError(
            f"{folder} has no {error} in metadata.json; expected a set written by "
            f"`python -m vlfau_jax prepare`"
        ) from error


class _Rows:
    """Examples to rows of a batch; an empty example becomes a filling row."""

    def __init__(self, dataset: Dataset, captions: CaptionTables, options: DataOptions) -> None:
        self._columns = [dataset.aus.index(au) for au in captions.aus]
        self._indices = {subject: i for i, subject in enumerate(dataset.subjects)}
        self._captions = captions
        self._options = options
        self._row_spec = {
            key: (shape[1:], dtype)
            for key, (shape, dtype) in spec(
                batch_size=1,
                image_size=options.image_size,
                units=len(captions.aus),
                local_length=captions.local_length,
                global_length=captions.global_length,
            ).items()
        }

    def shown(self, example: dict[str, Any]) -> Batch:
        """The whole face, for evaluation."""
        if not example:
            return zeros(self._row_spec)
        return self._row(example, resize(_decode(example), self._options.image_size))

    def augmented(self, example: dict[str, Any], rng: np.random.Generator) -> Batch:
        """A random view of the face, for training."""
        o = self._options
        image = augment(
            _decode(example), o.image_size, rng, min_area=o.min_area, flip=o.flip, jitter=o.jitter
        )
        return self._row(example, image)

    def _row(self, example: dict[str, Any], image: np.ndarray) -> Batch:
        codes = example["occurrence"][self._columns]
        subject = example["subject"].decode()
        au, known = codes == 1, codes >= 0
        return {
            "image": image,
            "au": au.astype(np.float32),
            "au_known": known,
            "local_tokens": self._captions.local_tokens(au, known),
            "global_tokens": self._captions.global_tokens(au, known, noun_of(subject)),
            "valid": np.True_,
            "key": np.array([self._indices[subject], example["task"], example["frame"]], np.int32),
        }


def _decode(example: dict[str, Any]) -> np.ndarray:
    image = decode_image(example["image"])
    if image is None:
        raise ValueError(f"the prepared image of {example['source'].decode()} is damaged")
    return image


class _Padded:
    """A source, and empty examples up to a whole number of batches (grain would drop a None)."""

    def __init__(self, source: Sequence[Any], multiple: int) -> None:
        self._source = source
        self._length = -(-len(source) // multiple) * multiple

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[index] if index < len(self._source) else {}


def train_iterator(
    dataset: Dataset,
    subjects: Sequence[str],
    captions: CaptionTables,
    options: DataOptions,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Generator[Batch, None, None]:
    """Endless augmented batches of this host's share; close it after use.

    Args:
        dataset: the prepared set.
        subjects: whose faces to train on.
        captions: the token tables; their units are the batch's.
        options: sizes, augmentation, threads and workers.
        batch_size: global, over all hosts.
        seed: with the step, decides all of a batch.
        start_step: the step of the first batch: the whole state of a resumed stream.
        host: this host's number.
        hosts: how many there are.
    """
    order, views = (int(s) for s in np.random.SeedSequence(seed).generate_state(2))
    rows = _Rows(dataset, captions, options)
    stream = (
        grain.MapDataset.source(dataset.source(subjects))
        .shuffle(seed=order)
        .repeat()
        .random_map(rows.augmented, seed=views)
    )
    return _batches(stream, options, batch_size, start_step, host, hosts)


def eval_iterator(
    dataset: Dataset,
    subjects: Sequence[str],
    captions: CaptionTables,
    options: DataOptions,
    *,
    batch_size: int,
    host: int = 0,
    hosts: int = 1,
) -> Generator[Batch, None, None]:
    """Every example of `subjects` once, in order, unaugmented; the last batch is filled up.

    Arguments as in `train_iterator`. Every host gets the same number of batches.
    """
    rows = _Rows(dataset, captions, options)
    source = _Padded(dataset.source(subjects), batch_size)
    stream = grain.MapDataset.source(source).map(rows.shown)
    return _batches(stream, options, batch_size, 0, host, hosts)


def _batches(
    stream: grain.MapDataset,
    options: DataOptions,
    batch_size: int,
    start_step: int,
    host: int,
    hosts: int,
) -> Generator[Batch, None, None]:
    if batch_size % hosts:
        raise UserError(f"train.batch_size={batch_size} does not divide among {hosts} hosts")
    batches = stream[host::hosts].batch(batch_size // hosts, batch_fn=_stack)[start_step:]
    # The buffer counts whole batches: a few keep the threads busy, grain's 500 would fill memory.
    read = grain.ReadOptions(
        num_threads=options.threads, prefetch_buffer_size=options.threads and options.threads + 1
    )
    iterable = batches.to_iter_dataset(read)
    _one_thread_each()
    if options.workers:
        if not flags.FLAGS.is_parsed():  # grain hands absl's flags on to its processes
            flags.FLAGS.mark_as_parsed()
        iterable = iterable.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=options.workers, per_worker_buffer_size=2),
            worker_init_fn=_one_thread_each,
        )
    return _closing(iter(iterable))


def _closing(batches: grain.DatasetIterator) -> Generator[Batch, None, None]:
    """Stops grain's threads and processes when the batches end, fail or are closed."""
    try:
        yield from batches
    finally:
        batches.close()


def _stack(rows: Sequence[Batch]) -> Batch:
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _one_thread_each(*_: int) -> None:
    cv2.setNumThreads(0)  # grain's threads are the parallelism; OpenCV's would fight them
