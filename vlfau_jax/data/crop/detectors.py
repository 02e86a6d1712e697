"""Finding the face and its eyes in a picture: one way for each rule of rules.py.

Positions count from the picture's top left corner: the first pixel's centre is at (0.5, 0.5).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import product
from typing import Any, NamedTuple

import cv2
import numpy as np

from vlfau_jax.data.crop.tables import find_in_boxes, find_in_landmarks
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError


class Face(NamedTuple):
    """A face in source pixels; at least one of the two is known.

    Attributes:
        box: left, top, width, height, or None.
        eyes: float64 [2, 2], x and y of the eye at the picture's left, then of the other, or None.
    """

    box: tuple[float, float, float, float] | None
    eyes: np.ndarray | None


Finder = Callable[[np.ndarray, Place], Face | None]


def finder(name: str, parameters: Mapping[str, Any], file: str = "", root: str = "") -> Finder:
    """What finds the largest face of a picture RGB uint8 [h, w, 3] by the rule called `name`.

    Args:
        name: a key of faces.RULES.
        parameters: the rule's.
        file: the rule's model or table, where it has one.
        root: the folder that the sources in a table of boxes are relative to.

    What it returns raises NotInTable where a table has no row for the picture.
    """
    finders: dict[str, Finder] = {
        "cascade": lambda image, _: find_by_cascade(image, parameters),
        "yunet": lambda image, _: find_by_yunet(image, parameters, file),
        "mediapipe": lambda image, _: find_by_mediapipe(image, parameters, file),
        "landmarks": lambda image, place: _listed(image, eyes=find_in_landmarks(place)),
        "box": lambda image, place: _listed(image, box=find_in_boxes(place, file, root)),
        "none": lambda image, _: _centre(image),
    }
    return finders[name]


def _centre(image: np.ndarray) -> Face:
    height, width = image.shape[:2]
    side = min(height, width)
    return Face(((width - side) / 2, (height - side) / 2, side, side), None)


def _listed(
    image: np.ndarray,
    box: tuple[float, float, float, float] | None = None,
    eyes: np.ndarray | None = None,
) -> Face | None:
    """A face that somebody else found; None where they found none, or outside the picture."""
    if box is None and eyes is None:
        return None
    x, y = (box[0] + box[2] / 2, box[1] + box[3] / 2) if box else eyes.mean(0)
    height, width = image.shape[:2]
    return Face(box, eyes) if 0 <= x <= width and 0 <= y <= height else None


@cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(cv2.data.haarcascades + name)


def find_by_cascade(image: np.ndarray, p: Mapping[str, Any]) -> Face | None:
    """The largest face by a Haar cascade (Viola and Jones, CVPR 2001), its eyes by another."""
    height, width = image.shape[:2]
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, p["search_side"] / min(height, width))
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for min_face in p["min_face"]:
        smallest = round(min_face * min(small.shape))
        found = _cascade(p["face_cascade"]).detectMultiScale(
            small, p["scale_factor"], p["min_neighbors"], minSize=(smallest, smallest)
        )
        if len(found):
            break
    else:
        return None
    box = tuple((max(found, key=lambda face: face[2]) * (height / small.shape[0])).tolist())
    return Face(box, _find_eyes(gray, box, p))


def _find_eyes(
    gray: np.ndarray, box: tuple[float, float, float, float], p: Mapping[str, Any]
) -> np.ndarray | None:
    """The two eyes [2, 2] of the face in `box`, None if no two detections can be its eyes."""
    left, top, width, height = box
    x, y = max(0, round(left)), max(0, round(top + p["eyes_top"] * height))
    patch = gray[y : round(top + p["eyes_bottom"] * height), x : round(left + width)]
    scale = p["eyes_width"] / width
    size = [max(1, round(scale * n)) for n in patch.shape[::-1]]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(patch, size, interpolation=method)
    smallest, largest = (round(share * p["eyes_width"]) for share in p["eye_size"])
    found, _, weights = _cascade(p["eye_cascade"]).detectMultiScale3(
        small,
        p["eyes_scale_factor"],
        p["eyes_min_neighbors"],
        minSize=(smallest, smallest),
        maxSize=(largest, largest),
        outputRejectLevels=True,
    )
    places = [((fx + fw / 2) / scale + x, (fy + fh / 2) / scale + y) for fx, fy, fw, fh in found]
    eyes = _best_pair(places, np.ravel(weights), left + width / 2, width, p)
    if eyes is None:
        return None
    across = eyes[1] - eyes[0]
    right, down = p["eye_shift"]
    return eyes + right * across + down * np.array([-across[1], across[0]])


def _best_pair(
    places: Sequence[tuple[float, float]],
    weights: Sequence[float],
    middle: float,
    width: float,
    p: Mapping[str, Any],
) -> np.ndarray | None:
    """The surest two on either side of `middle` that lie as the eyes of a face of `width` can."""
    nearest, furthest = (share * width for share in p["eyes_apart"])
    best, sure = None, -math.inf
    for i, j in product(range(len(places)), repeat=2):
        (x, y), (x2, y2) = places[i], places[j]
        fits = (
            x < middle <= x2
            and nearest <= math.hypot(x2 - x, y2 - y) <= furthest
            and abs(y2 - y) <= p["eyes_slope"] * (x2 - x)
        )
        if fits and weights[i] + weights[j] > sure:
            best, sure = np.array([places[i], places[j]]), weights[i] + weights[j]
    return best


def _from_keypoints(box: Sequence[float], eyes: np.ndarray) -> Face | None:
    """A face whose detector names the person's eyes; None if they fall together.

    The rules turn heads by less than a right angle: the eye further left is the picture's left one.
    """
    eyes = np.asarray(eyes, np.float64)
    eyes = eyes[np.argsort(eyes[:, 0], kind="stable")]
    if not np.isfinite(eyes).all() or math.dist(*eyes) < 1:
        return None
    return Face(tuple(float(v) for v in box), eyes)


@lru_cache(maxsize=2)
def _yunet(file: str, score: float, overlap: float) -> cv2.FaceDetectorYN:
    try:
        return cv2.FaceDetectorYN.create(file, "", (32, 32), score, overlap)
    except cv2.error as error:
        raise UserError(
            f"--crop_file={file}: not YuNet's ONNX model; expected OpenCV Zoo's "
            "face_detection_yunet_2023mar.onnx"
        ) from error


def find_by_yunet(image: np.ndarray, p: Mapping[str, Any], file: str) -> Face | None:
    """The largest face by YuNet (Wu et al., Machine Intelligence Research 2023).

    Raises:
        UserError: `file` is not its model.
    """
    detector = _yunet(file, p["min_score"], p["max_overlap"])
    scale = min(1.0, p["search_side"] / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    detector.setInputSize(small.shape[1::-1])
    try:
        _, found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise UserError(
            f"--crop_file={file}: an ONNX model that gives no faces; expected OpenCV Zoo's "
            "face_detection_yunet_2023mar.onnx"
        ) from error
    if found is None:
        return None
    # Left, top, width, height; x and y of the person's right and left eye, nose, mouth; score.
    face = max(found, key=lambda row: row[2] * row[3]).astype(np.float64) / scale
    return _from_keypoints(face[:4], face[4:8].reshape(2, 2))


# FaceLandmarker's 478 points: the corners of the person's right eye, then of the left.
_EYE_CORNERS = ((33, 133), (362, 263))


@lru_cache(maxsize=2)
def _mediapipe(file: str, score: float) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Gives each face of a picture as points [k, 2], shares of its width and height.

    The first two points are the box's corners, then come the two eyes.
    """
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError as error:
        raise UserError(
            f"--crop=mediapipe needs a package that is not there ({error}); `pip install --no-deps "
            "mediapipe` and `pip install absl-py certifi flatbuffers matplotlib sounddevice`, for "
            "with its dependencies it brings an OpenCV that has no cascades"
        ) from error
    landmarks = file.endswith(".task")
    base = BaseOptions(model_asset_path=file)
    try:
        if landmarks:
            detector = vision.FaceLandmarker.create_from_options(
                vision.FaceLandmarkerOptions(
                    base_options=base, num_faces=4, min_face_detection_confidence=score
                )
            )
        else:
            detector = vision.FaceDetector.create_from_options(
                vision.FaceDetectorOptions(base_options=base, min_detection_confidence=score)
            )
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"--crop_file={file}: MediaPipe cannot use it ({' '.join(str(error).split())}); "
            "expected a FaceDetector's .tflite or a FaceLandmarker's .task"
        ) from error

    # Collected at the interpreter's end, it prints a traceback: one reference outlives that.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(detector))

    def detect(image: np.ndarray) -> list[np.ndarray]:
        result = detector.detect(mediapipe.Image(mediapipe.ImageFormat.SRGB, image))
        if landmarks:
            return [_from_landmarker(face) for face in result.face_landmarks]
        return [_from_detector(face, image.shape) for face in result.detections]

    return detect


def _from_landmarker(points: Sequence[Any]) -> np.ndarray:
    every = np.array([(point.x, point.y) for point in points])
    return np.array(
        [every.min(0), every.max(0), *(every[list(eye)].mean(0) for eye in _EYE_CORNERS)]
    )


def _from_detector(face: Any, shape: tuple[int, ...]) -> np.ndarray:
    box = face.bounding_box
    corner = np.array([box.origin_x, box.origin_y], np.float64)
    size = (shape[1], shape[0])
    eyes = [(point.x, point.y) for point in face.keypoints[:2]]
    far = corner + np.array([box.width, box.height])
    return np.array([corner / size, far / size, *eyes])


def find_by_mediapipe(image: np.ndarray, p: Mapping[str, Any], file: str) -> Face | None:
    """The largest face by MediaPipe's FaceDetector (.tflite) or FaceLandmarker (.task).

    Raises:
        UserError: the package is missing, or `file` is not a model of these tasks.
    """
    size = image.shape[1::-1]
    faces = [points * size for points in _mediapipe(file, p["min_score"])(image)]
    if not faces:
        return None
    points = max(faces, key=lambda face: np.prod(face[1] - face[0]))
    return _from_keypoints((*points[0], *(points[1] - points[0])), points[2:])
