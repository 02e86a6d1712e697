"""The terms of attention maps: each equals its formula, in value and gradient, and has a weight."""

from dataclasses import replace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.read import batch as batches
from vlfau_jax.data.read.transforms import augment, draw_view
from vlfau_jax.errors import UserError
from vlfau_jax.losses import maps
from vlfau_jax.losses.joint import (
    OF_MAPS,
    BatchTotals,
    ObjectiveOptions,
    joint_loss,
    joint_weights,
    total,
)
from vlfau_jax.model.vlfau import Outputs
from vlfau_jax.regions import templates

AUS = (1, 6, 12, 17)
B, N, T, H, W = 5, len(AUS), 6, 7, 6
SPEC = batches.spec(batch_size=B, image_size=16, units=N, max_local_tokens=T, max_global_tokens=4)
REGIONS = templates(AUS, {"parameters": EYE_POSITIONS})
REGIONS[3] = 0  # a unit without a region
ONLY = dict.fromkeys(("dice_weight", "local_weight", "global_weight"), 0.0)


def make(rng):
    """A batch with an invalid row and unknown labels, and maps in float64."""
    batch = batches.fake(SPEC, rng, vocabulary_size=9, unknown_rate=0.3)
    for key in ("au", "au_known", "valid", "local_tokens", "global_tokens"):
        batch[key][-1] = 0
    attention = rng.random((B, N, T - 1, H, W)) + 0.01
    return batch, {
        "spatial_maps": rng.uniform(0.01, 0.99, (B, N, H, W)),
        "local_attention": attention / attention.sum((-1, -2), keepdims=True),
    }


def terms(given, batch, options, branches=None, batch_totals=None, regions=REGIONS):
    outputs = Outputs(au_logits=jnp.zeros((B, N)), stem=jnp.zeros(()), **given)
    return joint_loss(
        outputs,
        {name: jnp.asarray(value) for name, value in batch.items()},
        class_weights=jnp.ones(N),
        options=options,
        branches=branches,
        regions=None if regions is None else jnp.asarray(regions),
        batch_totals=batch_totals,
    )


def options(**weights):
    return ObjectiveOptions(**ONLY | {f"{name}_weight": w for name, w in weights.items()})


def shares_by_hand(region, view, grid):
    """Share of each cell that a region covers, from the overlaps of intervals, float64."""
    left, top, side = view.astype(np.float64)
    s = len(region)

    def overlaps(first, cells):
        found = np.zeros((cells, s))
        for i in range(cells):
            a, b = first + side * i / cells, first + side * (i + 1) / cells
            for j in range(s):
                found[i, j] = max(0.0, min(b, (j + 1) / s) - max(a, j / s)) / (b - a)
        return found

    return overlaps(top, grid[0]) @ region @ overlaps(left, grid[1]).T


def by_hand(given, batch):
    """Every term's losses in loops, from the formulas."""
    found = {name: [] for name in OF_MAPS}
    for b in np.flatnonzero(batch["valid"]):
        for i in range(N):
            s = given["spatial_maps"][b, i]
            p = s / s.sum()
            found["map_entropy"].append(-(p * np.log(p)).sum() / np.log(H * W))
            differences = [*np.abs(np.diff(s, axis=0)).flat, *np.abs(np.diff(s, axis=1)).flat]
            found["map_variation"].append(np.mean(differences))
            if not REGIONS[i].any():
                continue
            share = shares_by_hand(REGIONS[i], batch["view"][b], (H, W))
            inside = share >= 0.5 * share.max()
            closed = np.log(1 - s[~inside]).mean()
            found["map_region"].append(-np.log(s[inside].mean()) - closed)
            if batch["au_known"][b, i]:
                words = batch["local_tokens"][b, i, 1:] != 0
                a = given["local_attention"][b, i][words].mean(0)
                found["word_region"].append(-np.log(a[inside].sum() / a.sum()))
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    top=st.integers(20, 28),  # what every view shows
    height=st.integers(8, 16),
    edge=st.integers(4, 26),
    max_area=st.sampled_from((1.0, 2.0, 4.0)),
)
def test_regions_follow_the_picture_of_any_view(seed, top, height, edge, max_area):
    """A region is painted on the face: where the view's picture is white, its cells are inside."""
    region = np.zeros((1, 64, 64), np.float32)
    region[0, top : top + height, edge:-edge] = 1  # as wide left as right: views are mirrored
    face = np.repeat(np.uint8(255 * region[0])[..., None], 3, -1)
    out, place = np.empty((70, 70, 3), np.uint8), np.empty(3, np.float32)
    rng = np.random.default_rng(seed)
    view = draw_view(rng, min_area=0.5, flip=True, jitter=0, max_area=max_area)
    augment(face, view, out, place)
    inside = np.asarray(maps.cells_inside(jnp.asarray(region), place[None], (7, 7)))[0, 0]
    white = out[..., 0].reshape(7, 10, 7, 10).mean((1, 3)) / 255
    assert white.max() > 0.2 and inside.any()
    assert inside[white > 0.7 * white.max()].all()
    assert not inside[white < 0.3 * white.max()].any()


