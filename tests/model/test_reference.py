"""The whole network and its objective beside an independent one, in PyTorch: same weights in, same
out, and the same gradient for every parameter, once for every switch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.reference import losses as reference_losses
from tests.reference.network import VLFAU as Reference
from tests.reference.network import Sentence
from tests.reference.weights import random_params, reference_state
from vlfau_jax.data.text.vocabulary import END, PAD, START
from vlfau_jax.losses.joint import ObjectiveOptions, joint_loss, total
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU

# Oblong maps of 20x28, 10x14, 5x7 and 3x4 cells: padded to windows and to pairs, shifted in stages
# 1 and 2, pooled to 3x4 by cells that overlap.
HEIGHT, WIDTH = 40, 56
OPTIONS = ModelOptions(
    backbone_width=8,
    depths=(2, 2, 1, 1),
    heads=(1, 2, 2, 4),
    window=3,
    patch=2,
    mlp_ratio=2.0,
    width=12,
    reduction=4,
    word_embedding=6,
    hidden=10,
    attention=7,
)
VOCABULARY = 13
TOKENS, WORDS = (6, 9), (5, 8)  # local, global: of the true sentences, of the generated ones
OUTPUTS, GRADIENTS = 1e-4, 1e-3  # of each array's largest value


@dataclasses.dataclass(frozen=True)
class Case:
    """One switch away from the default, and what else than the pass itself is compared.

    The default has blocks in every stage; a shorter backbone, still of four, does for a switch.
    """

    switch: dict = dataclasses.field(default_factory=dict)
    units: int = 3
    depths: tuple = (2, 0, 0, 1)
    sentences: bool = False
    au_loss: str = "bce"
    seed: int = 18  # with sentences of several lengths


CASES = {
    "default": Case(units=12, depths=(2, 2, 1, 1), sentences=True),
    "asymmetric": Case(au_loss="asymmetric"),
    "one_tap": Case({"taps": (3,)}),
    "two_taps": Case({"taps": (1, 4)}),
    "max_pooling": Case({"pooling": "max"}),
    "channel_alone": Case({"refinement": "channel"}),
    "spatial_alone": Case({"refinement": "spatial"}),
    "no_refinement": Case({"refinement": "none"}),
    "separate_mlps": Case({"channel_mlp": "separate"}),
    "no_sigmoid": Case({"spatial_sigmoid": False}),
    "no_local": Case({"local_captions": False}, sentences=True),
    "no_global": Case({"global_captions": False}, sentences=True),
    "per_au": Case({"local_captioner": "per_au"}, sentences=True),
    "au_embedding": Case({"au_embedding": True}, sentences=True),
    "told_scores": Case({"told_scores": True}, sentences=True),
    "all_told": Case({"told_scores": True, "au_embedding": True}),
    "each_told": Case({"told_scores": True, "local_captioner": "per_au"}, sentences=True),
    "global_context": Case({"global_context": True}, sentences=True, seed=20),
}


def make_batch(rng, units):
    """Three faces and a filling row, some labels unknown; unit 5, if there is one, known nowhere.

    Unlike the pipeline's, rows and labels that must not count are not zero: only masks tell.
    """
    b = 4
    batch = {
        "image": rng.normal(size=(b, HEIGHT, WIDTH, 3)).astype(np.float32),
        "au": (rng.random((b, units)) < 0.5).astype(np.float32),
        "au_known": rng.random((b, units)) < 0.8,
        "local_tokens": sentences(rng, (b, units, TOKENS[0])),
        "global_tokens": sentences(rng, (b, TOKENS[1])),
        "valid": np.array([True, True, True, False]),
    }
    batch["au_known"][:, 5:6] = False
    batch["au_known"][3, 1] = True
    return batch


def sentences(rng, shape):
    rows = rng.integers(3, VOCABULARY, shape).astype(np.int32)
    end = rng.integers(2, shape[-1], shape[:-1])[..., None]
    place = np.arange(shape[-1])
    rows = np.where(place < end, rows, np.where(place == end, END, PAD)).astype(np.int32)
    rows[..., 0] = START
    return rows


def run_ours(model, params, batch, class_weights, objective, case):
    """Loss, terms, outputs, sentences and gradients, in one compiled program."""

    def loss(params):
        outputs = model.apply(
            {"params": params}, batch["image"], batch["local_tokens"], batch["global_tokens"]
        )
        terms = joint_loss(outputs, batch, class_weights=class_weights, options=objective)
        return total(terms, objective), (terms, outputs)

    def run(params):
        described = None
        if case.sentences:
            described = model.apply({"params": params}, batch["image"], *WORDS, method="describe")
        return *jax.value_and_grad(loss, has_aux=True)(params), described

    run = jax.jit(run)
    (scalar, (terms, outputs)), gradients, described = jax.device_get(run(params))
    return scalar, terms, outputs, described, gradients


def distance(found, expected, scale=None):
    """The largest difference over the largest expected value."""
    expected = expected.detach().numpy()
    assert found.shape == expected.shape
    scale = np.abs(expected).max() if scale is None else scale
    return float(np.abs(found - expected).max() / scale)


def gradient_distances(found, expected):
    """Of every parameter that has a gradient."""
    largest = {name: gradient.abs().max().item() for name, gradient in expected.items()}
    floor = 1e-5 * max(largest.values())
    distances = {}
    for name, gradient in expected.items():
        # A key's bias moves all scores of a query alike, which softmax does not feel: only
        # rounding is left of its gradient, which is measured against the query's.
        scale = largest[name.replace("k_proj.bias", "q_proj.bias")]
        distances[name] = distance(found[name].numpy(), gradient, max(scale, floor))
    return distances


def check(what, distances, limit):
    worst = max(distances, key=distances.get)
    print(f"  {what}: at most {distances[worst]:.1e}, of {worst}")
    assert distances[worst] < limit, {k: v for k, v in distances.items() if not v < limit}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name != "default" else ()) for name in CASES],
)
def test_parity(name):
    case = CASES[name]
    rng = np.random.default_rng(case.seed)
    model = VLFAU(
        dataclasses.replace(OPTIONS, depths=case.depths, **case.switch), case.units, VOCABULARY
    )
    objective = ObjectiveOptions(
        au_loss=case.au_loss, dice_weight=0.7, local_weight=0.5, global_weight=1.3
    )
    params = random_params(model, rng, HEIGHT, WIDTH)
    batch = make_batch(rng, case.units)
    class_weights = rng.uniform(0.3, 2.0, case.units).astype(np.float32)
    scalar, terms, outputs, described, gradients = run_ours(
        model, params, jax.tree.map(jnp.asarray, batch), class_weights, objective, case
    )

    reference = Reference(model.options, case.units, VOCABULARY).eval()
    reference.load_state_dict(reference_state(params, model), strict=True)
    tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
    tokens = [tensors[key].long() for key in ("local_tokens", "global_tokens")]
    tensors |= {"local_tokens": tokens[0], "global_tokens": tokens[1]}
    image = tensors["image"].permute(0, 3, 1, 2)
    expected = reference(image, *tokens)
    expected_terms = reference_losses.joint_loss(
        expected, tensors, torch.from_numpy(class_weights), case.au_loss
    )
    expected_total = reference_losses.total(expected_terms, objective.weights(0))

    print(f"\n{name}")
    expected.stem = expected.stem.permute(0, 2, 3, 1)
    pairs = {
        field.name: (getattr(outputs, field.name), getattr(expected, field.name))
        for field in dataclasses.fields(expected)
    }
    assert all((ours is None) == (theirs is None) for ours, theirs in pairs.values())
    pairs = {key: pair for key, pair in pairs.items() if pair[0] is not None}
    check("outputs", {key: distance(*pair) for key, pair in pairs.items()}, OUTPUTS)

    assert terms.keys() == expected_terms.keys()
    for key, term in terms.items():
        assert term.weight == expected_terms[key][1].item(), key
    values = {key: distance(terms[key].total, x) for key, (x, _) in expected_terms.items()}
    check("terms", values | {"total": distance(scalar, expected_total)}, OUTPUTS)

    if case.sentences:
        compare_sentences(described, *reference.describe(image, *WORDS))
    expected_total.backward()
    ours = reference_state(gradients, model)
    theirs = {key: p.grad for key, p in reference.named_parameters()}
    assert ours.keys() == theirs.keys()
    used = {key: gradient for key, gradient in theirs.items() if gradient is not None}
    unused = theirs.keys() - used.keys()
    assert bool(unused) == (4 not in model.options.taps)  # then the last stage feeds nothing
    assert not any(ours[key].any() for key in unused)
    check("gradients", gradient_distances(ours, used), GRADIENTS)


def compare_sentences(described, local, whole):
    """Identical words, attention and scores; some sentences end before others."""
    lengths, margins, distances = [], [], {}
    for name, theirs in (("local", local), ("global", whole)):
        tokens, attention, scores = (
            getattr(described, f"{name}_{field}") for field in ("tokens", "attention", "scores")
        )
        assert (tokens is None) == (theirs is None)
        if theirs is None:
            continue
        if name == "local":  # a sentence for each unit
            *answers, margin = zip(*theirs, strict=True)
            theirs = Sentence(*(torch.stack(x, dim=1) for x in answers), min(margin))
        np.testing.assert_array_equal(tokens, theirs.tokens.numpy())
        distances[f"{name}_attention"] = distance(attention, theirs.attention)
        distances[f"{name}_scores"] = distance(scores, theirs.score)
        lengths += (tokens != PAD).sum(-1).ravel().tolist()
        margins.append(theirs.margin)
    margin = min(margins)
    print(f"  sentences: {min(lengths)} to {max(lengths)} words, least margin {margin:.1e}")
    check("their attention and scores", distances, OUTPUTS)
    assert len(set(lengths)) > 1
    assert margin > 1e-4  # else rounding may choose
