"""Measure the throughput of an experiment's data pipeline and the time of each of its stages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from vlfau_jax.account.result_file import reported
from vlfau_jax.account.timing import check_seconds
from vlfau_jax.data.read.pipeline import Faces
from vlfau_jax.data.read.transforms import augment
from vlfau_jax.train.experiment import ExperimentData, Settings, open_data
from vlfau_jax.train.memory import check_pictures

SAMPLE, BATCH = 512, 32  # images whose stages are timed, and how many of them at a time
STAGES = ("read", "decode", "augment", "label")


def benchmark_data(
    settings: Settings,
    *,
    seconds: float = 10.0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measures the training stream of an experiment and prints the result.

    Args:
        settings: the experiment: its threads, workers, sizes and augmentation are what is measured.
            Its model and mesh are not read.
        seconds: how long the stream is read, after its queues have been filled.
        out: a JSON file for the numbers, if any.
        overwrite: replace `out` where it exists.

    Returns:
        `images_per_second` of the stream and its `cpu_ms_per_image` (None with worker processes,
        whose CPU time is not this process's); `stage_ms`, the CPU time of each stage for one image
        in one thread, and `rest_ms`, what the stream takes besides, for grain and its queues (None
        where `cpu_ms_per_image` is); `bound_images_per_second`, the most that all cores could do
        according to the sum of both; `plain_decode_images_per_second`, libjpeg-turbo with the same
        images in one thread, and `ratio_to_plain_decode`; `floor_images_per_second`, that of all
        cores, which no pipeline exceeds that reads JPEG, and `ratio_to_floor`; and what was
        measured.

    Raises:
        UserError: data that cannot be trained on, `seconds` out of range, or an `out` that is
            unusable, exists or is being written by another process.
    """
    check_seconds(seconds)
    check_pictures(settings.train.batch_size, settings.data.image_size)
    return reported(lambda: _measure(open_data(settings), seconds), _format, out, overwrite)


def _measure(opened: ExperimentData, seconds: float) -> dict[str, Any]:
    settings = opened.settings
    stages, plain = _stages(opened)
    images, elapsed, cpu = _stream(opened, seconds)
    data, cores = settings.data, os.cpu_count() or 1
    in_stages = sum(stages.values())
    each = None if data.workers else 1e3 * cpu / images
    rest = None if each is None else max(0.0, each - in_stages)
    return {
        "images_per_second": images / elapsed,
        "cpu_ms_per_image": each,
        "stage_ms": stages,
        "rest_ms": rest,
        "bound_images_per_second": cores * 1e3 / (in_stages + (rest or 0)),
        "plain_decode_images_per_second": 1e3 / plain,
        "ratio_to_plain_decode": images / elapsed * plain / 1e3,
        "floor_images_per_second": cores * 1e3 / plain,
        "ratio_to_floor": images / elapsed * plain / 1e3 / cores,
        "seconds": elapsed,
        "images": images,
        "cores": cores,
        "threads": data.threads,
        "workers": data.workers,
        "batch_size": settings.train.batch_size,
        "image_size": data.image_size,
        "crop_size": opened.dataset.crop["size"],
        "dataset": opened.dataset.name,
        "faces": len(opened.training_rows),
        "synthetic": opened.dataset.synthetic,
        "augmentation": {
            key: getattr(data, key) for key in ("min_area", "max_area", "flip", "jitter", "erasing")
        },
    }


def _stream(opened: ExperimentData, seconds: float) -> tuple[int, float, float]:
    """Images, seconds and this process's CPU seconds of the stream as `train` would read it."""
    settings = opened.settings
    data, size = settings.data, settings.train.batch_size
    # Batches that threads and processes have prefetched must not count.
    ready = max(1, data.workers) * (data.threads + 4)
    with closing(opened.training_batches()) as stream:
        for _ in range(ready):
            next(stream)
        images, begin, cpu = 0, time.perf_counter(), time.process_time()
        while (elapsed := time.perf_counter() - begin) < seconds:
            next(stream)
            images += size
        return images, elapsed, time.process_time() - cpu


def _stages(opened: ExperimentData) -> tuple[dict[str, float], float]:
    """CPU milliseconds of each stage for one image, and of a plain decode, in this thread alone."""
    settings = opened.settings
    faces = Faces(opened.dataset, opened.captions, settings.data)
    rng, size = np.random.default_rng(settings.seed), settings.data.image_size
    batches = rng.choice(opened.training_rows, (1 + SAMPLE // BATCH, BATCH))
    spent = dict.fromkeys((*STAGES, "plain"), 0.0)
    cv2.setNumThreads(0)
    for k, positions in enumerate(batches):
        if k == 1:  # the first batch opens files and fills caches, and is not counted
            spent = dict.fromkeys(spent, 0.0)
        with _clock(spent, "read"):
            examples = [faces.read(p) for p in positions]
        rows, memory = np.empty((BATCH, size, size, 3), np.uint8), faces.memory()
        for p, example, row in zip(positions, examples, rows, strict=True):
            with _clock(spent, "decode"):
                image = faces.decode(p, example, memory)
            with _clock(spent, "augment"):
                augment(image, faces.draw(p, rng)[1], row)
        with _clock(spent, "label"):
            faces.label(positions)
        with _clock(spent, "plain"):
            for example in examples:
                simplejpeg.decode_jpeg(example["image"], "RGB")
    each = {stage: 1e3 * used / (SAMPLE // BATCH * BATCH) for stage, used in spent.items()}
    plain = each.pop("plain")
    return each, plain


@contextmanager
def _clock(spent: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.process_time()
    yield
    spent[stage] += time.process_time() - begin


def _format(found: Mapping[str, Any]) -> str:
    stages, rest = found["stage_ms"], found["rest_ms"]
    parts = stages if rest is None else {**stages, "grain and queues": rest}
    synthetic = " (synthetic)" if found["synthetic"] else ""
    effects = ", ".join(f"{key} {value}" for key, value in found["augmentation"].items())
    cpu = found["cpu_ms_per_image"]
    return "\n".join(
        [
            f"{found['dataset']}{synthetic}: {found['faces']} training faces, {found['crop_size']} "
            f"to {found['image_size']} pixels; {effects}",
            f"batches of {found['batch_size']} from {found['threads']} threads and "
            f"{found['workers']} worker processes on {found['cores']} cores: "
            f"{found['images_per_second']:.0f} images/s over {found['seconds']:.1f} s"
            + (f", {cpu:.3f} ms of CPU each" if cpu else ""),
            "CPU ms of one image: "
            + ", ".join(f"{part} {ms:.3f}" for part, ms in parts.items())
            + f"; {sum(parts.values()):.3f} in all, so at most "
            f"{found['bound_images_per_second']:.0f} images/s on all cores",
            f"libjpeg-turbo decodes the same images in one thread at "
            f"{found['plain_decode_images_per_second']:.0f} images/s; the pipeline reaches "
            f"{found['ratio_to_plain_decode']:.2f} of that, and {found['ratio_to_floor']:.2f} of "
            f"its floor, decoding alone on all cores",
        ]
    )