def test_every_term_equals_its_formula(rng):
    batch, given = make(rng)
    batch["view"][0] = (0, 0, 1)
    found = terms(given, batch, options(**dict.fromkeys(OF_MAPS, 1.0)))
    for name, losses in by_hand(given, batch).items():
        np.testing.assert_allclose(found[name].total, np.sum(losses), rtol=1e-4, err_msg=name)
        assert found[name].weight == len(losses) > 0, name


@pytest.mark.parametrize("name", OF_MAPS)
def test_every_gradient_is_its_formulas(rng, name):
    batch, given = make(rng)
    key = "local_attention" if name == "word_region" else "spatial_maps"
    grad = np.asarray(
        jax.grad(lambda x: terms(given | {key: x}, batch, options(**{name: 1.0}))[name].mean())(
            jnp.asarray(given[key])
        )
    )
    assert not grad[-1].any(), "of a row that is not valid"
    value = lambda x: np.mean(by_hand(given | {key: x}, batch)[name])  # noqa: E731
    direction = rng.normal(size=given[key].shape)
    step = 1e-5 * direction
    slope = (value(given[key] + step) - value(given[key] - step)) / 2e-5
    np.testing.assert_allclose((grad * direction).sum(), slope, rtol=2e-3)


@pytest.mark.parametrize("name", OF_MAPS)
def test_each_weight_adds_its_term_and_nothing_else(rng, name):
    batch, given = make(rng)
    plain = terms(given, batch, options())
    weighed = options(**{name: 0.25})
    found = terms(given, batch, weighed)
    assert found.keys() == plain.keys() | {name}
    assert weighed.of_maps == (name,)
    assert options().of_maps == () == options().of_regions
    added = total(found, weighed) - total(plain, options())
    np.testing.assert_allclose(added, 0.25 * found[name].mean(), rtol=1e-4)
    assert found[name].mean() > 0


def test_branches_pick_their_regions_and_words(rng):
    batch, given = make(rng)
    chosen = np.array([2, 0])
    some = given | {"local_attention": given["local_attention"][:, chosen]}
    both = options(map_region=1.0, word_region=1.0)
    found = terms(some, batch, both, jnp.asarray(chosen))
    only = {key: value.copy() for key, value in batch.items()}
    only["au_known"][:, 1] = False
    expected = terms(given, only, both)
    np.testing.assert_allclose(found["word_region"], expected["word_region"], rtol=1e-5)
    np.testing.assert_array_equal(found["map_region"], expected["map_region"])


def test_parts_of_a_batch_add_up(rng):
    batch, given = make(rng)
    every = options(**dict.fromkeys(OF_MAPS, 1.0))
    whole = terms(given, batch, every)
    device = {name: jnp.asarray(value) for name, value in batch.items()}
    weights = joint_weights(device, regions=jnp.asarray(REGIONS))
    for name in OF_MAPS:
        assert weights[name] == whole[name].weight, name
    part = terms(given, batch, every, batch_totals=BatchTotals(weights | {"au": jnp.ones(())}))
    for name in OF_MAPS:
        np.testing.assert_array_equal(part[name], whole[name])


