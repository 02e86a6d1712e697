"""Files of predictions: CSV with OpenFace's columns, JSON lines, and what their columns mean."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import written_whole
from vlfau_jax.inference.exported_model import PictureResult
from vlfau_jax.inference.pictures import Picture
from vlfau_jax.inference.prediction import DROP_REASONS, Prediction

CSV, JSONL = "predictions.csv", "predictions.jsonl"
COLUMNS = "predictions.columns.json"

_DROPPED = {"sentence": None, "sentence_probability": None, "per_au": None}


@contextmanager
def prediction_files(
    out: Path, aus: Sequence[int], thresholds: Sequence[float], outputs: Collection[str]
) -> Iterator[Callable[[Picture, PictureResult], None]]:
    """Gives a function that adds a picture and its result to the files in the folder `out`.

    The files get their names at the end, if no exception is raised, and replace older ones.
    `outputs` are the names of the arrays that the model gives.
    """
    columns = describe_columns(aus, thresholds, outputs)
    # File names are bytes: those that are no UTF-8 are written back as they are.
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
    with (
        written_whole(out / CSV) as new_csv,
        written_whole(out / JSONL) as new_jsonl,
        written_whole(out / COLUMNS) as new_columns,
        new_csv.open("w", newline="", **text) as table,
        new_jsonl.open("w", **text) as lines,
    ):
        new_columns.write_text(json.dumps(columns, indent=2) + "\n")
        rows = csv.writer(table)
        rows.writerow(csv_header(aus))

        def write(picture: Picture, result: PictureResult) -> None:
            prediction, identity = result.prediction, _identify(picture, result)
            rows.writerow(csv_row(identity, prediction, len(aus)))
            if prediction is None:
                record = identity | _DROPPED | result.about_the_face()
            else:
                record = identity | prediction.to_json() | result.about_the_face()
            lines.write(json.dumps(record) + "\n")

        yield write


def _identify(picture: Picture, result: PictureResult) -> dict[str, Any]:
    success = int(result.prediction is not None)
    return {
        "frame": picture.frame,
        "face_id": 0,
        "timestamp": 0.0,
        "confidence": result.about_the_face()["confidence"],
        "success": success,
        "source": str(picture.path),
    }


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


def csv_row(identity: dict[str, Any], prediction: Prediction | None, count: int) -> list[Any]:
    """The cells of `csv_header`'s columns; those of `count` units are empty without a prediction.

    `identity` holds frame, face_id, timestamp, confidence, success and source.
    """
    if prediction is None:
        cells: list[Any] = [""] * (2 * count)
    else:
        cells = [int(on) for on in prediction.active]
        cells += [f"{p:.6f}" for p in prediction.probabilities]
    first = [identity[key] for key in ("frame", "face_id", "timestamp", "confidence", "success")]
    return [*first, *cells, identity["source"]]


def describe_columns(
    aus: Sequence[int], thresholds: Sequence[float], outputs: Collection[str]
) -> dict[str, dict[str, str]]:
    """What each column of predictions.csv and key of predictions.jsonl means, with its unit.

    `outputs` are the names of the arrays that the model gives.
    """
    columns = {
        "frame": "place of the picture within the INPUT it came from, from 1; no unit",
        "face_id": "number of the face in the picture; 0, because one face a picture is described",
        "timestamp": "seconds since the input began; 0 for pictures, which have no time",
        "confidence": "the face finder's own, 0-1: cascade, n / (n + 10) of the n detections that "
        "were joined; yunet, mediapipe: the network's score; landmarks, box: the table's column "
        "confidence; empty where there is none, 0 where there is no face",
        "success": "1 where a face was found and described, 0 where that failed (predictions.jsonl "
        "has the reason); then every AU cell is empty, which means unknown and not absent",
    }
    for au, threshold in zip(aus, thresholds, strict=True):
        columns[f"AU{au:02d}_c"] = (
            f"occurrence of AU {au}, {ACTION_UNITS[au].name}: 1 present, 0 absent; "
            f"present where AU{au:02d}_p exceeds {threshold:g}"
        )
    for au in aus:
        columns[f"AU{au:02d}_p"] = (
            f"probability of AU {au}, {ACTION_UNITS[au].name}, 0-1; an occurrence, not an "
            "intensity (OpenFace's _r, 0-5, is another measure)"
        )
    columns["source"] = "path of the picture as it was given or found"
    keys = {
        "frame, face_id, timestamp, confidence, success, source": "as in the CSV",
        "faces": "how many faces the finder found in the picture; the largest is described",
        "detail": "the reason in numbers or words; may be empty",
        "reason": "where success is 0, and for a doubtful face that --keep_doubtful described: "
        + "; ".join(f'"{reason}", {meaning}' for reason, meaning in DROP_REASONS.items()),
        "per_au.N.probability": "as AUNN_p, 0-1",
        "per_au.N.active": "as AUNN_c, true or false",
        **_describe_sentences(outputs),
    }
    return {CSV: columns, JSONL: keys}


def _describe_sentences(outputs: Collection[str]) -> dict[str, str]:
    """What the keys for sentences and their probabilities in predictions.jsonl mean."""
    meanings = {
        ("global", "sentence", "the whole face"): "generated sentence about the whole face; null "
        "where success is 0",
        ("local", "per_au.N.sentence", "single units"): "generated sentence about AU N: the state "
        "of its muscle as the captioner sees it; it can disagree with the probability",
    }
    probability = (
        "geometric mean of the probabilities that the captioner gave this sentence's words, its "
        "end counted as a word, 0-1: how sure it is of the wording, which is not whether that is "
        "true; null where the sentence is null"
    )
    old = "null: this model was exported by a version that did not give it; export it again"
    described = {}
    for (kind, key, about), meaning in meanings.items():
        none = f"null: this model was trained without sentences about {about}"
        has_tokens, has_scores = f"{kind}_tokens" in outputs, f"{kind}_scores" in outputs
        described[key] = meaning if has_tokens else none
        described[f"{key}_probability"] = (
            none if not has_tokens else probability if has_scores else old
        )
    return described
