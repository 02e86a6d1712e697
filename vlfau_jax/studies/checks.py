"""Whether the cells of a study can be built and trained, before any of them is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.errors import UserError
from vlfau_jax.studies.cell import Cell
from vlfau_jax.train.experiment import Settings, build_experiment, open_data
from vlfau_jax.train.start import initial_params

T = TypeVar("T")


def folds_of(settings: Settings) -> tuple[int, ...]:
    """The numbers of all folds that the data of an experiment have."""
    dataset = open_dataset(settings.data)
    numbers = {
        fold
        for one in dataset.sets
        for fold in dataset.folds.sides(one.data_set, one.subjects, one.stated_folds)
    }
    return tuple(sorted(numbers))


def tested_people(dataset: Dataset) -> tuple[str, ...]:
    """The subjects of whom there is a frame to test, sorted."""
    return tuple(s for s in dataset.subjects if len(dataset.rows([s])))


def check_built(cells: Iterable[Cell]) -> None:
    """Builds each cell without computing anything: network, shardings, initial files, people.

    Raises:
        UserError: one cannot be built; it names the cell.
    """
    for cell in cells:
        _checked(cell, lambda cell=cell: initial_params(build_experiment(cell.settings)))


def check_data(cells: Iterable[Cell]) -> None:
    """Opens the data of each cell, which is quicker than building it.

    Raises:
        UserError: a fold tests nobody or leaves nobody to train on; it names the cell.
    """
    for cell in cells:
        split = _checked(cell, lambda cell=cell: open_data(cell.settings).split)
        if not split.test:
            raise UserError(
                f"{cell.title}: data.fold={cell.settings.data.fold} tests nobody; "
                "give folds from 1 on"
            )


def _checked(cell: Cell, build: Callable[[], T]) -> T:
    try:
        return build()
    except UserError as error:
        raise UserError(f"{cell.title} cannot be trained: {error}") from error


def check_asked(kind: str, asked: Sequence[Any], there: Sequence[Any]) -> None:
    """Raises UserError for the first of the `asked` values of a flag that the study lacks."""
    for one in asked:
        if one not in there:
            listed = ", ".join(map(str, there[:20])) + (", ..." if len(there) > 20 else "")
            raise UserError(f"--{kind}={one}: the study has {listed}")
