"""Prepared sets written from arrays, for tests of what reads them; noise pictures."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from vlfau_jax.data.set_record import Shard, seal
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS
from vlfau_jax.files import file_digest

CROP = {"name": "none", "version": 1, "parameters": {}, "size": 24, "digest": "0" * 16}
DISFA_CODED = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
CODED = {
    "bp4d": (BP4D_AUS, BP4D_AUS),
    "disfa": (DISFA_CODED, DISFA_AUS),
    "folder": ((4, 12, 26), (4, 12, 26)),
}


class _Written(tfds.dataset_builders.AdhocBuilder):
    """Its own `_split_generators` asks TensorFlow what it was given."""

    def _split_generators(self, dl_manager):
        return {split: enumerate(examples) for split, examples in self._split_datasets.items()}


@dataclass
class Person:
    """Who, and the codes [f, n] of their frames; a code list left out is -1 everywhere."""

    name: str
    frames: Sequence[int]
    occurrence: np.ndarray | None = None
    intensity: np.ndarray | None = None
    task: int = 1
    sex: str = ""
    fold: int = 0

    def codes(self, key: str, units: int) -> np.ndarray:
        given = getattr(self, key)
        shape = (len(self.frames), units)
        return np.full(shape, -1, np.int8) if given is None else np.asarray(given, np.int8)


def coded(
    rng: np.random.Generator, name: str, subjects: Sequence[str], frames: int, **facts
) -> list[Person]:
    """People with random codes: intensities for DISFA, occurrence otherwise."""
    shape = (frames, len(CODED[name][0]))
    people = []
    for subject in subjects:
        if name == "disfa":
            codes = {"intensity": rng.integers(0, 6, shape)}
        else:
            codes = {"occurrence": rng.integers(0, 2, shape)}
        people.append(Person(subject, range(1, frames + 1), **codes, **facts))
    return people


def picture(person: int, frame: int, side: int) -> bytes:
    """The JPEG of a frame of a set's person, counted by name: noise, so that no two are alike."""
    noise = np.random.default_rng([person, frame]).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def write_set(
    data_dir: Path,
    name: str,
    people: Sequence[Person],
    *,
    variant: str = "none_24",
    crop: dict = CROP,
    **metadata,
) -> Path:
    """Writes a set as `prepare` does and returns its folder."""
    aus, benchmark = CODED[name]
    n, side = len(aus), crop["size"]
    people = sorted(people, key=lambda person: person.name)
    rows = {"subject": [], "task": [], "frame": [], "occurrence": [], "intensity": []}
    examples = {}
    for i, person in enumerate(people):
        occurrence, intensity = (person.codes(key, n) for key in ("occurrence", "intensity"))
        examples[person.name] = []
        for k, frame in enumerate(person.frames):
            row = {
                "task": np.int32(person.task),
                "frame": np.int32(frame),
                "occurrence": occurrence[k],
                "intensity": intensity[k],
            }
            for key, value in {**row, "subject": np.int32(i)}.items():
                rows[key].append(value)
            examples[person.name].append(
                row
                | {
                    "image": picture(i, frame, side),
                    "subject": person.name,
                    "sex": person.sex,
                    "source": f"{person.name}/{frame}.jpg",
                }
            )
    builder = _Written(
        name=name,
        version="2.0.0",
        config=variant,
        data_dir=str(data_dir),
        file_format="array_record",
        disable_shuffling=True,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(side, side, 3), dtype=np.uint8, encoding_format="jpeg"
                ),
                "occurrence": tfds.features.Tensor(shape=(n,), dtype=np.int8),
                "intensity": tfds.features.Tensor(shape=(n,), dtype=np.int8),
                "subject": tfds.features.Text(),
                "task": tfds.features.Scalar(dtype=np.int32),
                "frame": tfds.features.Scalar(dtype=np.int32),
                "sex": tfds.features.Text(),
                "source": tfds.features.Text(),
            }
        ),
        split_datasets=examples,
    )
    tfds.disable_progress_bar()
    with redirect_stdout(io.StringIO()):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                compute_stats=tfds.download.ComputeStatsMode.SKIP
            )
        )
    folder = Path(str(builder.data_path))
    values = {
        "aus": aus,
        "benchmark": benchmark,
        "crop": crop,
        "synthetic": True,
        "layout": "folder" if name == "folder" else "raw",
        "camera": "left" if name == "disfa" else "",
        "frame_offset": 0,
        "tasks": sorted({person.task for person in people}),
        "subjects": {
            p.name: {"frames": len(p.frames), "sex": p.sex, "fold": p.fold} for p in people
        },
    }
    (folder / "metadata.json").write_text(json.dumps(values | metadata))
    types = {"occurrence": np.int8, "intensity": np.int8}
    arrays = {
        key: np.array(values, types.get(key, np.int32)).reshape(-1, *(n,) * (key in types))
        for key, values in rows.items()
    }
    np.savez(folder / "labels.npz", **arrays)
    reseal(folder)
    return folder


def reseal(folder: Path) -> None:
    """Writes the digests of a set's files as they are now."""
    shards: dict[str, list[Shard]] = {}
    for path in sorted(folder.glob("*.array_record-*")):
        reader = ArrayRecordReader(str(path))
        shard = Shard(
            file=path.name,
            examples=reader.num_records(),
            size=path.stat().st_size,
            sha256=file_digest(path),
        )
        reader.close()
        shards.setdefault(path.name.partition("-")[2].partition(".")[0], []).append(shard)
    seal(folder, shards)
