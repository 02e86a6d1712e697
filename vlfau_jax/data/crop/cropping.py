"""Crops of a sequence's frames for `prepare`, and of single pictures for `predict`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vlfau_jax.data.crop.alignment import alignment_of, pose_of, square_of, warp
from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.smoothing import eye_reach, pose_reach, smooth_pose
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.raw.frames import Place, encode_jpeg, place_of, read_frames
from vlfau_jax.data.raw.tree import RawSequence
from vlfau_jax.data.raw.unreadable import Loss


class Crop(NamedTuple):
    """One frame's crop.

    Attributes:
        image: JPEG bytes, or None where the frame is dropped.
        drop_reason: a key of integrity.DROP_REASONS; "" where the frame is kept.
        box: left, top, width, height of the face in source pixels; of the crop where a rule finds
            the eyes only.
        alignment: float32 [2, 3], the affine map from source to crop positions that was used.
        aligned_by: "eyes" found in this frame, "neighbours" (eyes only in neighbouring frames),
            "box" (no eyes: upright by the face's box), or "none" (dropped, or by a rule that finds
            no faces).
    """

    image: bytes | None
    drop_reason: str
    box: tuple[float, float, float, float]
    alignment: np.ndarray
    aligned_by: str


@dataclass
class _Frame:
    """A frame of the window; its picture is released once it is cropped."""

    number: int
    face: Face | None
    drop_reason: str
    image: np.ndarray | None


def crop_sequence(
    sequence: RawSequence,
    rule: CropRule,
    root: str | Path = "",
    seen: Callable[[int, bytes], None] | None = None,
) -> Iterator[Crop]:
    """Crops the frames of one sequence in order, each decoded once.

    Memory holds only the pictures that wait for their neighbours: half the rule's window. Pictures
    that are not a recording are cropped independently of each other.

    Args:
        sequence: what to crop.
        rule: how to crop.
        root: the raw tree's folder, to which the sources in a table of boxes are relative.
        seen: see `read_frames`.

    Raises:
        UserError: the rule's file or the sequence's landmarks are missing or malformed, or the
            video has lost frames.
    """
    cv2.setNumThreads(0)  # one process per core already; OpenCV's own threads would compete
    reach = max(pose_reach(rule), eye_reach(rule)) if sequence.recording else 0
    past: deque[_Frame] = deque()
    waiting: deque[_Frame] = deque()
    pictures = read_frames(sequence.pictures, seen)
    for i, (number, image) in enumerate(zip(sequence.frames, pictures, strict=True)):
        while waiting and waiting[0].number + reach < number:
            yield _crop_first(past, waiting, rule, reach)
        face, reason = _find(rule, image, place_of(sequence.pictures, i), str(root))
        waiting.append(_Frame(number, face, reason, None if reason else image))
    while waiting:
        yield _crop_first(past, waiting, rule, reach)


def _find(
    rule: CropRule, image: np.ndarray | Loss, place: Place, root: str
) -> tuple[Face | None, str]:
    """The face, or None and the drop reason."""
    if isinstance(image, str):
        return None, image
    try:
        face = rule.find(image, place, root)
    except NotInTable:
        return None, "not_in_table"
    return face, "no_face" if face is None else ""


def _crop_first(past: deque[_Frame], waiting: deque[_Frame], rule: CropRule, reach: int) -> Crop:
    """Crops the first waiting frame and moves it to the past, without those beyond its reach.

    All other waiting frames are within its reach: a newer one is added once all are.
    """
    frame = waiting.popleft()
    while past and past[0].number < frame.number - reach:
        past.popleft()
    image, frame.image = frame.image, None
    past.append(frame)
    if image is None:
        nowhere = (0.0, 0.0, 0.0, 0.0)
        return Crop(None, frame.drop_reason, nowhere, np.zeros((2, 3), np.float32), "none")
    window = {other.number: other.face for other in (*past, *waiting) if other.face is not None}
    pose, aligned_by = smooth_pose(window, frame.number, rule)
    alignment = alignment_of(pose, rule.size)
    crop = encode_jpeg(warp(image, alignment, rule.size))
    return Crop(crop, "", frame.face.box or square_of(pose), alignment, aligned_by)


def find_and_crop(
    image: np.ndarray, rule: CropRule, path: str = "", root: str | Path = ""
) -> np.ndarray | None:
    """The face of a single picture as RGB uint8 [size, size, 3]; None if there is none.

    Args:
        image: RGB uint8 [h, w, 3].
        rule: how to crop.
        path: the picture's file, where the rule reads a table.
        root: the folder to which the sources in a table of boxes are relative.

    Raises:
        NotInTable: the rule's table has no row for the picture.
        UserError: the rule's file or the picture's landmarks are missing or malformed.
    """
    face = rule.find(image, Place(path), str(root))
    if face is None:
        return None
    return warp(image, alignment_of(pose_of(face, rule.parameters), rule.size), rule.size)
