"""Parameters that were trained for some units and words, arranged for a network with others.

A branch is taken by the number of its unit, and what is learned of a word by the word. A unit that
the file does not have begins from the mean of the file's units: what they learned of faces is
worth more than a random start, and none of them is nearer than another. A word that it does not
have keeps its random start, for a mean of words would make all new words the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from vlfau_jax.data.read.batch import Spec
from vlfau_jax.data.text.vocabulary import SPECIAL_TOKENS
from vlfau_jax.errors import UserError
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.train.provenance import Learned
from vlfau_jax.train.state import abstract_params, initial_params, stream
from vlfau_jax.train.tensor_files import listed

_UNITS, _WORDS = "au", "vocab"  # logical axes, see model/axes.py
_NEW = -1


@dataclass(frozen=True)
class Arrangement:
    """How parameters of other units or words become those of a network.

    Attributes:
        learned: the units and words that the parameters were trained for.
        rows: for the axes "au" and "vocab" of the network, where each of its units and words
            stands among `learned`; -1 where it does not.
        axes: the logical axes of the network's parameters that have one of these two.
        random: of those with words, the parameters that training would begin from, where a word is
            new.
        lines: what is taken and what fills the rest, for people.
    """

    learned: Learned
    rows: Mapping[str, np.ndarray]
    axes: Mapping[str, tuple[str, ...]]
    random: Mapping[str, np.ndarray]
    lines: tuple[str, ...]

    def shape_in_file(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the network's parameter `name` of `shape` has for `learned`."""
        counts = {_UNITS: len(self.learned.aus), _WORDS: len(self.learned.words)}
        if name not in self.axes:
            return shape
        return tuple(counts.get(a, n) for a, n in zip(self.axes[name], shape, strict=True))

    def arranged(self, name: str, values: np.ndarray) -> np.ndarray:
        """The network's parameter `name`, float32, from that of the file."""
        axes = self.axes.get(name, ())
        if _UNITS in axes:
            axis, rows = axes.index(_UNITS), self.rows[_UNITS]
            values = values.astype(np.float32)
            mean = values.mean(axis, keepdims=True)
            values = np.where(
                _along(rows == _NEW, axis, values.ndim), mean, _taken(values, rows, axis)
            )
        if _WORDS in axes:
            axis, rows = axes.index(_WORDS), self.rows[_WORDS]
            values = _taken(values.astype(np.float32), rows, axis)
            if name in self.random:
                new = _along(rows == _NEW, axis, values.ndim)
                values = np.where(new, self.random[name], values)
        return values


def arrangement(
    source: str, learned: Learned, model: VLFAU, spec: Spec, wanted: Learned, seed: int
) -> Arrangement | None:
    """How parameters of `learned` units and words become those of `model`; None if they are so.

    Args:
        source: the option and the file, for messages.
        learned: what the file was trained for.
        model: the network.
        spec: of its batches.
        wanted: the network's units and words, in order.
        seed: of the experiment, from which new words' parameters are drawn as without a file.

    Raises:
        UserError: no unit of the network is among those of the file.
    """
    if learned == wanted:
        return None
    if not set(learned.aus) & set(wanted.aus):
        raise UserError(
            f"{source} was trained for other action units, {_numbers(learned.aus)}; the network "
            f"has {_numbers(wanted.aus)}; start without it: train.warm_start= (for the demo, "
            "configs/demo.py:scratch)"
        )
    rows = {_UNITS: _rows(learned.aus, wanted.aus), _WORDS: _rows(learned.words, wanted.words)}
    boxed = abstract_params(model, spec)
    axes = {
        name: leaf.names
        for name, leaf in flatten_dict(boxed, sep="/").items()
        if isinstance(leaf, nn.Partitioned) and {_UNITS, _WORDS} & set(leaf.names)
    }
    wordy = [name for name in axes if _WORDS in axes[name]] if _NEW in rows[_WORDS] else []
    return Arrangement(
        learned=learned,
        rows=rows,
        axes=axes,
        random=_random(model, spec, seed, wordy),
        lines=(*_of_units(learned.aus, wanted.aus), *_of_words(learned.words, wanted.words)),
    )


def _rows(learned: Sequence[Any], wanted: Sequence[Any]) -> np.ndarray:
    places = {one: place for place, one in enumerate(learned)}
    return np.array([places.get(one, _NEW) for one in wanted])


def _taken(values: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
    """The rows of `values`; any for those that are new."""
    return np.take(values, np.maximum(rows, 0), axis)


def _along(values: np.ndarray, axis: int, dimensions: int) -> np.ndarray:
    return values.reshape([-1 if k == axis else 1 for k in range(dimensions)])


def _random(model: VLFAU, spec: Spec, seed: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The parameters of these names that training without a file begins from."""
    if not names:
        return {}

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        drawn = flatten_dict(nn.meta.unbox(initial_params(model, spec, key)), sep="/")
        return {name: drawn[name] for name in names}

    return jax.device_get(jax.jit(draw)(stream(seed, "params", 0)))


def _of_units(learned: Sequence[int], wanted: Sequence[int]) -> list[str]:
    if tuple(learned) == tuple(wanted):
        return []
    both = [au for au in wanted if au in learned]
    new = [au for au in wanted if au not in learned]
    left = [au for au in learned if au not in wanted]
    lines = [f"{_numbers(both)} are taken by number"]
    if new:
        lines.append(f"{_numbers(new)} are new and begin from the mean of its {len(learned)} units")
    if left:
        lines.append(f"{_numbers(left)} of the file are left out")
    return lines


def _of_words(learned: Sequence[str], wanted: Sequence[str]) -> list[str]:
    if tuple(learned) == tuple(wanted):
        return []
    known, own = set(learned), set(wanted)
    both = len((own & known) - {*SPECIAL_TOKENS})
    lines = [f"{both} words are taken by the word, and {', '.join(SPECIAL_TOKENS)}"]
    if new := [word for word in wanted if word not in known]:
        lines.append(f"{len(new)} words are new and begin at random: {listed(new, ', ')}")
    if left := [word for word in learned if word not in own]:
        lines.append(f"{len(left)} words of the file are left out: {listed(left, ', ')}")
    return lines


def _numbers(aus: Sequence[int]) -> str:
    return f"AU {', '.join(map(str, aus))}"
