import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.read import batch as batches
from vlfau_jax.errors import UserError
from vlfau_jax.losses.joint import (
    OF_MAPS,
    ObjectiveOptions,
    Term,
    asymmetric,
    binary_cross_entropy,
    class_weights,
    dice,
    joint_loss,
    total,
)
from vlfau_jax.model.vlfau import Outputs

B, N, T, TG, V = 6, 4, 7, 5, 11
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.7], np.float32)
SPEC = batches.spec(batch_size=B, image_size=16, units=N, max_local_tokens=T, max_global_tokens=TG)


def make(rng, unknown_rate=0.3, invalid=1):
    batch = batches.fake(SPEC, rng, vocabulary_size=V, unknown_rate=unknown_rate)
    for key in ("au", "au_known", "valid", "local_tokens", "global_tokens"):
        if invalid:
            batch[key][-invalid:] = 0
    logits = {
        "au_logits": rng.normal(size=(B, N)),
        "local_logits": rng.normal(size=(B, N, T - 1, V)),
        "global_logits": rng.normal(size=(B, TG - 1, V)),
    }
    return batch, {name: value.astype(np.float32) for name, value in logits.items()}


def outputs(logits):
    nothing = jnp.zeros(())
    rest = dict.fromkeys(("spatial_maps", "stem", "local_attention", "global_attention"), nothing)
    return Outputs(**logits, **rest)


def value(logits, batch, options=None, branches=None):
    options = options or ObjectiveOptions()
    terms = joint_loss(
        outputs(logits),
        {key: jnp.asarray(array) for key, array in batch.items()},
        class_weights=jnp.asarray(WEIGHTS),
        options=options,
        branches=branches,
    )
    return total(terms, options), terms


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def by_hand(logits, batch):
    """The same terms in loops, from the formulas of the paper's notes."""
    known = batch["au_known"] & batch["valid"][:, None]
    p, y = sigmoid(logits["au_logits"]), batch["au"]
    bce, asymmetric, dice = [], [], []
    for i in range(N):
        for b in np.flatnonzero(known[:, i]):
            positive, negative = y[b, i] * np.log(p[b, i]), (1 - y[b, i]) * np.log(1 - p[b, i])
            bce.append(-WEIGHTS[i] * (positive + negative))
            asymmetric.append(-WEIGHTS[i] * (positive + p[b, i] * negative))
        if known[:, i].any():
            q, z = p[known[:, i], i], y[known[:, i], i]
            ratio = (2 * (q * z).sum() + 1) / ((q * q).sum() + (z * z).sum() + 1)
            dice.append(WEIGHTS[i] * (1 - ratio))

    def words(logits, tokens):
        scores = logits.astype(np.float64)
        log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        return [-log_p[t, word] for t, word in enumerate(tokens[1:]) if word]

    local = [
        loss
        for b, i in zip(*np.nonzero(known), strict=True)
        for loss in words(logits["local_logits"][b, i], batch["local_tokens"][b, i])
    ]
    whole = [
        loss
        for b in np.flatnonzero(batch["valid"])
        for loss in words(logits["global_logits"][b], batch["global_tokens"][b])
    ]
    named = {"bce": bce, "asymmetric": asymmetric, "dice": dice, "local": local, "global": whole}
    return {name: (np.sum(losses), len(losses)) for name, losses in named.items()}


@pytest.mark.parametrize("au_loss", ["bce", "asymmetric"])
def test_every_term_equals_its_formula(rng, au_loss):
    batch, logits = make(rng, unknown_rate=0.1)
    options = ObjectiveOptions(
        au_loss=au_loss, dice_weight=0.5, local_weight=0.25, global_weight=2.0
    )
    found, terms = value(logits, batch, options)
    hand = by_hand(logits, batch)
    expected = {"au": hand[au_loss], **{name: hand[name] for name in ("dice", "local", "global")}}
    for name, (summed, weight) in expected.items():
        np.testing.assert_allclose(terms[name].total, summed, rtol=1e-5, err_msg=name)
        assert terms[name].weight == weight > 0, name
    mean = {name: summed / weight for name, (summed, weight) in expected.items()}
    weighed = mean["au"] + 0.5 * mean["dice"] + 0.25 * mean["local"] + 2.0 * mean["global"]
    np.testing.assert_allclose(found, weighed, rtol=1e-5)


def test_asymmetric_gradient_does_not_pass_through_the_ease(rng):
    batch, logits = make(rng, unknown_rate=0.0, invalid=0)
    batch["au"][:] = 0
    options = ObjectiveOptions("asymmetric", 0.0, 0.0, 0.0)
    grad = jax.grad(lambda au: value(logits | {"au_logits": au}, batch, options)[0])(
        jnp.asarray(logits["au_logits"])
    )
    p = sigmoid(logits["au_logits"])  # d/dx of -p0 log(1 - p) is p0 * p
    np.testing.assert_allclose(grad, WEIGHTS * p * p / (B * N), rtol=1e-5)


