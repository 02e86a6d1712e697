"""Files of predictions: CSV with OpenFace's columns, JSON lines, and what their columns mean."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.inference.picture_result import PictureResult
from vlfau_jax.inference.prediction import DROP_REASONS
from vlfau_jax.inference.shots import Portrait

CSV, JSONL = "predictions.csv", "predictions.jsonl"
COLUMNS = "predictions.columns.json"
PARQUET, PYFEAT = "predictions.parquet", "predictions.pyfeat.csv"
OVERLAY = "overlay"  # a folder
NAMES = (CSV, JSONL, COLUMNS, PARQUET, PYFEAT, OVERLAY)

# py-feat's names; OpenFace has no column for it.
BOX_COLUMNS = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight")

_DROPPED = {"sentence": None, "sentence_probability": None, "per_au": None}
# What a spreadsheet takes for the beginning of a formula, or strips before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def written_path(path: str | Path) -> str:
    r"""A path as the files hold it: UTF-8, and no formula to a spreadsheet; `read_path` undoes it.

    A byte that is no UTF-8 is written `\xNN`, a backslash twice; what would begin like a formula
    gets `./` in front, which names the same file.
    """
    text = os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return f"./{text}" if _is_formula(text) else text


def _is_formula(text: str) -> bool:
    return text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA)


def read_path(text: str) -> Path:
    """The path that `written_path` wrote."""
    halves = text.encode().split(b"\\\\")
    return Path(os.fsdecode(b"\\".join(re.sub(rb"\\x([0-9a-f]{2})", _byte, h) for h in halves)))


def _byte(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode())


def prediction_record(portrait: Portrait, result: PictureResult) -> dict[str, Any]:
    """What the line of predictions.jsonl about a face, or a picture without one, holds."""
    prediction, success = result.prediction, int(result.prediction is not None)
    identity = {
        "frame": portrait.shot.number,
        "face_id": portrait.person,
        "timestamp": portrait.shot.timestamp,
        "success": success,
        "source": written_path(portrait.shot.source.path),
    }
    said = _DROPPED if prediction is None else prediction.to_json()
    return identity | said | result.about_the_face()


def json_line(record: Mapping[str, Any]) -> str:
    """A line of JSON lines. Raises ValueError for a number that is not finite."""
    return json.dumps(record, allow_nan=False) + "\n"


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
        *BOX_COLUMNS,
    ]


def csv_row(record: Mapping[str, Any], aus: Sequence[int]) -> list[Any]:
    """The cells of `csv_header`'s columns, from a line of predictions.jsonl; empty for null."""
    first = [record[key] for key in ("frame", "face_id", "timestamp", "confidence", "success")]
    units = record["per_au"] or {}
    found = [units.get(str(au)) or {"active": None, "probability": None} for au in aus]
    active = ["" if unit["active"] is None else int(unit["active"]) for unit in found]
    probabilities = [
        "" if unit["probability"] is None else f"{unit['probability']:.6f}" for unit in found
    ]
    box = record.get("box") or [""] * len(BOX_COLUMNS)
    return [*first, *active, *probabilities, record["source"], *box]


def describe_columns(
    aus: Sequence[int],
    thresholds: Sequence[float],
    outputs: Collection[str],
    untaught: Mapping[int, str],
) -> dict[str, dict[str, str]]:
    """What each column of predictions.csv and key of predictions.jsonl means, with its unit.

    `outputs` are the names of the arrays that the model gives; `untaught` are its units without a
    prediction, each with the reason.
    """
    columns = {
        "frame": "of a picture its place within the INPUT it came from, of a video the frame's "
        "number, both from 1; no unit",
        "face_id": "number of the face from 0, in pictures the largest first, in a video the "
        "person's, kept through it; 0 where a picture shows no face, -1 where a video's frame does",
        "timestamp": "seconds since the video began, by its own time stamps; 0 for pictures, which "
        "have no time",
        "confidence": "the face finder's own, 0-1: cascade, n / (n + 10) of the n detections that "
        "were joined; yunet, yunetwheel, mtcnn, mediapipe: the network's score; landmarks, box: "
        "the table's column confidence; empty where there is none, 0 where there is no face",
        "success": "1 where a face was found and described, 0 where that failed (predictions.jsonl "
        "has the reason); then every AU cell is empty, which means unknown and not absent",
    }
    for au, threshold in zip(aus, thresholds, strict=True):
        columns[f"AU{au:02d}_c"] = (
            f"occurrence of AU {au}, {ACTION_UNITS[au].name}: 1 present, 0 absent; "
            f"present where AU{au:02d}_p exceeds {threshold:g}"
        ) + _not_learned(untaught.get(au))
    for au in aus:
        columns[f"AU{au:02d}_p"] = (
            f"probability of AU {au}, {ACTION_UNITS[au].name}, 0-1; an occurrence, not an "
            "intensity (OpenFace's _r, 0-5, is another measure)"
        ) + _not_learned(untaught.get(au))
    columns["source"] = (
        "path of the picture as it was given or found; a byte that is no UTF-8 is \\xNN and a "
        "backslash \\\\, and a path that begins with = + - @, a tab or a line break has ./ in "
        "front, so that no spreadsheet takes it for a formula"
    )
    sides = ("left edge", "top edge", "width", "height")
    for column, side in zip(BOX_COLUMNS, sides, strict=True):
        columns[column] = (
            f"{side} of the face's box in the picture as it is displayed, pixels from its top left "
            "corner; empty without a face; where the finder gives the eyes alone, of the crop"
        )
    keys = {
        "frame, face_id, timestamp, confidence, success, source": "as in the CSV",
        "faces": "how many faces the finder found in the picture",
        "finder": "the crop rule that found the face, or found none; null where none looked",
        "box": "FaceRectX, FaceRectY, FaceRectWidth and FaceRectHeight of the CSV, null without",
        "detail": "the reason in numbers or words; may be empty",
        "reason": "where success is 0, and for a doubtful face that --keep_doubtful described: "
        + "; ".join(f'"{reason}", {meaning}' for reason, meaning in DROP_REASONS.items()),
        "per_au.N.probability": "as AUNN_p, 0-1; null where that is empty",
        "per_au.N.raw_probability": "with --smooth or --baseline: the model's own, 0-1, which "
        "AUNN_p and probability then are not",
        "per_au.N.active": "as AUNN_c, true or false; null where that is empty",
        **_describe_sentences(outputs),
    }
    return {CSV: columns, JSONL: keys}


def _not_learned(reason: str | None) -> str:
    if reason is None:
        return ""
    return f"; always empty: training could not teach this unit, whose labels were {reason}"


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
