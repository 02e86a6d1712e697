"""Finds and crops the faces that a picture shows, and says what makes one doubtful.

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
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vlfau_jax.data.crop.alignment import Pose, alignment_of, pose_of, square_of, warp
from vlfau_jax.data.crop.face import Face, overlap
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError
from vlfau_jax.inference.flatness import flat_share
from vlfau_jax.inference.predict_options import Faces
from vlfau_jax.inference.prediction import DropReason

_SIDE = 112  # pixels at which a face is measured
_SMALLEST_SIDE = 8  # pixels; below there is no middle to measure
_HIGHEST = {
    "min_confidence": 1.0,
    "min_face_pixels": 1e5,
    "min_sharpness": 1e3,
    "min_contrast": 128,
    "max_flat": 1.0,
}


@dataclass(frozen=True)
class Limits:
    """What a face must have not to be doubtful; 0 switches a limit off, 1 that of `max_flat`.

    Attributes:
        min_confidence: of the finder's own, 0-1, where it states one. 0 by default: every finder
            has a threshold of its own, and no higher one tells faces from what is none.
        min_face_pixels: along the crop's side, in the picture's own pixels.
        min_sharpness: variance of the Laplacian over the variance of the grey values, of the crop
            at 112 pixels: a measure that neither brightness nor contrast changes.
        min_contrast: standard deviation of the crop's grey values, of 0 to 255.
        max_flat: share of the crop's middle without any change, 0-1, as `flat_share` measures it:
            a face with more is drawn.
    """

    min_confidence: float = 0.0
    min_face_pixels: float = 40.0
    min_sharpness: float = 0.015
    min_contrast: float = 10.0
    max_flat: float = 0.2

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not 0 <= value <= _HIGHEST[name]:
                most = f"{_HIGHEST[name]:g}"
                allowed = f"0 (no limit) to {most}" if name != "max_flat" else f"0 to {most} (none)"
                raise UserError(f"--{name}={value}: out of range; expected {allowed}")


@dataclass(frozen=True)
class FoundFace:
    """What there is to describe of a picture: one of its faces, or why there is none.

    Attributes:
        crop: RGB uint8 [h, w, 3]; None where there is no face.
        reason: why there is none, or why it is doubtful; None for a good one.
        detail: the reason in numbers or words; may be empty.
        confidence: the finder's own, 0-1; None if it states none.
        faces: how many faces were found in the picture.
        box: left, top, width, height in the picture's pixels; None where there is no face.
        alignment: float32 [2, 3], from positions in the picture to those in `crop`; None likewise.
        finder: the name of the crop rule that found it; "" where none looked.
        face: as the finder saw it in the picture; None where there is none, or one of a table.
    """

    crop: np.ndarray | None
    reason: DropReason | None = None
    detail: str = ""
    confidence: float | None = None
    faces: int = 0
    box: tuple[float, float, float, float] | None = None
    alignment: np.ndarray | None = None
    finder: str = ""
    face: Face | None = None


def look_for_face(
    picture: np.ndarray,
    rule: CropRule,
    path: str | Path = "",
    root: str | Path = "",
    limits: Limits | None = None,
) -> FoundFace:
    """The largest face of a picture, found and cropped by `rule`, and judged by `limits`.

    The arguments and errors are those of `look_for_faces`.
    """
    (found,) = look_for_faces(picture, rule, path, root, limits, faces="largest")
    return found


def look_for_faces(
    picture: np.ndarray,
    rule: CropRule,
    path: str | Path = "",
    root: str | Path = "",
    limits: Limits | None = None,
    *,
    finder: CropRule | None = None,
    faces: Faces = "all",
    turn: bool = True,
    most: int | None = None,
    known: Sequence[Face] | None = None,
) -> list[FoundFace]:
    """The faces of a picture, the largest first, cropped as `rule` does and judged by `limits`.

    Args:
        picture: RGB uint8 [h, w, 3].
        rule: how to align and crop.
        path: the picture's file, for rules that read tables.
        root: the folder to which the sources in a table of boxes are relative.
        limits: `Limits()` if None.
        finder: finds the faces; `rule` if None. See `registry.finder_for`.
        faces: "all", or the "largest" alone.
        turn: whether a picture without a face that the finder is sure of is looked at again,
            turned. A video's frames are not: its metadata say how it was held.
        most: how many faces are cropped at most, the largest; None for all.
        known: the faces, the largest first, where they need not be looked for.

    Returns:
        At least one: without a face, the reason why there is none.

    Raises:
        UserError: the file or the table that the finder reads is missing or malformed.
    """
    limits, finder = limits or Limits(), finder or rule
    place = Place(str(path))
    try:
        if known is not None:
            found = list(known)
        elif faces == "all":
            found = finder.find_all(picture, place, str(root))
        else:
            face = finder.find(picture, place, str(root))
            found = [] if face is None else [face]
    except NotInTable:
        return [FoundFace(None, "not in the table", finder=finder.name)]
    number = len(found)
    found = found[:most]
    confidences = [finder.confidence(face, place, str(root)) for face in found]
    turned = _turned(picture, finder, found, confidences) if turn and finder.SURE else []
    if not found:
        if turned:
            return [FoundFace(None, "not upright", turned[0].text, finder=finder.name)]
        smallest = math.ceil(finder.smallest(picture))
        detail = f"none of {smallest} pixels or more" if smallest else ""
        return [FoundFace(None, "no face", detail, finder=finder.name)]
    if faces == "largest":
        number = found[0].found if known else finder.count(picture, found[0])
    parameters = {**finder.parameters, **rule.parameters}  # a face without eyes has a box only
    looked = []
    for face, confidence in zip(found, confidences, strict=True):
        pose = pose_of(face, parameters)
        alignment = alignment_of(pose, rule.size)
        better = _shown_turned(face, confidence, turned, finder.SURE)
        reason, detail = (
            ("not upright", better) if better else _doubt(picture, pose, confidence, limits)
        )
        looked.append(
            FoundFace(
                warp(picture, alignment, rule.size),
                reason,
                detail,
                confidence,
                number,
                face.box or square_of(pose),
                alignment,
                finder.name,
                None if finder.READS_TABLE or face.eyes is None or face.box is None else face,
            )
        )
    return looked


class _Turned(NamedTuple):
    """A face that the picture shows, turned: its place in the picture as it is."""

    box: tuple[float, float, float, float]
    confidence: float
    text: str


def _turned(
    picture: np.ndarray,
    finder: CropRule,
    found: Sequence[Face],
    confidences: Sequence[float | None],
) -> list[_Turned]:
    """The faces that the finder is sure of in the picture turned by one to three quarters.

    Finders take the chin of a face that is upside down for a forehead. Only pictures in which there
    is no face, or one that the finder is not sure of, are looked at again, turned.
    """
    if found and all((confidence or 0.0) >= finder.SURE for confidence in confidences):
        return []
    height, width = picture.shape[:2]
    turned = []
    for quarters in (2, 1, 3):
        again = np.ascontiguousarray(np.rot90(picture, quarters))
        for face in finder.find_all(again, Place(""), ""):
            if (face.confidence or 0.0) < finder.SURE or face.box is None:
                continue
            left, top, w, h = face.box
            box = {
                1: (width - top - h, left, h, w),
                2: (width - left - w, height - top - h, w, h),
                3: (top, height - left - w, h, w),
            }[quarters]
            text = f"turned by {90 * quarters} degrees it shows a face ({face.confidence:.2f})"
            turned.append(_Turned(box, face.confidence, text))
    return turned


def _shown_turned(
    face: Face, confidence: float | None, turned: Sequence[_Turned], sure: float
) -> str:
    """What says that the finder is surer of a face's place in the picture turned; else ""."""
    confidence = confidence or 0.0
    if not sure or confidence >= sure or face.box is None:
        return ""
    better = (
        one.text for one in turned if one.confidence > confidence and overlap(one.box, face.box)
    )
    return next(better, "")