def test_what_is_masked_changes_neither_loss_nor_gradient(rng):
    batch, logits = make(rng)
    known = batch["au_known"] & batch["valid"][:, None]
    other = {name: array.copy() for name, array in logits.items()}
    other["au_logits"][~known] = 50.0
    other["local_logits"][~known] = rng.normal(size=((~known).sum(), T - 1, V))
    other["global_logits"][~batch["valid"]] = 3.0
    fallen = {key: array.copy() for key, array in batch.items()}
    fallen["au"][~known] = 1
    fallen["local_tokens"][~known] = 5
    fallen["global_tokens"][~batch["valid"]] = 5
    run = jax.value_and_grad(lambda logits, batch: value(logits, batch)[0])
    (loss, grads), (same, same_grads) = run(logits, batch), run(other, fallen)
    assert loss == same
    for name, grad in grads.items():
        np.testing.assert_array_equal(grad, same_grads[name], err_msg=name)
    assert not grads["au_logits"][~known].any()
    assert not grads["local_logits"][~known].any()
    assert not grads["global_logits"][~batch["valid"]].any()
    assert grads["au_logits"][known].all()


@pytest.mark.parametrize("au_loss", ["bce", "asymmetric"])
def test_any_mask_hides_all_of_what_it_masks(au_loss):
    options = ObjectiveOptions(au_loss)
    run = jax.jit(jax.value_and_grad(lambda logits, batch: value(logits, batch, options)[0]))

    @settings(max_examples=60, deadline=None)
    @given(
        known=st.lists(st.booleans(), min_size=B * N, max_size=B * N),
        valid=st.lists(st.booleans(), min_size=B, max_size=B),
        seed=st.integers(0, 2**16),
    )
    def check(known, valid, seed):
        rng = np.random.default_rng(seed)
        batch, logits = make(rng, unknown_rate=0.0, invalid=0)
        batch |= {"au_known": np.reshape(known, (B, N)), "valid": np.array(valid)}
        counted = batch["au_known"] & batch["valid"][:, None]
        hidden = {"au": ~counted, "local": ~counted, "global": ~batch["valid"]}
        other = {name: array.copy() for name, array in (batch | logits).items()}
        other["au"][hidden["au"]] = 1 - other["au"][hidden["au"]]
        for name in ("local", "global"):
            tokens = other[f"{name}_tokens"]
            tokens[hidden[name]] = rng.integers(0, V, tokens[hidden[name]].shape)
        for name in hidden:
            masked = other[f"{name}_logits"][hidden[name]]
            other[f"{name}_logits"][hidden[name]] = rng.normal(scale=30, size=masked.shape)
        loss, grads = run(logits, batch)
        same, same_grads = run({k: other[k] for k in logits}, {k: other[k] for k in batch})
        assert loss == same and np.isfinite(loss)
        for name, rows in hidden.items():
            grad = np.asarray(grads[f"{name}_logits"])
            np.testing.assert_array_equal(grad, same_grads[f"{name}_logits"], err_msg=name)
            assert not grad[rows].any(), name
            assert np.isfinite(grad).all(), name
        assert grads["au_logits"][counted].all()

    check()


@pytest.mark.parametrize("au_loss", ["bce", "asymmetric"])
def test_nothing_known_is_a_finite_zero(rng, au_loss):
    batch, logits = make(rng, unknown_rate=1.0, invalid=2)
    options = ObjectiveOptions(au_loss)
    loss, grads = jax.value_and_grad(lambda logits: value(logits, batch, options)[0])(logits)
    assert loss == 0
    assert not any(grad.any() for grad in grads.values())


def test_branches_pick_their_sentences(rng):
    batch, logits = make(rng)
    chosen = np.array([2, 0])
    part = logits | {"local_logits": logits["local_logits"][:, chosen]}
    _, terms = value(part, batch, branches=jnp.asarray(chosen))
    only = {key: array.copy() for key, array in batch.items()}
    only["local_tokens"][:, [1, 3]] = 0
    _, expected = value(logits, only)
    np.testing.assert_allclose(terms["local"], expected["local"], rtol=1e-6)
    np.testing.assert_array_equal(terms["au"], expected["au"])


