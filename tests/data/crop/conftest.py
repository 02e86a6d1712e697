import cv2
import numpy as np
import pytest

from tests.data.rendered import true_eyes
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.scenes import draw_sequence


@pytest.fixture(scope="package")
def rendered() -> list[tuple[np.ndarray, np.ndarray]]:
    """Rendered heads of 160 pixels of twelve subjects, and where their eyes are."""
    noise, out = np.random.default_rng(0), []
    for k in range(24):
        face, scene = draw_identity(0, f"F{k % 12:03}"), draw_sequence(BP4D_BEHAVIOUR, (0, k), 1)
        out.append((scene.picture(face, 0, 160, noise), true_eyes(face, scene.poses[0], 160)))
    return out


@pytest.fixture
def picture(rng) -> np.ndarray:
    """Blurred noise, RGB uint8 [90, 120, 3]."""
    return cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), np.uint8), (9, 9), 3)
