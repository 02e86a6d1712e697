"""Makes batches of prepared sets with grain.

The order is: source, shuffle, repeat, random map, the process's own rows, batch, and only then an
iterator. Step k's batch therefore depends on the seed and k alone, for any number of threads,
worker processes and restarts, and several processes together read the rows that one would. Weighted
draws replace shuffle and repeat.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags

from vlfau_jax.data.raw.frames import decode_crop
from vlfau_jax.data.read.batch import Batch
from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.pictures import DamagedExample
from vlfau_jax.data.read.sampling import Draws, row_weights
from vlfau_jax.data.read.transforms import View, augment, draw_view, resize
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.workers import ctrl_c_blocked, end_with_parent
from vlfau_jax.errors import DataError, UserError

_KILLED = "was terminated unexpectedly"  # grain's RuntimeError for a worker that is gone
_BUFFER = 2  # batches that each worker process has ready
_SHARED = "/dev/shm"
_REMEDY = (
    "give more (docker run --shm-size=1g; in Kubernetes an emptyDir with medium: Memory, see "
    "launch/kubernetes.yaml), or fewer data.workers, or data.workers=0"
)
FILLING = -1  # the position of a row that pads a batch


class Faces:
    """The stages of the pipeline: read, decode and view a batch's faces, and label its rows."""

    def __init__(self, dataset: Dataset, captions: CaptionTables, options: DataOptions) -> None:
        if captions.aus != dataset.aus:
            raise ValueError(f"sentences of {captions.aus} for labels of {dataset.aus}")
        self._dataset = dataset
        self._captions = captions
        self._options = options
        self._draws_texts = captions.descriptions.drawn
        labels = dataset.labels
        self._keys = np.stack([labels.subject, labels.task, labels.frame], 1).astype(np.int32)
        self._examples = dataset.source(np.arange(len(labels)))

    def draw(
        self, index: int, rng: np.random.Generator, rows: np.ndarray | None = None
    ) -> tuple[int, View, np.ndarray | None]:
        """A face that is trained on, its view, and the draws of its texts, float64 [2, n].

        The face is `index`, or what stands there in `rows`. The draws are in 0-1, of each unit's
        own sentence and of its phrase in the sentence about the face; None where no state has
        several texts.
        """
        o = self._options
        position = index if rows is None else rows.item(index)
        view = draw_view(
            rng,
            min_area=o.min_area,
            flip=o.flip,
            jitter=o.jitter,
            erasing=o.erasing,
            max_area=o.max_area,
        )
        shape = (2, len(self._captions.aus))
        return position, view, rng.random(shape) if self._draws_texts else None

    def training_batch(self, rows: Sequence[tuple[int, View, np.ndarray | None]]) -> Batch:
        """The batch of some faces' views."""
        positions, views, draws = zip(*rows, strict=True)
        images, places = self._images(len(rows)), np.empty((len(rows), 3), np.float32)
        memory = self.memory()
        for position, view, image, place in zip(positions, views, images, places, strict=True):
            augment(self.decode(position, self.read(position), memory), view, image, place)
        wording = None if draws[0] is None else np.stack(draws, 1)
        return {"image": images, **self.label(np.array(positions), wording), "view": places}

    def evaluation_batch(self, positions: Sequence[int]) -> Batch:
        """The batch of some whole faces; black for a padding row."""
        images, memory = self._images(len(positions)), self.memory()
        for position, image in zip(positions, images, strict=True):
            if position == FILLING:
                image[:] = 0
            else:
                resize(self.decode(position, self.read(position), memory), len(image), image)
        label = self.label(np.array(positions))
        whole = np.array([0.0, 0.0, 1.0], np.float32)
        return {"image": images, **label, "view": label["valid"][:, None] * whole[None]}

    def _images(self, count: int) -> np.ndarray:
        """The pictures of a batch, not written yet."""
        return np.empty((count, self._options.image_size, self._options.image_size, 3), np.uint8)

    def memory(self) -> np.ndarray:
        """Memory for one stored picture; what is fresh costs a page fault for every 4 kB."""
        return np.empty((self._dataset.crop["size"], self._dataset.crop["size"], 3), np.uint8)

    def read(self, position: int) -> Mapping[str, bytes]:
        """Reads the encoded `image` and its `source`. Raises DataError if the set is damaged."""
        try:
            return self._examples[position]
        except DamagedExample as error:
            raise self._unusable(position, f"cannot be read ({error})") from error

    def decode(
        self, position: int, example: Mapping[str, bytes], memory: np.ndarray | None = None
    ) -> np.ndarray:
        """Decodes to RGB uint8 [h, h, 3], into `memory` where that has its size.

        Raises:
            DataError: the picture is damaged.
        """
        image = decode_crop(example["image"], memory)
        if image is None:
            raise self._unusable(position, f"({example['source'].decode()}) is damaged")
        return image

    def label(self, positions: np.ndarray, draws: np.ndarray | None = None) -> Batch:
        """Makes all of a batch but its images, for int [b] positions; zeros where FILLING.

        `draws` [2, b, n] choose the texts, see `draw`; None for the first ones.
        """
        d, valid = self._dataset, positions != FILLING
        of_units, of_faces = (None, None) if draws is None else draws
        au, known = (of[positions] & valid[:, None] for of in (d.labels.au, d.labels.known))
        nouns = [d.nouns[subject] for subject in d.labels.subject[positions]]
        coded = d.coded[d.labels.part[positions]]
        return {
            "au": au.astype(np.float32),
            "au_known": known,
            "local_tokens": self._captions.local_tokens(
                au, known, d.labels.level[positions], of_units
            ),
            "global_tokens": self._captions.global_tokens(au, known, nouns, coded, of_faces),
            "valid": valid,
            "key": np.where(valid[:, None], self._keys[positions], 0),
        }

    def _unusable(self, position: int, problem: str) -> DataError:
        d = self._dataset
        subject, task, frame = self._keys[position]
        return DataError(
            f"{d.sets[d.labels.part[position]].folder}: the picture of {d.subjects[subject]}, task "
            f"{task}, frame {frame} {problem}; restore the set's files or prepare it again"
        )