def test_switches_leave_terms_out_and_weights_alone(rng):
    batch, logits = make(rng)
    _, terms = value(logits, batch, ObjectiveOptions("bce", 0.0, 0.0, 0.0))
    assert terms.keys() == {"au"}
    _, plain = value(logits, batch, ObjectiveOptions(class_weighting=False))
    assert plain["au"].total != terms["au"].total
    _, without_captions = value(logits | {"local_logits": None, "global_logits": None}, batch)
    assert without_captions.keys() == {"au", "dice"}


def test_ramps_by_hand():
    options = ObjectiveOptions(
        dice_weight=0.5, dice_ramp=(2, 6), local_ramp=(3, 3), global_weight=2.0, global_ramp=(0, 4)
    )
    found = [jax.jit(options.weights)(k) for k in range(8)]
    expected = {
        "au": [1] * 8,
        "dice": [0, 0, 0, 0.125, 0.25, 0.375, 0.5, 0.5],
        "local": [0, 0, 0, 1, 1, 1, 1, 1],
        "global": [0, 0.5, 1, 1.5, 2, 2, 2, 2],
    }
    for name, values in expected.items():
        np.testing.assert_allclose([weights[name] for weights in found], values, err_msg=name)
    assert options.ramped == ("dice", "local", "global")
    assert ObjectiveOptions().ramped == ()
    weights = ObjectiveOptions().weights(0)
    assert {name: weight for name, weight in weights.items() if name not in OF_MAPS} == {
        "au": 1.0,
        "dice": 1.0,
        "local": 1.0,
        "global": 1.0,
    }
    assert not any(weights[name] for name in OF_MAPS)


@pytest.mark.parametrize("name", ["dice", "local", "global"])
def test_a_ramp_moves_its_term_and_its_term_only(rng, name):
    batch, logits = make(rng)
    options = ObjectiveOptions(**{f"{name}_ramp": (10, 20)})
    whole, terms = value(logits, batch)
    _, unscaled = value(logits, batch, options)
    jax.tree.map(np.testing.assert_array_equal, terms, unscaled)
    for step, share in ((0, 0.0), (15, 0.5), (20, 1.0)):
        missing = (1 - share) * terms[name].mean()
        np.testing.assert_allclose(total(terms, options, step), whole - missing, rtol=1e-5)


@pytest.mark.parametrize("ramp", [(-1, 5), (5, 4), (5,), (1, 2, 3)])
def test_impossible_ramps_are_refused(ramp):
    with pytest.raises(UserError, match=r"objective\.local_ramp=\(.*: give (two steps|2 values)"):
        ObjectiveOptions(local_ramp=ramp)


def test_a_ramp_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"objective.dice_ramp=\(0, 5\): objective.dice_weight=0"):
        ObjectiveOptions(dice_weight=0.0, dice_ramp=(0, 5))


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match=r"objective.au_loss='focal': give one of 'bce'"):
        ObjectiveOptions(au_loss="focal")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["dice_weight", "local_weight", "global_weight"])
def test_impossible_weights_are_refused(name, value):
    with pytest.raises(UserError, match=rf"objective\.{name}={value}: give .*0 to 1000000"):
        ObjectiveOptions(**{name: value})


@pytest.mark.parametrize("term", [binary_cross_entropy, asymmetric, dice])
def test_every_term_takes_one_weight_per_unit(rng, term):
    batch, logits = make(rng)
    arguments = logits["au_logits"], batch["au"], batch["au_known"]
    doubled, once = (term(*arguments, factor * WEIGHTS) for factor in (2, 1))
    np.testing.assert_allclose(doubled.total, 2 * once.total, rtol=1e-6)
    assert once.total > 0


def test_terms_of_parts_add_up():
    parts = [Term(jnp.float32(3), jnp.float32(2)), Term(jnp.float32(0), jnp.float32(0))]
    whole = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    assert whole.mean() == 1.5
    assert parts[1].mean() == 0


def test_class_weights_formula():
    rates = np.array([0.5, 0.25, 0.1])
    weights = class_weights(rates * 1000, np.array([1000, 1000, 1000]))
    np.testing.assert_allclose(weights, 3 / rates / (1 / rates).sum(), rtol=1e-6)
    assert weights.dtype == np.float32


def test_class_weights_of_units_never_active_or_never_annotated():
    weights = class_weights(np.array([10, 20, 0, 0]), np.array([100, 100, 100, 0]))
    np.testing.assert_allclose(weights, [2 * 10 / 15, 2 * 5 / 15, 1, 0], rtol=1e-6)
    np.testing.assert_array_equal(class_weights(np.zeros(2), np.array([5, 0])), [1, 0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(500, 1000)), min_size=1, max_size=15))
def test_class_weights_average_to_one_and_favour_the_rare(counts):
    positives, known = np.array(counts).T
    weights = class_weights(positives, known)
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-5)
    assert weights[np.argmin(positives / known)] == weights.max()
