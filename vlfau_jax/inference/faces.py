"""Finds and crops the face that a picture shows, and says what makes it doubtful.

The limits were chosen by what blurring, shrinking and darkening do to the demo's network on
rendered faces (mean F1 of its 12 units, 0.968 on the faces as they are):

| | mean F1 | of 100 found, doubtful |
|---|---|---|
| 51 pixels along the crop's side | 0.93 | 3 |
| 41 pixels | 0.87 | 32 |
| 30 pixels; 21 pixels | 0.68; 0.33 | 100 |
| blurred by 2 pixels of the 200 of the crop's side | 0.90 | 7 |
| by 4 pixels | 0.39 | 95 |
| three tenths of the contrast | 0.78 | 9; a third of the faces are not found at all |

None of 776 upright faces, rendered by two renderers, is doubtful. Upside down 99 of 100 of the one
are noticed and 87 of the other, whose rest is mostly not found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from vlfau_jax.data.crop.alignment import Pose, alignment_of, pose_of, warp
from vlfau_jax.data.crop.cropping import crop_face
from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError
from vlfau_jax.inference.prediction import DropReason

_SIDE = 112  # pixels at which sharpness and contrast are measured
_HIGHEST = {
    "min_confidence": 1.0,
    "min_face_pixels": 1e5,
    "min_sharpness": 1e3,
    "min_contrast": 128,
}


@dataclass(frozen=True)
class Limits:
    """What a face must have not to be doubtful; 0 switches a limit off.

    Attributes:
        min_confidence: of the finder's own, 0-1, where it states one. 0 by default: every finder
            has a threshold of its own, and no higher one tells faces from what is none.
        min_face_pixels: along the crop's side, in the picture's own pixels.
        min_sharpness: variance of the Laplacian over the variance of the grey values, of the crop
            at 112 pixels: a measure that neither brightness nor contrast changes.
        min_contrast: standard deviation of the crop's grey values, of 0 to 255.
    """

    min_confidence: float = 0.0
    min_face_pixels: float = 40.0
    min_sharpness: float = 0.015
    min_contrast: float = 10.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not 0 <= value <= _HIGHEST[name]:
                raise UserError(
                    f"--{name}={value}: out of range; expected 0 (no limit) to {_HIGHEST[name]:g}"
                )


@dataclass(frozen=True)
class FoundFace:
    """What there is to describe of a picture.

    Attributes:
        crop: RGB uint8 [h, w, 3]; None where there is no face.
        reason: why there is none, or why it is doubtful; None for a good one.
        detail: the reason in numbers or words; may be empty.
        confidence: the finder's own, 0-1; None if it states none.
        faces: how many faces were found in the picture; this is the largest.
    """

    crop: np.ndarray | None
    reason: DropReason | None = None
    detail: str = ""
    confidence: float | None = None
    faces: int = 0


def look_for_face(
    picture: np.ndarray,
    rule: CropRule,
    path: str | Path = "",
    root: str | Path = "",
    limits: Limits | None = None,
) -> FoundFace:
    """The largest face of a picture, cropped by `rule`, and judged by `limits`.

    Args:
        picture: RGB uint8 [h, w, 3].
        rule: how to crop.
        path: the picture's file, for rules that read tables.
        root: the folder to which the sources in a table of boxes are relative.
        limits: `Limits()` if None.

    Raises:
        UserError: the file or the table that the rule reads is missing or malformed.
    """
    limits = limits or Limits()
    place = Place(str(path))
    try:
        face = rule.find(picture, place, str(root))
    except NotInTable:
        return FoundFace(None, "not in the table")
    confidence = face and rule.confidence(face, place, str(root))
    turned = _turned(picture, rule, confidence or 0.0)
    if face is None:
        if turned:
            return FoundFace(None, "not upright", turned)
        smallest = math.ceil(rule.smallest(picture))
        return FoundFace(None, "no face", f"none of {smallest} pixels or more" if smallest else "")
    crop, pose = crop_face(picture, face, rule), pose_of(face, rule.parameters)
    reason, detail = (
        ("not upright", turned) if turned else _doubt(picture, pose, confidence, limits)
    )
    return FoundFace(crop, reason, detail, confidence, rule.count(picture, face))


def _turned(picture: np.ndarray, rule: CropRule, confidence: float) -> str:
    """By how much the picture must be turned to show a face that is none of the doubtful ones.

    Finders take the chin of a face that is upside down for a forehead. Only pictures without a face
    that the finder is sure of are looked at again, turned.

    Returns:
        A text; "" where turning shows no better face.
    """
    if not rule.SURE or confidence >= rule.SURE:
        return ""
    for quarters in (2, 1, 3):
        face: Face | None = rule.find(
            np.ascontiguousarray(np.rot90(picture, quarters)), Place(""), ""
        )
        if face is not None and (face.confidence or 0.0) >= max(rule.SURE, confidence):
            return f"turned by {90 * quarters} degrees it shows a face ({face.confidence:.2f})"
    return ""


def _doubt(
    picture: np.ndarray, pose: Pose, confidence: float | None, limits: Limits
) -> tuple[DropReason | None, str]:
    """What makes an upright face doubtful, and in numbers."""
    side = math.exp(pose.log_side)
    if side < limits.min_face_pixels:
        return "too small", f"{side:.0f} pixels; at least {limits.min_face_pixels:g}"
    if confidence is not None and confidence < limits.min_confidence:
        return "low confidence", f"{confidence:.2f}; at least {limits.min_confidence:g}"
    grey = cv2.cvtColor(warp(picture, alignment_of(pose, _SIDE), _SIDE), cv2.COLOR_RGB2GRAY)
    contrast = float(grey.std())
    if contrast < limits.min_contrast:
        return "low contrast", f"{contrast:.1f} grey levels; at least {limits.min_contrast:g}"
    sharpness = float(cv2.Laplacian(grey, cv2.CV_64F).var() / max(grey.var(), 1e-6))
    if sharpness < limits.min_sharpness:
        return "blurred", f"sharpness {sharpness:.4f}; at least {limits.min_sharpness:g}"
    return None, ""
