"""One face's answer, and how it is written down: the same for evaluation and for prediction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vlfau_jax.data.crop.registry import table_rules
from vlfau_jax.data.raw.frames import MOST_PIXELS
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.facs import ACTION_UNITS

# Why a picture has no prediction; the second words are for the notes on the columns.
DROP_REASONS = {
    "no face": "the crop rule finds no face in the picture",
    "unreadable": "the file cannot be read, or is no whole JPEG, PNG, BMP, TIFF, WebP or PPM of at "
    f"most {MOST_PIXELS // 10**6} megapixels",
    "not in the table": f"the table of the crop rule ({', '.join(table_rules())}) has no row for "
    "the picture",
}

# The arrays that a prediction is read from; a model without a captioner lacks its two.
READ = ("au_probabilities", "local_tokens", "local_scores", "global_tokens", "global_scores")


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
            a sentence's words, <end> counted, which is their geometric mean probability. It tells
            how sure the captioner is of its words, not whether they are true. None without
            sentences and from a folder exported before programs gave it.
        sentence_probability: the same of `sentence`.
    """

    aus: tuple[int, ...]
    probabilities: np.ndarray
    active: np.ndarray
    sentences: tuple[str, ...] | None
    sentence: str | None
    sentence_probabilities: np.ndarray | None = None
    sentence_probability: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The record of a line of predictions.jsonl, without what identifies the face.

        {"sentence", "sentence_probability", "per_au": {"1": {"probability", "active", "sentence",
        "sentence_probability"}, ...}}; what the model does not give is None.
        """
        none = (None,) * len(self.aus)
        sentences = self.sentences or none
        sure = none if self.sentence_probabilities is None else self.sentence_probabilities
        per_au = {
            str(au): {
                "probability": _rounded(probability),
                "active": bool(active),
                "sentence": sentence,
                "sentence_probability": _rounded(mean),
            }
            for au, probability, active, sentence, mean in zip(
                self.aus, self.probabilities, self.active, sentences, sure, strict=True
            )
        }
        return {
            "sentence": self.sentence,
            "sentence_probability": _rounded(self.sentence_probability),
            "per_au": per_au,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


class Reader:
    """Turns the arrays that a model returns into predictions, for one order of units."""

    def __init__(
        self, aus: Sequence[int], thresholds: Sequence[float], vocabulary: Vocabulary
    ) -> None:
        self.aus = tuple(aus)
        self.thresholds = np.asarray(thresholds, np.float32)

        @lru_cache(maxsize=65536)  # a trained captioner says the same few sentences again and again
        def decode(row: bytes) -> str:
            return vocabulary.decode(np.frombuffer(row, np.int32))

        self._decode: Callable[[bytes], str] = decode

    def read(self, arrays: Mapping[str, np.ndarray]) -> Iterator[Prediction]:
        """One prediction a face, from the `READ` arrays that the model returned.

        au_probabilities float [b, n]; local_tokens int32 [b, n, t], local_scores float [b, n],
        global_tokens int32 [b, t'] and global_scores float [b], each of which may be absent.
        """
        none = [None] * len(arrays["au_probabilities"])
        rows = (arrays.get(name, none) for name in READ)
        for scores, local, local_score, whole, whole_score in zip(*rows, strict=True):
            yield Prediction(
                self.aus,
                scores,
                scores > self.thresholds,
                None if local is None else tuple(map(self._say, local)),
                None if whole is None else self._say(whole),
                None if local_score is None else np.exp(local_score),
                None if whole_score is None else float(np.exp(whole_score)),
            )

    def _say(self, tokens: np.ndarray) -> str:
        return self._decode(np.asarray(tokens, np.int32).tobytes())


def csv_header(aus: Sequence[int]) -> list[str]:
    """OpenFace's column names, a probability beside each occurrence, and the file it came from."""
    return [
        "frame",
        "face_id",
        "timestamp",
        "confidence",
        "success",
        *(f"AU{au:02d}_c" for au in aus),
        *(f"AU{au:02d}_p" for au in aus),
        "source",
    ]


def csv_row(where: dict[str, Any], prediction: Prediction | None, count: int) -> list[Any]:
    """The cells of `csv_header`'s columns; those of `count` units stay empty without a prediction.

    `where` holds frame, face_id, timestamp, confidence, success and source.
    """
    if prediction is None:
        cells: list[Any] = [""] * (2 * count)
    else:
        cells = [int(on) for on in prediction.active]
        cells += [f"{p:.6f}" for p in prediction.probabilities]
    first = [where[key] for key in ("frame", "face_id", "timestamp", "confidence", "success")]
    return [*first, *cells, where["source"]]


def column_notes(
    aus: Sequence[int], thresholds: Sequence[float], outputs: Collection[str]
) -> dict[str, dict[str, str]]:
    """What each column of predictions.csv and key of predictions.jsonl means, with its unit.

    `outputs` are the names of the arrays that the model gives.
    """
    csv = {
        "frame": "place of the picture within the INPUT it came from, from 1; no unit",
        "face_id": "number of the face in the picture; 0, because one face a picture is described",
        "timestamp": "seconds since the input began; 0 for pictures, which have no time",
        "confidence": "as success; the crop rules give no finer measure",
        "success": "1 where a face was found and described, 0 where that failed (predictions.jsonl "
        "has the reason); then every AU cell is empty, which means unknown and not absent",
    }
    for au, threshold in zip(aus, thresholds, strict=True):
        csv[f"AU{au:02d}_c"] = (
            f"occurrence of AU {au}, {ACTION_UNITS[au].name}: 1 present, 0 absent; "
            f"present where AU{au:02d}_p exceeds {threshold:g}"
        )
    for au in aus:
        csv[f"AU{au:02d}_p"] = (
            f"probability of AU {au}, {ACTION_UNITS[au].name}, 0-1; an occurrence, not an "
            "intensity (OpenFace's _r, 0-5, is another measure)"
        )
    csv["source"] = "path of the picture as it was given or found"
    jsonl = {
        "frame, face_id, timestamp, confidence, success, source": "as in the CSV",
        "reason": "only where success is 0: "
        + "; ".join(f'"{reason}", {meaning}' for reason, meaning in DROP_REASONS.items()),
        "per_au.N.probability": "as AUNN_p, 0-1",
        "per_au.N.active": "as AUNN_c, true or false",
        **_sentence_notes(outputs),
    }
    return {"predictions.csv": csv, "predictions.jsonl": jsonl}


def _sentence_notes(outputs: Collection[str]) -> dict[str, str]:
    """The notes on the sentences of predictions.jsonl and on their probabilities, by key."""
    said = {
        ("global", "sentence", "the whole face"): "generated sentence about the whole face; null "
        "where success is 0",
        ("local", "per_au.N.sentence", "single units"): "generated sentence about AU N: the state "
        "of its muscle as the captioner sees it; it can disagree with the probability",
    }
    sure = (
        "geometric mean of the probabilities that the captioner gave this sentence's words, its "
        "end counted as a word, 0-1: how sure it is of the wording, which is not whether that is "
        "true; null where the sentence is null"
    )
    old = "null: this model was exported by a version that did not give it; export it again"
    notes = {}
    for (kind, key, about), note in said.items():
        none = f"null: this model was trained without sentences about {about}"
        there, scored = f"{kind}_tokens" in outputs, f"{kind}_scores" in outputs
        notes[key] = note if there else none
        notes[f"{key}_probability"] = (sure if scored else old) if there else none
    return notes
