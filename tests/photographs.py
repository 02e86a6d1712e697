"""Photographs that come with scikit-image, read from its package without importing that."""

import importlib.util
from pathlib import Path


def photograph(name: str) -> Path:
    """A file of scikit-image's: astronaut, a woman's portrait; coffee, a cup; chelsea, a cat."""
    package = importlib.util.find_spec("skimage")
    return Path(package.origin).parent / "data" / f"{name}.png"