def train_iterator(
    dataset: Dataset,
    rows: np.ndarray,
    captions: CaptionTables,
    options: DataOptions,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    own: np.ndarray | None = None,
) -> Generator[Batch, None, None]:
    """Yields endless augmented batches, or this process's rows of them; close it after use.

    Args:
        dataset: the prepared sets.
        rows: int64, the examples to train on, see `Dataset.rows`.
        captions: the token tables; their units are the data set's.
        options: sizes, augmentation, balance, threads and workers.
        batch_size: global, over all processes.
        seed: a batch depends on it and the step alone.
        start_step: the step of the first batch: the whole state of a resumed stream.
        own: int, the rows of each global batch to read (see sharding.arrays.local_rows); None: all.

    Raises:
        UserError: `mixture_weights` that do not fit the sets.
        DataError: a picture that cannot be decoded, when its batch is due; a worker was killed.
    """
    order, views = (int(s) for s in np.random.SeedSequence(seed).generate_state(2))
    weights = row_weights(dataset.labels, rows, options, [one.name for one in dataset.sets])
    faces = Faces(dataset, captions, options)
    if weights is None:  # a range, because grain keeps statistics of what is read from a source
        indices = grain.MapDataset.range(len(rows)).shuffle(seed=order).repeat()
        stream = indices.random_map(partial(faces.draw, rows=rows), seed=views)
    else:
        positions = grain.MapDataset.source(Draws(rows, weights, order))
        stream = positions.random_map(faces.draw, seed=views)
    return _batches(stream, faces.training_batch, options, batch_size, start_step, own)


def eval_iterator(
    dataset: Dataset,
    rows: np.ndarray,
    captions: CaptionTables,
    options: DataOptions,
    *,
    batch_size: int,
    own: np.ndarray | None = None,
) -> Generator[Batch, None, None]:
    """Yields every example of `rows` once, in order, unaugmented; the last batch is padded.

    Arguments and errors as in `train_iterator`. Every process gets the same number of batches.
    """
    faces = Faces(dataset, captions, options)
    filled = np.pad(rows, (0, -len(rows) % batch_size), constant_values=FILLING)
    stream = grain.MapDataset.source(filled)
    return _batches(stream, faces.evaluation_batch, options, batch_size, 0, own)


