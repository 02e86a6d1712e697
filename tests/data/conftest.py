"""A tiny raw BP4D tree of noise pictures, written cell by cell, and a tiny prepared set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.sets import CROP, coded, write_set
from tests.data.tree_writers import write_bp4d
from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.facs import BP4D_AUS


@pytest.fixture
def write_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes a clean tree with the given subjects, tasks T1 and T2, frames 8 to 12 of each."""

    def write(subjects: tuple[str, ...] = ("F001", "M003"), name: str = "raw") -> Path:
        return write_bp4d(tmp_path / name, subjects)

    return write


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A prepared set of three subjects, 5 frames each, whose 64-pixel crops tell frames apart."""
    folder = tmp_path_factory.mktemp("set")
    people = coded(np.random.default_rng(2), "bp4d", ("F001", "F004", "M003"), 5, task=6)
    people[2].occurrence[1, BP4D_AUS.index(14)] = -1
    write_set(folder, "bp4d", people, variant="none_64", crop=CROP | {"size": 64})
    return open_dataset(DataOptions(data_dir=str(folder)))