def test_a_model_without_words_leaves_their_term_out(rng):
    batch, given = make(rng)
    found = terms(given | {"local_attention": None}, batch, options(word_region=1.0))
    assert "word_region" not in found


def test_where_regions_are_unknown_their_terms_are_left_out(rng):
    batch, given = make(rng)
    found = terms(given, batch, options(**dict.fromkeys(OF_MAPS, 1.0)), regions=None)
    assert found.keys() == {"au", "map_entropy", "map_variation"}


def test_attention_inside_costs_nothing_and_even_attention_its_share():
    inside = np.zeros((4, 5), bool)
    inside[1, 2:4] = True
    heat = np.where(inside, 0.3, 0.0)
    assert abs(maps.region(jnp.asarray(heat), inside)) < 1e-6
    assert abs(maps.open_inside(jnp.asarray(inside, jnp.float32), jnp.asarray(inside))) < 1e-5
    half = maps.open_inside(jnp.full((4, 5), 0.5), jnp.asarray(inside))
    np.testing.assert_allclose(half, 2 * np.log(2), rtol=1e-5)
    even = maps.region(jnp.full((4, 5), 0.3), inside)
    np.testing.assert_allclose(even, np.log(20 / 2), rtol=1e-5)
    np.testing.assert_allclose(maps.entropy(jnp.full((4, 5), 0.3)), 1, rtol=1e-5)
    one = np.zeros((4, 5), np.float32)
    one[0, 0] = 1
    assert abs(maps.entropy(jnp.asarray(one))) < 1e-5
    assert maps.variation(jnp.full((4, 5), 0.3)) == 0
    np.testing.assert_allclose(maps.variation(jnp.asarray(one)), 2 / (3 * 5 + 4 * 4))


def test_a_saturated_map_still_learns_to_close():
    """Where -log of the share inside would leave it as it is."""
    inside = np.zeros((7, 7), bool)
    inside[3, 3] = True

    def gradient(loss):
        return jax.grad(lambda z: loss(jax.nn.sigmoid(z), jnp.asarray(inside)))(
            jnp.full((7, 7), 8.0)
        )[0, 0]

    assert gradient(maps.open_inside) * 48 > 0.9
    assert gradient(maps.region) * 49 < 0.01


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_region_that_is_nowhere_or_everywhere_is_finite(everywhere):
    inside = jnp.full((3, 3), everywhere)
    loss, grad = jax.value_and_grad(maps.open_inside)(jnp.full((3, 3), 0.5), inside)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-5)
    assert np.isfinite(grad).all()


@given(
    left=st.floats(0, 0.3),
    top=st.floats(0, 0.3),
    side=st.floats(0.5, 0.7),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_cells_of_a_view_are_those_of_its_picture(left, top, side, grid):
    view = np.array([[left, top, side]], np.float32)
    found = np.asarray(maps.cells_inside(jnp.asarray(REGIONS), jnp.asarray(view), grid))[0]
    for region, cells in zip(REGIONS, found, strict=True):
        share = shares_by_hand(region, view[0], grid)
        assert not cells[share < 0.5 * share.max() - 1e-4].any()
        assert cells[share > 0.5 * share.max() + 1e-4].all()
        assert cells.any() == (share.max() > 0)


def test_cells_of_the_whole_crop_are_area_averages():
    view = jnp.asarray([[0.0, 0.0, 1.0]])
    found = np.asarray(maps.cells_inside(jnp.asarray(REGIONS), view, (8, 8)))[0]
    for region, cells in zip(REGIONS[:3], found, strict=False):
        share = cv2.resize(region, (8, 8), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(cells, share >= 0.5 * share.max())


@pytest.mark.parametrize("name", OF_MAPS)
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_impossible_weights_are_refused(name, value):
    with pytest.raises(UserError, match=rf"objective\.{name}_weight={value}: give .*0 to"):
        replace(ObjectiveOptions(), **{f"{name}_weight": value})