class _Rows(Sequence):
    """Some rows of every batch of a stream: what stands at i in the stream stays what it was.

    Grain's own slices have one stride; a mesh may give a process any rows.
    """

    def __init__(self, stream: grain.MapDataset, batch_size: int, own: np.ndarray) -> None:
        self._stream, self._batch_size, self._own = stream, batch_size, own.tolist()

    def __len__(self) -> int:
        return len(self._stream) // self._batch_size * len(self._own)

    def __getitem__(self, index: int) -> Any:
        batch, row = divmod(index, len(self._own))
        return self._stream[batch * self._batch_size + self._own[row]]


def _batches(
    stream: grain.MapDataset,
    batch_of: Callable[[Sequence[Any]], Batch],
    options: DataOptions,
    batch_size: int,
    start_step: int,
    own: np.ndarray | None,
) -> Generator[Batch, None, None]:
    if own is not None and len(own) < batch_size:
        stream = grain.MapDataset.source(_Rows(stream, batch_size, own))
    share = batch_size if own is None else len(own)
    batches = stream.batch(share, batch_fn=batch_of)[start_step:]
    # The buffer counts whole batches: a few keep the threads busy, grain's 500 would fill memory.
    read = grain.ReadOptions(
        num_threads=options.threads, prefetch_buffer_size=options.threads and options.threads + 1
    )
    iterable = batches.to_iter_dataset(read)
    _one_thread_each()
    if options.workers:
        _check_shared_memory(options, share)
        if not flags.FLAGS.is_parsed():  # grain hands absl's flags on to its processes
            flags.FLAGS.mark_as_parsed()
        iterable = iterable.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=options.workers, per_worker_buffer_size=_BUFFER
            ),
            worker_init_fn=_start_worker,
        )
    return _closing(iter(iterable), options.workers)


def _check_shared_memory(options: DataOptions, batch_size: int) -> None:
    """Raises UserError where worker processes would run out of shared memory.

    They hand batches over in it, and a process that finds no room there is killed without a word.
    """
    try:
        found = os.statvfs(_SHARED)
    except OSError:  # another system's shared memory is no file system
        return
    free = found.f_bavail * found.f_frsize
    # Each process fills its buffer and then holds the next one; one is being read.
    most = (options.workers * (_BUFFER + 1) + 1) * batch_size * 3 * options.image_size**2
    if most > free:
        raise UserError(
            f"data.workers={options.workers}: the processes hand batches over in {_SHARED}, which "
            f"has {free >> 20} MiB free of the {(most >> 20) + 1} MiB that these take; {_REMEDY}"
        )


def _closing(batches: grain.DatasetIterator, workers: int) -> Generator[Batch, None, None]:
    """Stops grain's threads and processes when the batches end, fail or are closed."""
    try:
        with ctrl_c_blocked():  # grain starts its processes with the first batch
            first = list(islice(batches, 1))
        yield from first
        yield from batches
    except RuntimeError as error:
        if _KILLED not in str(error):
            raise
        raise DataError(
            f"a process that loads data was killed, perhaps because memory or {_SHARED}, through "
            "which batches are handed over, ran out; try fewer data.workers"
        ) from error
    except OSError as error:
        if not workers or error.filename is not None or error.errno == errno.EMFILE:
            raise
        # Of semaphores and shared memory, which have no names here; nothing else is written.
        raise DataError(
            f"data.workers={workers}: {_SHARED}, through which the processes hand batches over, "
            f"cannot be used: {error.strerror}; {_REMEDY}"
        ) from error
    finally:
        batches.close()


def _start_worker(*_: int) -> None:
    end_with_parent()
    _one_thread_each()


def _one_thread_each() -> None:
    cv2.setNumThreads(0)  # grain's threads are the parallelism; OpenCV's would fight them
