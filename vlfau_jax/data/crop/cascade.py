"""The crop rule cascade: OpenCV's Haar cascades find the face and its eyes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, ClassVar

import cv2
import numpy as np

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.crop.face import Face, distinct
from vlfau_jax.data.crop.rule import CropRule, kept_by_each_thread
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.raw.frames import Place

# A cascade finds a face at many neighbouring places and sizes, and OpenCV joins them to one box;
# what is no face is found at few. So n joined detections are a confidence of n / (n + HALF): 0.29
# for the 4 that are the least, 0.8 for the median of 426 upright rendered faces (39 joined). Six in
# a hundred of those have fewer than 15 (0.6); of the 95 faces found in the same pictures upside
# down none has 15, and the median has 6. The weights of detectMultiScale3 tell them apart less
# well, and its boxes are others.
HALF = 10
_WINDOW = 20  # pixels of the faces with which the cascade was trained


class Cascade(CropRule):
    """OpenCV's Haar cascades find the face and the eyes.

    Source: Viola and Jones, Rapid Object Detection using a Boosted Cascade of Simple Features,
    CVPR 2001.
    """

    name = "cascade"
    version = 2
    SURE = 0.6
    # OpenCV's alt2 cascade found the face in all of 400 rendered test frames, the default one
    # missed two. A cascade's box ends at the lower lip: enlarged by a tenth and moved down a
    # little, it contains everything from the brows to a dropped chin. Faces that fill two fifths
    # of the shorter side are searched first, in half the time; only a picture without one is
    # searched for smaller ones.
    # Of OpenCV's eye cascades haarcascade_eye found both eyes most often: in 295 of 324 rendered
    # faces of 160 pixels (eye_tree_eyeglasses in 253, in twice the time; the pair of 2splits in
    # 274, with twice the spread), the eyes' angle to 1.0 degrees, their distance to 2.6 %. Its
    # boxes lie a little left of and above the pupil: `eye_shift`, in eye distances, corrects that.
    # Closed or missed eyes are taken from `eye_frames` frames around, a second of BP4D, so that
    # twelve pictures wait in memory.
    PARAMETERS: ClassVar[dict[str, Any]] = {
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
        **EYE_POSITIONS,
        **SMOOTHING,
    }

    def find(self, image: np.ndarray, place: Place, root: str) -> Face | None:
        p = self.parameters
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = _reduced(gray, p)
        for min_face in p["min_face"]:
            smallest = round(min_face * min(small.shape))
            found, joined = _search(small, smallest, p)
            if len(found):
                break
        else:
            return None
        largest = int(np.argmax(found[:, 2]))
        return _face(gray, small, found[largest], joined[largest], len(found), p)

    def find_all(self, image: np.ndarray, place: Place, root: str) -> list[Face]:
        first = self.find(image, place, root)
        if first is None:
            return []
        p = self.parameters
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = _reduced(gray, p)
        boxes, joined = _search(small, round(min(p["min_face"]) * min(small.shape)), p)
        others = (_face(gray, small, box, n, 1, p) for box, n in zip(boxes, joined, strict=True))
        return distinct([first, *others])

    def count(self, image: np.ndarray, face: Face) -> int:
        p = self.parameters
        small = _reduced(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), p)
        found, _ = _search(small, round(min(p["min_face"]) * min(small.shape)), p)
        return max(face.found, len(found))

    def smallest(self, image: np.ndarray) -> float:
        return max(_WINDOW, min(self.parameters["min_face"]) * min(image.shape[:2]))


def _face(
    gray: np.ndarray,
    small: np.ndarray,
    found: np.ndarray,
    joined: int,
    number: int,
    p: Mapping[str, Any],
) -> Face:
    """The face of one box that was found in the reduced picture, of `joined` detections."""
    box = tuple((found * (gray.shape[0] / small.shape[0])).tolist())
    confidence = joined / (joined + HALF)
    return Face(box, _find_eyes(gray, box, p), float(confidence), number)


def _reduced(gray: np.ndarray, p: Mapping[str, Any]) -> np.ndarray:
    scale = min(1.0, p["search_side"] / min(gray.shape))
    return cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _search(
    small: np.ndarray, smallest: int, p: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The faces' boxes [k, 4], and of how many detections each was joined."""
    found, joined = _classifier(p["face_cascade"]).detectMultiScale2(
        small,
        scaleFactor=p["scale_factor"],
        minNeighbors=p["min_neighbors"],
        minSize=(smallest, smallest),
    )
    return np.reshape(found, (-1, 4)), np.ravel(joined)


@kept_by_each_thread
def _classifier(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(cv2.data.haarcascades + name)


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
    found, _, weights = _classifier(p["eye_cascade"]).detectMultiScale3(
        small,
        p["eyes_scale_factor"],
        p["eyes_min_neighbors"],
        minSize=(smallest, smallest),
        maxSize=(largest, largest),
        outputRejectLevels=True,
    )
    positions = [((fx + fw / 2) / scale + x, (fy + fh / 2) / scale + y) for fx, fy, fw, fh in found]
    eyes = _best_pair(positions, np.ravel(weights), left + width / 2, width, p)
    if eyes is None:
        return None
    across = eyes[1] - eyes[0]
    right, down = p["eye_shift"]
    return eyes + right * across + down * np.array([-across[1], across[0]])


def _best_pair(
    positions: Sequence[tuple[float, float]],
    weights: Sequence[float],
    middle: float,
    width: float,
    p: Mapping[str, Any],
) -> np.ndarray | None:
    """The two detections with the greatest weights that can be the eyes of a face of `width`.

    They lie on either side of `middle`, at a distance and on a line that the parameters allow.
    """
    nearest, furthest = (share * width for share in p["eyes_apart"])
    best, most = None, -math.inf
    for i, j in product(range(len(positions)), repeat=2):
        (x, y), (x2, y2) = positions[i], positions[j]
        fits = (
            x < middle <= x2
            and nearest <= math.hypot(x2 - x, y2 - y) <= furthest
            and abs(y2 - y) <= p["eyes_slope"] * (x2 - x)
        )
        if fits and weights[i] + weights[j] > most:
            best, most = np.array([positions[i], positions[j]]), weights[i] + weights[j]
    return best
