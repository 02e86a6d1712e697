"""The crop rule mediapipe: MediaPipe's FaceDetector or FaceLandmarker finds face and eyes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.crop.face import Face, distinct, face_from_keypoints
from vlfau_jax.data.crop.rule import CropRule, kept_by_each_thread
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

# FaceLandmarker's 478 points: the corners of the person's right eye, then of the left.
_EYE_CORNERS = ((33, 133), (362, 263))

_Found = tuple[np.ndarray, float | None]  # points and score


class MediaPipe(CropRule):
    """MediaPipe's FaceDetector (.tflite) or FaceLandmarker (.task) finds the face and the eyes."""

    name = "mediapipe"
    version = 1
    PARAMETERS: ClassVar[dict[str, Any]] = {
        "min_score": 0.5,
        "max_angle": 45.0,
        **EYE_POSITIONS,
        **SMOOTHING,
    }
    SURE = 0.9
    FILE = "a MediaPipe FaceDetector's .tflite or FaceLandmarker's .task"

    def find(self, image: np.ndarray, place: Place, root: str) -> Face | None:
        faces = self._faces(image)
        return faces[0] if faces else None

    def find_all(self, image: np.ndarray, place: Place, root: str) -> list[Face]:
        return distinct([face for face in self._faces(image) if face is not None])

    def _faces(self, image: np.ndarray) -> list[Face | None]:
        """The faces, the largest first; None for one whose eyes coincide."""
        size = image.shape[1::-1]
        detect = _detector(self.file, self.parameters["min_score"])
        faces = [(points * size, score) for points, score in detect(image)]
        faces.sort(key=lambda face: np.prod(face[0][1] - face[0][0]), reverse=True)
        return [
            face_from_keypoints(
                (*points[0], *(points[1] - points[0])), points[2:], score, len(faces)
            )
            for points, score in faces
        ]


@kept_by_each_thread
def _detector(file: str, score: float) -> Callable[[np.ndarray], list[_Found]]:
    """A function from a picture to points [4, 2] of each face, as shares of width and height.

    The first two points are the box's top left and bottom right corners, then come the two eyes.
    With them comes the face's score, which FaceLandmarker does not give.
    """
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError as error:
        raise UserError(
            f"--crop=mediapipe needs a package that is not installed ({error}); `pip install "
            "--no-deps mediapipe` and `pip install absl-py certifi flatbuffers matplotlib "
            "sounddevice`, because its dependencies include an OpenCV without cascades"
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

    # If it is collected when the interpreter ends, it prints a traceback: a reference that is
    # never dropped prevents that.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(detector))

    def detect(image: np.ndarray) -> list[_Found]:
        result = detector.detect(mediapipe.Image(mediapipe.ImageFormat.SRGB, image))
        if landmarks:
            return [(_from_landmarker(face), None) for face in result.face_landmarks]
        return [
            (_from_detector(face, image.shape), float(face.categories[0].score))
            for face in result.detections
        ]

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
