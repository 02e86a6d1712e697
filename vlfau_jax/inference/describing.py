"""Describes the faces that were found, a batch at a time, and decides which get sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.picture_result import PictureResult
from vlfau_jax.inference.predict_options import Captions
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.inference.shots import Portrait


class Described(NamedTuple):
    """A face and what the model says of it.

    Attributes:
        portrait: the face.
        result: the prediction, or why there is none.
        maps: float32 [n, h, w], where each unit's branch looks; None unless asked for.
    """

    portrait: Portrait
    result: PictureResult
    maps: np.ndarray | None


class Describer:
    """Describes faces with a model, batch by batch.

    Attributes:
        said: in the video under way, person -> the units that were active when there was last a
            sentence about that person.
    """

    def __init__(
        self,
        model: ExportedModel,
        captions: Captions = "always",
        keep_doubtful: bool = False,
        maps: bool = False,
        said: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        """Stores what to do.

        Args:
            model: the model.
            captions: which faces get sentences; with "changes" those of pictures, and in videos
                those of a person whose active units are not those of the last sentence.
            keep_doubtful: describe doubtful faces, too.
            maps: give maps.
            said: see the attribute; of a run that goes on.
        """
        self._model, self._captions, self._maps = model, captions, maps
        self._keep_doubtful = keep_doubtful
        self.said: dict[int, tuple[int, ...]] = dict(said or {})
        self._source = -1 if said is None else None  # None: that of the first face

    def batches(self, portraits: Iterable[Portrait]) -> Iterator[list[Portrait]]:
        """The faces in the groups that one run of the program describes."""
        iterator = iter(portraits)
        while group := list(islice(iterator, self._model.batch_size)):
            yield group

    def describe(self, group: list[Portrait]) -> list[Described]:
        """Results for a batch of faces, in their order."""
        good = [
            one.face.crop is not None and (one.face.reason is None or self._keep_doubtful)
            for one in group
        ]
        chosen = [one for one, is_good in zip(group, good, strict=True) if is_good]
        predictions, maps = self._predict(chosen) if chosen else ([], None)
        found = iter(zip(predictions, [None] * len(chosen) if maps is None else maps, strict=True))
        described = []
        for one, is_good in zip(group, good, strict=True):
            prediction, its_maps = next(found) if is_good else (None, None)
            result = PictureResult.of(one.face, prediction)
            described.append(Described(one, result, its_maps))
        return described

    def _predict(self, group: list[Portrait]) -> tuple[list[Prediction], np.ndarray | None]:
        faces = np.stack([one.face.crop for one in group])
        if self._captions == "always" and not self._maps:
            return self._model.describe(faces), None
        always = self._captions == "always"
        predictions, maps = self._model.describe_units(faces, always, self._maps)
        if self._captions == "changes" and self._model.captions:
            changed = [k for k, one in enumerate(group) if self._is_new(one, predictions[k])]
            told = self._model.describe(faces[changed], self._model.few) if changed else []
            for k, full in zip(changed, told, strict=True):
                # The same numbers whether there are sentences or not.
                mine = predictions[k]
                predictions[k] = replace(full, probabilities=mine.probabilities, active=mine.active)
        return predictions, maps

    def _is_new(self, portrait: Portrait, prediction: Prediction) -> bool:
        if not portrait.shot.source.video:
            return True
        if self._source != portrait.shot.index:
            if self._source is not None:
                self.said.clear()
            self._source = portrait.shot.index
        active = tuple(au for au, on in zip(prediction.aus, prediction.active, strict=True) if on)
        before = self.said.get(portrait.person)
        self.said[portrait.person] = active
        return active != before
