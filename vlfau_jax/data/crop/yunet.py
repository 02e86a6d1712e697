"""The crop rule yunet: OpenCV's YuNet finds the face and its eyes."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.crop.face import Face, face_from_keypoints
from vlfau_jax.data.crop.rule import CropRule, kept_by_each_thread
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

_SMALLEST = 10  # pixels: the least of which its authors report that it finds faces


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
        p = self.parameters
        detector = _detector(self.file, p["min_score"], p["max_overlap"])
        scale = min(1.0, p["search_side"] / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        detector.setInputSize(small.shape[1::-1])
        try:
            _, found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise UserError(
                f"--crop_file={self.file}: an ONNX model that gives no faces; expected OpenCV "
                "Zoo's face_detection_yunet_2023mar.onnx"
            ) from error
        if found is None:
            return None
        # Left, top, width, height; x and y of the person's right and left eye, nose, mouth; score.
        face = max(found, key=lambda row: row[2] * row[3]).astype(np.float64) / scale
        score = min(1.0, float(face[14] * scale))
        return face_from_keypoints(face[:4], face[4:8].reshape(2, 2), score, len(found))

    def smallest(self, image: np.ndarray) -> float:
        scale = min(1.0, self.parameters["search_side"] / max(image.shape[:2]))
        return _SMALLEST / scale


@kept_by_each_thread
def _detector(file: str, score: float, overlap: float) -> cv2.FaceDetectorYN:
    try:
        return cv2.FaceDetectorYN.create(file, "", (32, 32), score, overlap)
    except cv2.error as error:
        raise UserError(
            f"--crop_file={file}: not YuNet's ONNX model; expected OpenCV Zoo's "
            "face_detection_yunet_2023mar.onnx"
        ) from error
