"""The regions of action units on the faces of a data set: exact on rendered faces, else a prior."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.pictures import Pictures
from vlfau_jax.regions import has_eye_positions, template


class FaceRegions:
    """Where each unit of a data set shows on each of its faces."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @property
    def exact(self) -> bool:
        """Whether all faces were rendered, and how is known."""
        return all(one.rendered_tree is not None for one in self._dataset.sets)

    @property
    def known(self) -> bool:
        """Whether there are regions at all: exact ones, or a prior of faces aligned by the eyes."""
        return self.exact or has_eye_positions(self._dataset.crop)

    def of(self, row: int) -> np.ndarray:
        """The regions on one face, bool [n, s, s] with s the pixels of the crop's side."""
        d = self._dataset
        if not self.exact:
            return self._templates
        labels = d.labels
        part, size = int(labels.part[row]), d.crop["size"]
        one = d.sets[part]
        position = row - int(np.searchsorted(labels.part, part))
        return one.rendered_tree.regions(
            d.subjects[labels.subject[row]],
            int(labels.task[row]),
            int(labels.frame[row]) + one.frame_offset,
            d.aus,
            self._pictures[part].alignment(position),
            size,
        )

    @cached_property
    def _pictures(self) -> list[Pictures]:
        return [one.source() for one in self._dataset.sets]

    @cached_property
    def _templates(self) -> np.ndarray:
        d = self._dataset
        return np.stack([template(au, d.crop["parameters"], d.crop["size"]) for au in d.aus])
