"""An experiment's program without a data set, and batches: random pictures, real sentences."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from vlfau_jax.data.read.batch import Batch
from vlfau_jax.data.sets import data_set
from vlfau_jax.data.text.descriptions import NOUNS
from vlfau_jax.train.experiment import Program, Settings, published_program
from vlfau_jax.train.memory import check_pictures, check_state

_RATE = 33.0  # per cent of active labels, where none is published: the mean of BP4D's


class Synthetic(NamedTuple):
    """A program, and how often each of its units is active, float [n]."""

    program: Program
    rates: np.ndarray

    @property
    def max_words(self) -> tuple[int, int]:
        """The most words of a local and of the global sentence, without <start> and <end>."""
        captions = self.program.captions
        return captions.max_local_tokens - 2, captions.max_global_tokens - 2

    def batch(self, rng: np.random.Generator) -> Batch:
        """Random pixels and labels, all known, with the sentences that training has for them."""
        shape, pixels = self.program.spec["au"][0], self.program.spec["image"][0]
        captions = self.program.captions
        au, known = rng.random(shape) < self.rates, np.ones(shape, bool)
        nouns = rng.choice(NOUNS, len(au))
        return {
            "image": rng.integers(0, 256, pixels, np.uint8),
            "au": au.astype(np.float32),
            "au_known": known,
            "local_tokens": captions.local_tokens(au, known),
            "global_tokens": captions.global_tokens(au, known, nouns.tolist(), known),
            "valid": np.ones(len(au), bool),
            "key": np.zeros((len(au), 3), np.int32),
            "view": np.tile(np.array([0.0, 0.0, 1.0], np.float32), (len(au), 1)),
        }


def synthetic(settings: Settings) -> Synthetic:
    """The program of an experiment on JAX's devices, for the units that its data set publishes.

    Of `settings.data`, only `image_size`, `name`, `aus` and `descriptions` are read. Raises
    UserError for options that do not fit each other or the devices.
    """
    check_pictures(settings.train.batch_size, settings.data.image_size)
    program = published_program(settings, jax.devices())
    check_state(program.abstract)
    rates: dict[int, float] = {}
    for name in settings.data.name.split("+"):
        rates |= data_set(name, "data.name").published.rates
    share = np.array([rates.get(unit, _RATE) for unit in program.captions.aus]) / 100
    return Synthetic(program, share)
