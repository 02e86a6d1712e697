"""Finding the face, aligning it by the eyes and cropping it, by rules that are named and versioned.

An author's checkpoint is known to lose a third of its score on faces cropped another way, so the
rule's digest travels with the data set, the checkpoint and the exported model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from vlfau_jax.data.crop.detectors import Face, Finder, finder
from vlfau_jax.data.crop.tables import NotInTable, check_boxes
from vlfau_jax.data.raw.frames import Place, encode_jpeg, place_of, read_frames
from vlfau_jax.data.raw.tree import RawSequence
from vlfau_jax.errors import UserError
from vlfau_jax.files import file_digest


@dataclass(frozen=True)
class CropRule:
    """How a face becomes a square picture.

    Attributes:
        name: the rule's name, a key of `RULES`.
        version: counts changes that alter pixels.
        parameters: the rule's numbers, and the SHA-256 of its file.
        size: pixels of the crop's side.
        file: the model or the table that the rule reads; where it lies is no part of the rule.
    """

    name: str
    version: int
    parameters: dict[str, Any]
    size: int
    file: str = ""

    def describe(self) -> dict[str, Any]:
        """The rule as plain JSON values, its digest included."""
        return {**self._content(), "digest": self.digest}

    def _content(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "parameters": dict(self.parameters),
            "size": self.size,
        }

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the rule's canonical JSON."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# Where the eyes come to lie, as shares of the crop's side. An upright rendered face is cropped as
# version 1 of the cascade's rule did, which knew no eyes: over 324 of them the middle of the true
# eyes was 0.135 of the side above the crop's centre (standard deviation 0.021) and their distance
# 0.358 of the side (0.020).
_EYES = {"eye_distance": 0.358, "eye_height": 0.365}
# Poses are smoothed over `smooth_frames`. Frames whose faces overlap by less than `min_overlap` of
# their union show no one face moving (nobody moves by half a face in half a second): there is a cut
# or another person between them.
_SMOOTH = {"smooth_frames": 5, "min_overlap": 0.3}
RULES: dict[str, tuple[int, dict[str, Any]]] = {
    # OpenCV's alt2 cascade found the face in all of 400 rendered test frames, the default one
    # missed two. A cascade's box ends at the lower lip: a tenth more, moved down a little, holds
    # brows to a dropped chin. Faces that fill two fifths of the shorter side are looked for first,
    # in half the time; only a picture without one is searched for smaller ones.
    # Of OpenCV's eye cascades haarcascade_eye found both eyes most often: in 295 of 324 rendered
    # faces of 160 pixels (eye_tree_eyeglasses in 253, in twice the time; the pair of 2splits in
    # 274, with twice the spread), the eyes' angle to 1.0 degrees, their distance to 2.6 %. Its
    # boxes lie a little left of and above the pupil: `eye_shift`, in eye distances, undoes that.
    # Shut or missed eyes are looked up in `eye_frames` frames around, a second of BP4D, so
    # that twelve pictures wait in memory.
    "cascade": (
        2,
        {
            "face_cascade": "haarcascade_frontalface_alt2.xml",
            "search_side": 160,
            "scale_factor": 1.1,
            "min_neighbors": 3,
            "min_face": [0.4, 0.2],
            "zoom": 1.1,
            "shift_down": 0.07,
            "eye_cascade": "haarcascade_eye.xml",
            "eyes_top": 0.1,
            "eyes_bottom": 0.65,
            "eyes_width": 160,
            "eyes_scale_factor": 1.1,
            "eyes_min_neighbors": 1,
            "eye_size": [0.16, 0.38],
            "eyes_apart": [0.28, 0.58],
            "eyes_slope": 0.4,
            "eye_shift": [0.019, 0.048],
            "eye_frames": 25,
            "max_angle": 30.0,
            **_EYES,
            **_SMOOTH,
        },
    ),
    "yunet": (
        1,
        {
            "search_side": 320,
            "min_score": 0.7,
            "max_overlap": 0.3,
            "max_angle": 45.0,
            **_EYES,
            **_SMOOTH,
        },
    ),
    "mediapipe": (1, {"min_score": 0.5, "max_angle": 45.0, **_EYES, **_SMOOTH}),
    "landmarks": (1, {"max_angle": 90.0, **_EYES, **_SMOOTH}),
    "box": (1, {"zoom": 1.1, "shift_down": 0.0, **_SMOOTH}),
    "none": (1, {"zoom": 1.0, "shift_down": 0.0, "smooth_frames": 1}),
}
# What --crop_file is for these rules. A model is part of its rule, so its SHA-256 is; a table of
# boxes is data, as landmarks are: a model trained on boxes can be shown boxes of other pictures.
MODEL_FILES = {
    "yunet": "YuNet's ONNX model",
    "mediapipe": "a MediaPipe FaceDetector's .tflite or FaceLandmarker's .task",
}
FILES = {**MODEL_FILES, "box": "a CSV with the columns source,left,top,width,height"}


def crop_rule(name: str, size: int, file: str = "") -> CropRule:
    """The rule called `name` for crops of `size` pixels.

    Args:
        name: a key of `RULES`.
        size: pixels of the crop's side.
        file: the model (yunet, mediapipe) or the table of boxes (box) that the rule reads.

    Raises:
        UserError: no such rule or size; a file that is missing, or given to a rule without one.
    """
    if name not in RULES:
        raise UserError(f"--crop={name!r} is not a crop rule; expected one of {', '.join(RULES)}")
    if not 16 <= size <= 1024:
        raise UserError(f"--crop_size={size} is out of range; expected 16 to 1024 pixels")
    version, parameters = RULES[name]
    if name not in FILES and file:
        raise UserError(f"--crop_file={file}: the crop rule {name} reads no file; leave it out")
    if name in FILES and not Path(file).is_file():
        given = f"--crop_file={file} is no file" if file else f"--crop={name} needs a --crop_file"
        raise UserError(f"{given}; expected {FILES[name]}")
    if name in MODEL_FILES:
        parameters = {**parameters, "file_sha256": file_digest(file)}
    return CropRule(name, version, dict(parameters), size, file)


def table_digest(rule: CropRule) -> str:
    """SHA-256 of the rule's table of boxes, which its digest does not cover; "" without one."""
    if rule.name != "box":
        return ""
    return file_digest(rule.file)


