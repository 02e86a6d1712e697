import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vlfau_jax.data.crop import mediapipe
from vlfau_jax.data.crop.mediapipe import MediaPipe
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

RULE = MediaPipe(64, {"min_score": 0.5}, "gone.tflite")


def test_mediapipes_results_become_boxes_and_eyes():
    points = [SimpleNamespace(x=0.5, y=0.5) for _ in range(478)]
    points[10], points[152] = SimpleNamespace(x=0.4, y=0.1), SimpleNamespace(x=0.6, y=0.9)
    for k, x, y in ((33, 0.3, 0.4), (133, 0.36, 0.42), (362, 0.6, 0.4), (263, 0.7, 0.44)):
        points[k] = SimpleNamespace(x=x, y=y)
    np.testing.assert_allclose(
        mediapipe._from_landmarker(points), [[0.3, 0.1], [0.7, 0.9], [0.33, 0.41], [0.65, 0.42]]
    )
    face = SimpleNamespace(
        bounding_box=SimpleNamespace(origin_x=20, origin_y=10, width=60, height=50),
        keypoints=[SimpleNamespace(x=0.3, y=0.4), SimpleNamespace(x=0.6, y=0.45), None],
    )
    np.testing.assert_allclose(
        mediapipe._from_detector(face, (100, 200, 3)),
        [[0.1, 0.1], [0.4, 0.6], [0.3, 0.4], [0.6, 0.45]],
    )


def test_mediapipe_takes_the_largest_face(monkeypatch):
    small = np.array([[0.1, 0.1], [0.2, 0.2], [0.12, 0.12], [0.18, 0.12]])
    large = np.array([[0.4, 0.2], [0.8, 0.8], [0.7, 0.4], [0.5, 0.45]])
    monkeypatch.setattr(
        mediapipe, "_detector", lambda file, score: lambda image: [(small, 0.9), (large, 0.8)]
    )
    face = RULE.find(np.zeros((100, 200, 3), np.uint8), Place(""), "")
    np.testing.assert_allclose(face.box, (80, 20, 80, 60))
    np.testing.assert_allclose(face.eyes, [[100, 45], [140, 40]])
    assert (face.confidence, face.found) == (0.8, 2)
    monkeypatch.setattr(mediapipe, "_detector", lambda file, score: lambda image: [])
    assert RULE.find(np.zeros((9, 9, 3), np.uint8), Place(""), "") is None


def test_without_the_package_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(UserError, match="pip install --no-deps mediapipe") as error:
        RULE.find(np.zeros((9, 9, 3), np.uint8), Place(""), "")
    assert "\n" not in str(error.value)
