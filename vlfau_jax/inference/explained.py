"""A face with its prediction and its maps: where the network looked, by unit and by word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlfau_jax.data.text.reading import Reader
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.metrics.statements import states

# The arrays of `outputs.OUTPUTS` that an explanation has besides those of a prediction.
MAP_OUTPUTS = ("spatial_maps", "local_attention", "global_attention")


@dataclass(frozen=True)
class WordMaps:
    """A generated sentence word by word.

    Attributes:
        words: t texts with the spaces between them; joined, the sentence.
        maps: float32 [t, h', w'], where the captioner looked as it wrote each word.
    """

    words: tuple[str, ...]
    maps: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """What a model says of a face, and where it looked.

    Attributes:
        prediction: scores and sentences.
        spatial_maps: float32 [n, h', w'], the spatial attention of each unit's branch (DAIR's s);
            None from a model without it.
        words: the local sentences word by word, n of them; None without such a captioner.
        global_words: the global sentence; None from a model that writes none.
        states: int8 [n], whether each unit's sentence states it on (1), off (0) or neither (-1);
            None without local sentences.
    """

    prediction: Prediction
    spatial_maps: np.ndarray | None = None
    words: tuple[WordMaps, ...] | None = None
    global_words: WordMaps | None = None
    states: np.ndarray | None = None

    @property
    def attention(self) -> np.ndarray | None:
        """The attention of each unit's sentence, averaged over its words, float32 [n, h', w']."""
        if self.words is None:
            return None
        return np.stack([mean_attention(one.maps) for one in self.words])


def mean_attention(maps: np.ndarray) -> np.ndarray:
    """The attention of a sentence's words [t, h, w] as one distribution [h, w]; 0 without any."""
    summed = maps.sum(0)
    return np.divide(summed, summed.sum(), out=np.zeros_like(summed), where=summed > 0)


def explanations(
    arrays: Mapping[str, np.ndarray],
    predictions: Sequence[Prediction],
    vocabulary: Vocabulary,
    reader: Reader,
) -> Iterator[Explanation]:
    """The explanations of b faces.

    Args:
        arrays: what the model gave, see `outputs.OUTPUTS`; each of the maps may be absent.
        predictions: decoded from the same arrays, b of them.
        vocabulary: of the tokens.
        reader: of the sentences.
    """
    maps = arrays.get("spatial_maps")
    for face, prediction in enumerate(predictions):
        yield Explanation(
            prediction,
            None if maps is None else maps[face],
            local_words(arrays, face, vocabulary),
            global_words(arrays, face, vocabulary),
            stated(prediction, reader),
        )


def local_words(
    arrays: Mapping[str, np.ndarray], face: int, vocabulary: Vocabulary
) -> tuple[WordMaps, ...] | None:
    """The sentences about the units of one face; None where the arrays hold none."""
    if not {"local_tokens", "local_attention"} <= arrays.keys():
        return None
    rows = zip(arrays["local_tokens"][face], arrays["local_attention"][face], strict=True)
    return tuple(_word_maps(tokens, maps, vocabulary) for tokens, maps in rows)


def global_words(
    arrays: Mapping[str, np.ndarray], face: int, vocabulary: Vocabulary
) -> WordMaps | None:
    """The sentence about one face; None where the arrays hold none."""
    if not {"global_tokens", "global_attention"} <= arrays.keys():
        return None
    return _word_maps(arrays["global_tokens"][face], arrays["global_attention"][face], vocabulary)


def stated(prediction: Prediction, reader: Reader) -> np.ndarray | None:
    """What the sentences about the units state, as `Explanation.states`."""
    if prediction.sentences is None:
        return None
    return states(prediction.aus, [prediction.sentences], reader)[0]


def _word_maps(tokens: np.ndarray, maps: np.ndarray, vocabulary: Vocabulary) -> WordMaps:
    """Tokens int32 [t] and their attention [t, h, w], without <end> and what follows it."""
    words = vocabulary.pieces(tokens)
    return WordMaps(words, maps[: len(words)])
