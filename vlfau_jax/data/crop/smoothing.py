"""Poses smoothed along a recording, so that crops do not jump with every detection."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vlfau_jax.data.crop.alignment import Pose, pose_of, square_of
from vlfau_jax.data.crop.face import Face, overlap
from vlfau_jax.data.crop.rule import CropRule

# Parameters of rules that find faces. Poses are smoothed over `smooth_frames` frames. Frames whose
# faces overlap by less than `min_overlap` of their union do not show one moving face (nobody moves
# by half a face in half a second): there is a cut or another person between them. A rule may also
# have `eye_frames`, over which missing eyes are taken from neighbouring frames; it is
# `smooth_frames` by default.
SMOOTHING = {"smooth_frames": 5, "min_overlap": 0.3}


def pose_reach(rule: CropRule) -> int:
    """How many frames before and after a frame its pose is smoothed over."""
    return rule.parameters["smooth_frames"] // 2


def eye_reach(rule: CropRule) -> int:
    """How many frames before and after a frame the eyes that it lacks are taken from."""
    p = rule.parameters
    return p.get("eye_frames", p["smooth_frames"]) // 2


def smooth_pose(window: Mapping[int, Face], frame: int, rule: CropRule) -> tuple[Pose, str]:
    """The median pose of a frame and its neighbours in time, and what the frame is aligned by.

    Args:
        window: frame number -> face, with `frame`'s own at least. Faces without eyes get them at
            the median position that the others' eyes have in their boxes.
        frame: the frame whose pose is computed.
        rule: the crop rule.

    Returns:
        The pose, and `Crop.aligned_by`.
    """
    window = _one_face(window, frame, rule)
    positions = [
        _eyes_in_box(face)
        for other, face in window.items()
        if face.box is not None and face.eyes is not None and abs(other - frame) <= eye_reach(rule)
    ]
    usual = np.median(positions, axis=0) if positions else None
    poses = [
        pose_of(_with_eyes(face, usual), rule.parameters)
        for other, face in window.items()
        if abs(other - frame) <= pose_reach(rule)
    ]
    pose = Pose(*np.median(poses, axis=0).tolist())
    if not rule.FINDS_FACES:
        return pose, "none"
    found = frame in window and window[frame].eyes is not None
    return pose, "eyes" if found else "neighbours" if positions else "box"


def _one_face(window: Mapping[int, Face], frame: int, rule: CropRule) -> dict[int, Face]:
    """The faces of `window` that lie where the frame's own does, which excludes those across a cut.

    Where the frames before and after show a face in one place and this one elsewhere, for a moment,
    the detector was wrong: then their faces are kept without the frame's own.
    """
    least, reach = rule.parameters.get("min_overlap", 0.0), pose_reach(rule)
    boxes = {k: face.box or square_of(pose_of(face, rule.parameters)) for k, face in window.items()}

    def same(k: int, other: int) -> bool:
        return k == other or overlap(boxes[k], boxes[other]) >= least

    before = max((k for k in boxes if frame - reach <= k < frame), default=frame)
    after = min((k for k in boxes if frame < k <= frame + reach), default=frame)
    wrong = same(before, after) and not same(before, frame) and not same(after, frame)
    reference = before if wrong else frame
    return {k: face for k, face in window.items() if same(k, reference)}


def _eyes_in_box(face: Face) -> np.ndarray:
    left, top, width, _ = face.box
    return (face.eyes - (left, top)) / width


def _with_eyes(face: Face, positions: np.ndarray | None) -> Face:
    if face.eyes is not None or positions is None:
        return face
    left, top, width, _ = face.box
    return face._replace(eyes=positions * width + (left, top))