def _doubt(
    picture: np.ndarray, pose: Pose, confidence: float | None, limits: Limits
) -> tuple[DropReason | None, str]:
    """What makes an upright face doubtful, and in numbers."""
    side = math.exp(pose.log_side)
    if side < limits.min_face_pixels:
        return "too small", f"{side:.0f} pixels; at least {limits.min_face_pixels:g}"
    if confidence is not None and confidence < limits.min_confidence:
        return "low confidence", f"{confidence:.2f}; at least {limits.min_confidence:g}"
    crop = warp(picture, alignment_of(pose, _SIDE), _SIDE)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    contrast = float(grey.std())
    if contrast < limits.min_contrast:
        return "low contrast", f"{contrast:.1f} grey levels; at least {limits.min_contrast:g}"
    sharpness = float(cv2.Laplacian(grey, cv2.CV_64F).var() / max(grey.var(), 1e-6))
    if sharpness < limits.min_sharpness:
        return "blurred", f"sharpness {sharpness:.4f}; at least {limits.min_sharpness:g}"
    if limits.max_flat < 1:
        if side < _SIDE:  # enlarged, which smooths it
            size = max(_SMALLEST_SIDE, int(side))
            crop = warp(picture, alignment_of(pose, size), size)
        flat = flat_share(crop)
        if flat > limits.max_flat:
            return "drawn", f"{flat:.2f} of the face is flat; at most {limits.max_flat:g}"
    return None, ""
