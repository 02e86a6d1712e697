from dataclasses import replace

import numpy as np
import pytest

from tests.tiny import noise_set
from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.read.dataset import combine, open_dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.regions import FaceRegions
from vlfau_jax.data.set_record import Rendering
from vlfau_jax.data.synthetic.jobs import VERSION
from vlfau_jax.regions import template

OPTIONS = DataOptions(fold=0, aus=(1, 12))


def regions_of(**changes):
    return FaceRegions(combine((replace(noise_set(), **changes),), OPTIONS))


def test_faces_aligned_by_their_eyes_have_the_priors():
    crop = {"name": "cascade", "digest": "0" * 16, "parameters": EYE_POSITIONS, "size": 48}
    found = regions_of(crop=crop)
    assert found.known and not found.exact
    np.testing.assert_array_equal(found.of(3), found.of(7))
    expected = np.stack([template(au, EYE_POSITIONS, 48) for au in (1, 12)])
    np.testing.assert_array_equal(found.of(3), expected)


def test_other_faces_have_none():
    assert not regions_of(crop={"name": "none", "digest": "0" * 16, "parameters": {}}).known


@pytest.mark.parametrize(("version", "exact"), [(VERSION, True), (VERSION + 1, False)])
def test_only_this_renderers_faces_are_exact(version, exact):
    rendering = Rendering(version=version, seed=0, size=64, frames=5)
    assert regions_of(rendering=rendering).exact == exact


def test_rendered_faces_have_their_own(prepared):
    dataset = open_dataset(DataOptions(data_dir=str(prepared), fold=1))
    found = FaceRegions(dataset)
    assert found.exact
    first, other = (found.of(row) for row in dataset.rows(["F004"])[[0, -1]])
    assert first.shape == (12, 64, 64) and first.dtype == bool
    assert (first != other).any()
    for au, region in zip(dataset.aus, first, strict=True):
        prior = template(au, dataset.crop["parameters"], 64)
        assert (region & prior).any(), au