def check_table(sequences: Iterable[RawSequence], rule: CropRule, root: str | Path) -> None:
    """Refuses a table of boxes of other pictures, before any picture is read.

    Raises:
        UserError: no row of it is about a picture of `sequences`, or it is malformed.
    """
    if rule.name != "box":
        return
    places = (place_of(s.pictures, i) for s in sequences for i in range(len(s.frames)))
    check_boxes(places, rule.file, str(root))


class Pose(NamedTuple):
    """Where a crop lies in its picture: its centre and side in source pixels, and its angle."""

    x: float
    y: float
    log_side: float
    angle: float


def pose_of(face: Face, rule: CropRule) -> Pose:
    """Puts the eyes at the rule's places; upright by the box where there are no eyes."""
    p = rule.parameters
    if face.eyes is None:
        left, top, width, height = face.box
        side = max(width, height) * p["zoom"]
        return Pose(
            left + width / 2, top + height / 2 + p["shift_down"] * height, math.log(side), 0.0
        )
    (x, y), (dx, dy) = face.eyes.mean(0), face.eyes[1] - face.eyes[0]
    side = math.hypot(dx, dy) / p["eye_distance"]
    most = math.radians(p["max_angle"])
    angle = min(max(math.atan2(dy, dx), -most), most)
    down = (0.5 - p["eye_height"]) * side
    return Pose(x - math.sin(angle) * down, y + math.cos(angle) * down, math.log(side), angle)


