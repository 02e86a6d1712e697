"""Sets that tests prepare from tiny raw trees, and what is in their folders."""

from pathlib import Path

from vlfau_jax.data.prepare.prepare import prepare

IMAGES = "Sequences(2D+3D)"
OPTIONS = {"crop": "none", "crop_size": 32}


def build(raw: Path, out: Path, dataset: str = "bp4d", **options) -> Path:
    prepare(dataset, raw, out, **{"workers": 0, **OPTIONS, **options})
    return next((out / dataset).glob("none_32*/2.0.0"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def staged(folder: Path) -> dict[str, int]:
    """Times of the finished shards in the staging folder."""
    work = folder.with_name("incomplete.2.0.0") / "shards"
    return {path.stem: path.stat().st_mtime_ns for path in work.glob("*.array_record")}
