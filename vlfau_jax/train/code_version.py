"""Which code made a result: the version of the package, and a digest of what decides scores."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from vlfau_jax import __version__

# Rooms and files that decide what is trained and how it is scored. Others show, launch, measure.
DECIDING = (
    "facs.py",
    "regions.py",
    "data",
    "model",
    "losses",
    "metrics",
    "sharding",
    "train",
    "inference",
    "evaluation",
)


@cache
def code_version() -> str:
    """The version and a digest over the sources of `DECIDING`: "0.1.0 (sources 5c9a4f0e7d12)".

    A changed comment gives another digest, too: whether a change matters is for people to judge.
    """
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for name in DECIDING:
        place = package / name
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for path in files:
            digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{__version__} (sources {digest.hexdigest()[:12]})"
