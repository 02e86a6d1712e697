"""FLOPs by part: against hand values, the traced network product by product, and XLA's count."""

from dataclasses import replace

import jax
import pytest

from tests.account.networks import TASK, forward, options, train_step
from tests.account.products import by_part, products
from vlfau_jax.account.flops import Flops, Task, flops, recognition, table, total
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import SIZES, ModelOptions

BACKBONE = ("embedding", "stage", "merges")


def published(size, **changed):
    """GMACs of the backbone on one image, as Swin's table 1 counts them."""
    found = flops(
        ModelOptions(**SIZES[size], **changed), Task(changed_size(changed), 12, 300, 2, 2)
    )
    return sum(one.forward for part, one in found.items() if part.startswith(BACKBONE)) / 2e9


def changed_size(changed):
    return 384 if changed.get("window") == 12 else 224


@pytest.mark.parametrize(
    ("size", "window", "gmacs"),
    [
        ("swin_t", 7, 4.5),
        ("swin_s", 7, 8.7),
        ("swin_b", 7, 15.4),
        ("swin_l", 7, 34.5),
        ("swin_b", 12, 47.0),
        ("swin_l", 12, 103.9),
    ],
)
def test_swins_published_sizes(size, window, gmacs):
    """arXiv 2103.14030, table 1; its authors count the head (0.001), too, and round."""
    task = replace(TASK, image_size={7: 224, 12: 384}[window])
    found = flops(ModelOptions(**SIZES[size], window=window), task)
    backbone = sum(one.forward for part, one in found.items() if part.startswith(BACKBONE))
    assert backbone / 2e9 == pytest.approx(gmacs, abs=0.1)


def test_a_network_by_hand():
    """One block of width 8 on a map of 8 x 8 cells, windows of 4 x 4, everything counted."""
    found = flops(
        options(depths=(1, 0, 0, 0), taps=(4,)),
        replace(TASK, image_size=32, batch=1),
        ObjectiveOptions(),
    )
    forward = {part: one.forward / 2 for part, one in found.items()}
    assert forward["embedding"] == 64 * 48 * 8
    assert forward["stage 1 attention"] == 64 * (4 * 8 * 8) + 4 * 2 * 16 * 16 * 8
    assert forward["stage 1 mlp"] == 64 * 2 * 8 * 32
    assert forward["merges"] == 16 * 32 * 16 + 4 * 64 * 32 + 1 * 128 * 64
    assert forward["MSC"] == 9 * 64 * 16 + 16 * 16  # one cell
    assert forward["DAIR"] == 3 * (3 * 16 * 4 + 9 * 2)
    assert forward["classifier"] == 3 * 16
    step = 20 * 24 + 24 + 16 + (16 + 20) * 80
    bound = 16 * 24 + 2 * 16 * 20
    words = 11 * 12 * 80
    assert forward["local captioner"] == words + 3 * (bound + 5 * (step + 20 * 11))
    assert forward["global captioner"] == words + bound + 8 * (step + 20 * 11)
    # Relu's slope takes part in no product, the gradient of the words' table in one more.
    also = 2 * (-2 * 24 + 11 * 80)
    for part, sentences_words in (("local captioner", 3 * 5), ("global captioner", 8)):
        assert found[part].training == 3 * found[part].forward + sentences_words * also
        assert found[part].recomputed == 2 * sentences_words * 20 * 24
    others = {*found} - {"embedding", "local captioner", "global captioner"}
    assert all(found[part].training == 3 * found[part].forward for part in others)
    assert found["embedding"].training == 2 * found["embedding"].forward


