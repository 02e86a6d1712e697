"""The prediction for one face, and how it is decoded from the arrays that a model gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from vlfau_jax.data.crop.registry import table_rules
from vlfau_jax.data.raw.decoding import FORMATS, MOST_PIXELS
from vlfau_jax.data.raw.unreadable import Loss
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import RunError
from vlfau_jax.files import PICTURE_LIMIT
from vlfau_jax.metrics.au import is_active

DropReason = Literal[
    "no face",
    "unreadable",
    "incomplete",
    "too large",
    "not in the table",
    "not upright",
    "too small",
    "low confidence",
    "low contrast",
    "blurred",
    "drawn",
]

# Why a picture has no prediction; the meanings are for the descriptions of the columns.
DROP_REASONS: dict[DropReason, str] = {
    "no face": "the crop rule finds no face in the picture; `detail` says from which size it looks "
    "for one",
    "unreadable": f"the file cannot be read, or is no whole {FORMATS}",
    "incomplete": "a JPEG that ends well but has lost part of its scan data",
    "too large": f"more than {MOST_PIXELS // 10**6} megapixels, {PICTURE_LIMIT >> 20} MB or the "
    "scans that are read of a JPEG",
    "not in the table": f"the table of the crop rule ({', '.join(table_rules())}) has no row for "
    "the picture",
    "not upright": "turned, the picture shows a face that the finder is surer of",
    "too small": "the face has fewer pixels than --min_face_pixels",
    "low confidence": "the finder's confidence is below --min_confidence",
    "low contrast": "the face is too dark, too bright or too even: below --min_contrast",
    "blurred": "the face is less sharp than --min_sharpness",
    "drawn": "more of the face than --max_flat is flat, as in a drawing",
}
LOSSES: dict[Loss, DropReason] = {
    "image_unreadable": "unreadable",
    "image_incomplete": "incomplete",
    "image_too_large": "too large",
}

# The arrays that a prediction is decoded from; a model without a captioner lacks that one's two.
DECODED_ARRAYS = (
    "au_probabilities",
    "local_tokens",
    "local_scores",
    "global_tokens",
    "global_scores",
)
_NUMBERS = ("au_probabilities", "local_scores", "global_scores")


def check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Checks the numbers that a model gave for some faces; each array's first axis is theirs.

    A comparison with NaN is false, so that a threshold would make an absence of it.

    Raises:
        RunError: a number is not finite, or a probability not in 0-1.
    """
    for name, values in arrays.items():
        good = np.isfinite(values)
        if name == "au_probabilities":
            good &= (values >= 0) & (values <= 1)
        if not good.all():
            faces = (~good).reshape(len(good), -1).any(1)
            raise RunError(
                f"the model gave no usable {name} for {faces.sum()} of {len(faces)} faces, such as "
                f"{values[~good][0]}: its weights are damaged or its training diverged; use "
                "another checkpoint or model"
            )


UNIT_KEYS = ("probability", "active", "sentence", "sentence_probability")


@dataclass(frozen=True)
class Prediction:
    """Scores and sentences of one face, in the order of `aus`.

    Attributes:
        aus: the units' numbers, n of them.
        probabilities: float [n], 0-1.
        active: bool [n], whether each probability exceeds its unit's threshold.
        sentences: n local descriptions, as generated; None from a model that writes none.
        sentence: the global description, as generated; None from a model that writes none.
        sentence_probabilities: float [n], 0-1, of `sentences`: exp of the mean log-probability of
            a sentence's words, <end> counted, which is their geometric mean probability. It
            measures how sure the captioner is of its words, not whether they are true. None without
            sentences and from a folder exported before programs gave it.
        sentence_probability: the same of `sentence`.
        untaught: the units that training could not teach (`Trained.untaught`): all of theirs above
            is noise, and null in files.
    """

    aus: tuple[int, ...]
    probabilities: np.ndarray
    active: np.ndarray
    sentences: tuple[str, ...] | None
    sentence: str | None
    sentence_probabilities: np.ndarray | None = None
    sentence_probability: float | None = None
    untaught: frozenset[int] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The record of a line of predictions.jsonl, without the keys that identify the face.

        {"sentence", "sentence_probability", "per_au": {"1": {"probability", "active", "sentence",
        "sentence_probability"}, ...}}; what the model does not give is None, as is all of a
        unit that it was not taught.
        """
        none = (None,) * len(self.aus)
        sentences = self.sentences or none
        means = none if self.sentence_probabilities is None else self.sentence_probabilities
        per_au = {
            str(au): dict.fromkeys(UNIT_KEYS)
            if au in self.untaught
            else {
                "probability": _rounded(probability),
                "active": bool(active),
                "sentence": sentence,
                "sentence_probability": _rounded(mean),
            }
            for au, probability, active, sentence, mean in zip(
                self.aus, self.probabilities, self.active, sentences, means, strict=True
            )
        }
        return {
            "sentence": self.sentence,
            "sentence_probability": _rounded(self.sentence_probability),
            "per_au": per_au,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


class PredictionDecoder:
    """Turns the arrays that a model gives into predictions, for one order of action units."""

    def __init__(
        self,
        aus: Sequence[int],
        thresholds: Sequence[float],
        vocabulary: Vocabulary,
        untaught: Collection[int] = (),
    ) -> None:
        self.aus = tuple(aus)
        self.thresholds = tuple(thresholds)
        self.untaught = frozenset(untaught)

        @lru_cache(maxsize=65536)  # a trained captioner repeats a small number of sentences
        def text(row: bytes) -> str:
            return vocabulary.decode(np.frombuffer(row, np.int32))

        self._text: Callable[[bytes], str] = text

    def decode(self, arrays: Mapping[str, np.ndarray]) -> Iterator[Prediction]:
        """One prediction per face, from the `DECODED_ARRAYS` that the model gave.

        Args:
            arrays: au_probabilities float [b, n]; local_tokens int32 [b, n, t], local_scores float
                [b, n], global_tokens int32 [b, t'] and global_scores float [b], each of which may
                be absent.

        Raises:
            RunError: they hold numbers that are no answer, see `check_finite`.
        """
        check_finite({name: arrays[name] for name in _NUMBERS if name in arrays})
        none = [None] * len(arrays["au_probabilities"])
        active = is_active(arrays["au_probabilities"], self.thresholds)
        rows = (arrays.get(name, none) for name in DECODED_ARRAYS)
        for present, probabilities, local, local_score, whole, whole_score in zip(
            active, *rows, strict=True
        ):
            yield Prediction(
                self.aus,
                probabilities,
                present,
                None if local is None else tuple(map(self._sentence, local)),
                None if whole is None else self._sentence(whole),
                None if local_score is None else np.exp(local_score),
                None if whole_score is None else float(np.exp(whole_score)),
                self.untaught,
            )

    def _sentence(self, tokens: np.ndarray) -> str:
        return self._text(np.asarray(tokens, np.int32).tobytes())