def alignment_of(pose: Pose, size: int) -> np.ndarray:
    """The similarity from source to crop positions, float32 [2, 3]."""
    scale = size / math.exp(pose.log_side)
    cos, sin = scale * math.cos(pose.angle), scale * math.sin(pose.angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    shift = size / 2 - turn @ (pose.x, pose.y)
    return np.column_stack([turn, shift]).astype(np.float32)


def warp(image: np.ndarray, alignment: np.ndarray, size: int) -> np.ndarray:
    """Cuts the crop out of RGB `image` as uint8 [size, size, 3]; edges repeat where it sticks out.

    Args:
        image: uint8 [h, w, 3].
        alignment: the similarity from source to crop positions, [2, 3].
        size: pixels of the crop's side.
    """
    turn, shift = alignment[:, :2].astype(np.float64), alignment[:, 2].astype(np.float64)
    corners = np.linalg.solve(
        turn, np.array([[0, 0, size, size], [0, size, 0, size]]) - shift[:, None]
    )
    # Interpolation looks at four pixels only: first squares of k by k pixels are averaged.
    k = max(1, round(1 / math.hypot(*turn[0])))
    first, patch = _patch(image, corners, k)
    # OpenCV counts from the centre of the first pixel.
    moved = shift + turn @ first + k * turn @ (0.5, 0.5) - 0.5
    matrix = np.column_stack([k * turn, moved])
    return cv2.warpAffine(
        patch, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _patch(image: np.ndarray, corners: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of `image` that holds `corners` [2, n], reduced k times, and where it begins."""
    ends = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(1)) - 2 * k, 0, ends - 1).astype(int)
    high = np.clip(np.ceil(corners.max(1)) + 2 * k, low + 1, ends).astype(int)
    width, height = np.maximum(1, (high - low) // k)
    if k > 1:  # whole squares only; at most k - 1 pixels of the picture's far edges are left out
        high = np.minimum(high, low + np.multiply((width, height), k))
    patch = image[low[1] : high[1], low[0] : high[0]]
    if k > 1:
        patch = cv2.resize(patch, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    return low, patch


class Crop(NamedTuple):
    """One frame's crop.

    Attributes:
        image: JPEG bytes, or None where the frame is lost.
        loss: why, a key of integrity.DROP_REASONS; "" where it is not.
        box: left, top, width, height of the face in source pixels; of the crop where a rule knows
            the eyes only.
        alignment: float32 [2, 3], the affine map from source to crop positions that was used.
        aligned_by: "eyes" found in this frame, "neighbours" (eyes only in neighbouring frames),
            "box" (no eyes: upright by the face's box), or "none" (by the rule none, and lost).
    """

    image: bytes | None
    loss: str
    box: tuple[float, float, float, float]
    alignment: np.ndarray
    aligned_by: str


@dataclass
class _Seen:
    """A frame of the window; its picture is let go once it is cropped."""

    frame: int
    face: Face | None
    loss: str
    image: np.ndarray | None


def crop_sequence(sequence: RawSequence, rule: CropRule, root: str | Path = "") -> Iterator[Crop]:
    """Crops the frames of one sequence in order, each decoded once.

    Only the pictures that still wait for their neighbours are in memory: half the rule's window.
    Pictures that are no recording are cropped each by itself.

    Args:
        sequence: what to crop.
        rule: how.
        root: the raw tree's folder, which the sources in a table of boxes are relative to.

    Raises:
        UserError: the rule's file or the sequence's landmarks are missing or malformed, or the
            video has lost frames.
    """
    cv2.setNumThreads(0)  # one process per core already; OpenCV's own threads would fight them
    find = finder(rule.name, rule.parameters, rule.file, str(root))
    reach = max(_reaches(rule)) if sequence.recording else 0
    past: deque[_Seen] = deque()
    waiting: deque[_Seen] = deque()
    pictures = read_frames(sequence.pictures)
    for i, (frame, image) in enumerate(zip(sequence.frames, pictures, strict=True)):
        while waiting and waiting[0].frame + reach < frame:
            yield _crop_first(past, waiting, rule, reach)
        face, loss = _look(find, image, place_of(sequence.pictures, i))
        waiting.append(_Seen(frame, face, loss, None if loss else image))
    while waiting:
        yield _crop_first(past, waiting, rule, reach)


def _look(find: Finder, image: np.ndarray | None, place: Place) -> tuple[Face | None, str]:
    """The face, or why there is none: a key of integrity.DROP_REASONS."""
    if image is None:
        return None, "image_unreadable"
    try:
        face = find(image, place)
    except NotInTable:
        return None, "not_in_table"
    return face, "no_face" if face is None else ""


def _reaches(rule: CropRule) -> tuple[int, int]:
    """How many frames away poses are smoothed over, and eyes are taken from."""
    smooth = rule.parameters["smooth_frames"]
    return smooth // 2, rule.parameters.get("eye_frames", smooth) // 2


def _crop_first(past: deque[_Seen], waiting: deque[_Seen], rule: CropRule, reach: int) -> Crop:
    """Crops the first waiting frame, which then becomes past; forgets what is beyond its reach.

    What waits with it is within its reach: the newest frame comes in when all are.
    """
    seen = waiting.popleft()
    while past and past[0].frame < seen.frame - reach:
        past.popleft()
    image, seen.image = seen.image, None
    past.append(seen)
    if image is None:
        return Crop(None, seen.loss, (0.0, 0.0, 0.0, 0.0), np.zeros((2, 3), np.float32), "none")
    window = {s.frame: s.face for s in (*past, *waiting) if s.face is not None}
    pose, aligned_by = smoothed_pose(window, seen.frame, rule)
    alignment = alignment_of(pose, rule.size)
    crop = encode_jpeg(warp(image, alignment, rule.size))
    return Crop(crop, "", seen.face.box or _square(pose), alignment, aligned_by)


def smoothed_pose(window: Mapping[int, Face], frame: int, rule: CropRule) -> tuple[Pose, str]:
    """The median pose of a frame and its neighbours in time, and what the frame is aligned by.

    Args:
        window: frame number -> face, at least `frame`'s own. Faces without eyes take the median
            place that the others' eyes have in their boxes.
        frame: the frame whose pose is asked for.
        rule: the crop rule.
    """
    near, eyes_near = _reaches(rule)
    window = _one_face(window, frame, rule)
    places = [
        _eyes_in_box(face)
        for other, face in window.items()
        if face.box is not None and face.eyes is not None and abs(other - frame) <= eyes_near
    ]
    usual = np.median(places, axis=0) if places else None
    poses = [
        pose_of(_with_eyes(face, usual), rule)
        for other, face in window.items()
        if abs(other - frame) <= near
    ]
    pose = Pose(*np.median(poses, axis=0).tolist())
    if rule.name == "none":
        return pose, "none"
    found = frame in window and window[frame].eyes is not None
    return pose, "eyes" if found else "neighbours" if places else "box"


def _one_face(window: Mapping[int, Face], frame: int, rule: CropRule) -> dict[int, Face]:
    """The faces of `window` that lie where the frame's own does: those across a cut do not.

    Where the frames before and after show a face in one place and this one elsewhere, for a moment,
    the detector was wrong: theirs are kept without its own.
    """
    least, (reach, _) = rule.parameters.get("min_overlap", 0.0), _reaches(rule)
    boxes = {k: face.box or _square(pose_of(face, rule)) for k, face in window.items()}

    def same(k: int, other: int) -> bool:
        return k == other or _overlap(boxes[k], boxes[other]) >= least

    before = max((k for k in boxes if frame - reach <= k < frame), default=frame)
    after = min((k for k in boxes if frame < k <= frame + reach), default=frame)
    astray = same(before, after) and not same(before, frame) and not same(after, frame)
    like = before if astray else frame
    return {k: face for k, face in window.items() if same(k, like)}


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """What two boxes share, by what they cover together."""
    width, height = (
        max(0.0, min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k])) for k in (0, 1)
    )
    shared = width * height
    return shared / max(a[2] * a[3] + b[2] * b[3] - shared, 1e-9)


def _eyes_in_box(face: Face) -> np.ndarray:
    left, top, width, _ = face.box
    return (face.eyes - (left, top)) / width


def _with_eyes(face: Face, places: np.ndarray | None) -> Face:
    if face.eyes is not None or places is None:
        return face
    left, top, width, _ = face.box
    return face._replace(eyes=places * width + (left, top))


def _square(pose: Pose) -> tuple[float, float, float, float]:
    side = math.exp(pose.log_side)
    return pose.x - side / 2, pose.y - side / 2, side, side


def find_and_crop(
    image: np.ndarray, rule: CropRule, path: str = "", root: str | Path = ""
) -> np.ndarray | None:
    """The face of a single picture as uint8 [size, size, 3], or None: what `predict` does.

    Args:
        image: RGB uint8 [h, w, 3].
        rule: how to crop.
        path: the picture's file, where the rule reads a table.
        root: the folder that the sources in a table of boxes are relative to.

    Raises:
        NotInTable: the rule's table has no row for the picture.
        UserError: the rule's file or the picture's landmarks are missing or malformed.
    """
    face = finder(rule.name, rule.parameters, rule.file, str(root))(image, Place(path))
    if face is None:
        return None
    return warp(image, alignment_of(pose_of(face, rule), rule.size), rule.size)
