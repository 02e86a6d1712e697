"""One face's answer, and how it is written down: the same for evaluation and for prediction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vlfau_jax.data.vocabulary import Vocabulary
from vlfau_jax.facs import ACTION_UNITS

# The arrays that a prediction is read from; a model without a captioner lacks its tokens.
READ = ("au_probabilities", "local_tokens", "global_tokens")


@dataclass(frozen=True)
class Prediction:
    """Scores and sentences of one face, in the order of `aus`.

    Attributes:
        aus: the units' numbers, n of them.
        probabilities: float [n], 0-1.
        active: bool [n], whether each probability exceeds its unit's threshold.
        sentences: n local descriptions, as generated; None from a model that writes none.
        sentence: the global description, as generated; None from a model that writes none.
    """

    aus: tuple[int, ...]
    probabilities: np.ndarray
    active: np.ndarray
    sentences: tuple[str, ...] | None
    sentence: str | None

    def to_json(self) -> dict[str, Any]:
        """The record of a line of predictions.jsonl, without what identifies the face."""
        sentences = self.sentences or (None,) * len(self.aus)
        per_au = {
            str(au): {
                "probability": round(float(probability), 6),
                "active": bool(active),
                "sentence": sentence,
            }
            for au, probability, active, sentence in zip(
                self.aus, self.probabilities, self.active, sentences, strict=True
            )
        }
        return {"sentence": self.sentence, "per_au": per_au}


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

        au_probabilities float [b, n]; local_tokens int32 [b, n, t] and global_tokens [b, t'], each
        of which may be absent.
        """
        none = [None] * len(arrays["au_probabilities"])
        rows = (arrays.get(name, none) for name in READ)
        for scores, local, whole in zip(*rows, strict=True):
            yield Prediction(
                self.aus,
                scores,
                scores > self.thresholds,
                None if local is None else tuple(map(self._say, local)),
                None if whole is None else self._say(whole),
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
    none = "null: this model was trained without sentences about"
    whole = "generated sentence about the whole face; null where success is 0"
    local = (
        "generated sentence about AU N: the state of its muscle as the captioner sees it; it can "
        "disagree with the probability"
    )
    csv = {
        "frame": "place of the picture within the INPUT it came from, from 1; no unit",
        "face_id": "number of the face in the picture; 0, because one face a picture is described",
        "timestamp": "seconds since the input began; 0 for pictures, which have no time",
        "confidence": "1 where the face detector found the face, 0 where it did not; it gives no "
        "finer measure",
        "success": "1 where a face was found and described, 0 where the picture has no face or "
        "cannot be read; then every AU cell is empty, which means unknown and not absent",
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
        "reason": "only where success is 0: why",
        "sentence": whole if "global_tokens" in outputs else f"{none} the whole face",
        "per_au.N.probability": "as AUNN_p, 0-1",
        "per_au.N.active": "as AUNN_c, true or false",
        "per_au.N.sentence": local if "local_tokens" in outputs else f"{none} single units",
    }
    return {"predictions.csv": csv, "predictions.jsonl": jsonl}