def assert_same(counted, found, task):
    expected = {part: count / task.batch for part, count in by_part(counted).items()}
    assert {part: one for part, one in found.items() if one} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"stem": "conv", "taps": (2, 4)},
        {"pooling": "max", "grid": 3, "mlp_ratio": 1.5},
        {"grid": 3, "refinement": "channel", "channel_mlp": "separate"},
        {"refinement": "none", "local_captioner": "per_au"},
        {"au_embedding": True, "refinement": "spatial", "global_captions": False},
        {"told_scores": True, "global_captions": False},
        {"global_context": True, "local_captions": False},
        {"scan_blocks": True, "depths": (1, 1, 4, 1), "window": 7},
    ],
    ids=lambda changed: ",".join(changed) or "default",
)
@pytest.mark.parametrize("image_size", [32, 44])  # 44: maps of 11, 6, 3, 2 cells, padded windows
def test_forward_is_what_the_network_computes(changed, image_size):
    network, task = options(**changed), replace(TASK, image_size=image_size)
    function, arguments = forward(network, task)
    counted = products(jax.make_jaxpr(function)(*arguments).jaxpr, trips=task.own_words + 1)
    found = {part: one.forward for part, one in flops(network, task).items()}
    assert_same(counted, found, task)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "objective", "frozen"),
    [
        ({}, {}, ()),
        ({"stem": "conv", "grid": 2}, {"local_branches": 2}, ()),
        ({"global_context": True, "local_captioner": "per_au"}, {}, ("backbone",)),
    ],
    ids=["default", "some branches", "frozen"],
)
def test_training_is_what_the_step_computes(changed, objective, frozen):
    network, objective = options(**changed), ObjectiveOptions(**objective)
    step, arguments = train_step(network, TASK, objective, frozen)
    counted = products(jax.make_jaxpr(step)(*arguments).jaxpr, trips=TASK.own_words + 1)
    parts = flops(network, TASK, objective, frozen)
    found = {part: one.training + one.recomputed for part, one in parts.items()}
    assert_same(counted, found, TASK)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"remat": "dots", "local_captioner": "per_au"},
        {"remat": "full", "global_context": True, "refinement": "channel"},
    ],
    ids=["dots", "full"],
)
def test_what_is_recomputed_is_what_the_step_adds(changed):
    network = options(**changed)
    step, arguments = train_step(network, TASK)
    jaxpr = jax.make_jaxpr(step)(*arguments).jaxpr
    counted = products(jaxpr, trips=TASK.own_words + 1)
    found = flops(network, TASK)
    assert total(found).recomputed > 0
    sums = {part: one.training + one.recomputed for part, one in found.items()}
    assert_same(counted, sums, TASK)
    forward = {part: counted[part, "forward"] / TASK.batch for part in found}
    assert forward == pytest.approx({part: one.forward for part, one in found.items()})


def test_captions_without_weight_are_not_trained():
    for name in ("local", "global"):
        objective = ObjectiveOptions(**{f"{name}_weight": 0})
        found = flops(options(), TASK, objective)
        trained = {part for part, one in found.items() if one.training}
        assert {*found} - trained == {f"{name} captioner"}
        assert found[f"{name} captioner"] == Flops(
            flops(options(), TASK)[f"{name} captioner"].forward
        )


@pytest.mark.parametrize("captions", [True, False])
def test_xla_counts_the_same_within_a_tenth(captions):
    """XLA adds what is done element by element, and leaves out convolutions' zero borders."""
    network = ModelOptions(
        backbone_width=96,
        depths=(1, 1, 1, 1),
        heads=(3, 6, 12, 24),
        width=256,
        word_embedding=128,
        hidden=128,
        attention=128,
        local_captions=captions,
        global_captions=captions,
    )
    # Two tokens: XLA counts one trip of a loop, whatever its length.
    task = Task(56, 3, 50, local_tokens=2, global_tokens=2, batch=2)
    function, arguments = forward(network, task)
    counted = jax.jit(function).lower(*arguments).cost_analysis()["flops"] / task.batch
    assert counted == pytest.approx(total(flops(network, task)).forward, rel=0.1)


def test_totals_and_table():
    found = {"MSC": Flops(1e9, 3e9), "local captioner": Flops(5e8, 1.5e9)}
    assert total(found) == Flops(1.5e9, 4.5e9)
    assert recognition(found) == Flops(1e9, 3e9)
    assert table(found).splitlines()[2:] == [
        "| MSC | 1.000 | 3.000 | 66.7% |",
        "| local captioner | 0.500 | 1.500 | 33.3% |",
        "| in all | 1.500 | 4.500 | 100.0% |",
    ]
