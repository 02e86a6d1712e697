"""A model that is quick and known, in the place of an exported one."""

import threading

import numpy as np

from tests.report.examples import face
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.facs import DISFA_AUS
from vlfau_jax.inference.explained import Explanation
from vlfau_jax.inference.faces import FoundFace

ALL_ON = np.ones(8, bool)


class KnownModel:
    """What the server needs of an ExportedModel: a bright picture is a face, whose units are on.

    A picture that is three times as wide as high, or wider, shows as many faces side by side.

    Attributes:
        gate: runs wait for it.
        entered: how many runs have begun.
    """

    aus, thresholds, untaught = DISFA_AUS, (0.5,) * 8, {8: "never active"}
    captions, image_size, batch_size = ("local", "global"), 32, 4
    synthetic, ships, digest = True, False, "0" * 64
    crop_rule, reader, trained_on = crop_rule("cascade", 64), Reader(), {}

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.explanation = face([1] * 8, stated=ALL_ON)

    def look_all(
        self,
        picture,
        path="",
        root="",
        limits=None,
        *,
        finder,
        faces="all",
        turn=True,
        most=None,
        known=None,
    ):
        if picture.mean() < 10:
            detail = "none of 40 pixels or more"
            return [FoundFace(None, "no face", detail, finder=finder.name)]
        height, width = picture.shape[:2]
        count = width // height if width >= 3 * height else 1
        parts = np.array_split(picture, count, 1)[: 1 if faces == "largest" else most]
        side = width / count
        return [
            FoundFace(
                np.ascontiguousarray(resize(one, 32)),
                None,
                "",
                0.75,
                count,
                (k * side, 0.0, side, float(height)),
                finder=finder.name,
            )
            for k, one in enumerate(parts)
        ]

    def describe(self, crops):
        return [self.explanation.prediction] * len(crops)

    def explain(self, crops):
        self.entered.release()
        self.gate.wait(60)
        one = self.explanation
        parts = (one.prediction, one.spatial_maps, one.words, one.global_words, one.states)
        return [Explanation(*parts) for _ in crops]
