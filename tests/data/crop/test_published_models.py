"""The models that their authors publish, on rendered faces, where they are given."""

import os

import numpy as np
import pytest

from tests.data.crop.positions import eye_errors
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "variable"), [("yunet", "VLFAU_YUNET_MODEL"), ("mediapipe", "VLFAU_MEDIAPIPE_MODEL")]
)
def test_the_published_model_finds_rendered_eyes(name, variable, rendered, tmp_path):
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: give the path of {name}'s published model to run this")
    errors = eye_errors(rendered, crop_rule(name, 64, os.environ[variable]))
    assert len(errors) >= 2 * 21
    assert np.mean(errors) < 0.08 and max(errors) < 0.2
    (tmp_path / "bad.task").write_bytes(b"no model")
    bad = crop_rule(name, 64, str(tmp_path / "bad.task"))
    with pytest.raises(UserError, match="expected"):
        bad.find(rendered[0][0], Place(""), "")
