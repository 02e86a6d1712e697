"""What no single option can know to be wrong is refused by `prepare`, naming both fields."""

from dataclasses import replace

import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.train.experiment import prepare

NO_CAPTIONS = {"local_captions": False, "global_captions": False}


def changed(settings, **sections):
    """Settings with some fields of some sections replaced."""
    return replace(
        settings,
        **{name: replace(getattr(settings, name), **fields) for name, fields in sections.items()},
    )


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"model": {"patch": 32, "stem": "patch"}},
            r"data\.image_size=16 .*model\.patch=32; give 32 or more",
        ),
        ({"model": {"patch": 16}}, r"model\.backbone_width=4: .*model\.patch=16; give 8 or more"),
        ({"model": {"grid": 5}}, r"model\.grid=5: .* 4 x 4 .*data\.image_size=16; .*at most 4"),
        ({"model": {"grid": 2, "taps": (3, 4)}}, r"model\.grid=2: .*taps=\(3, 4\) has 1 x 1"),
        (
            {"model": NO_CAPTIONS, "optimizer": {"captioner_learning_rate": 1e-3}},
            r"optimizer\.captioner_learning_rate=0\.001: .*no captioner",
        ),
        (
            {"model": {"global_captions": False}, "objective": {"global_ramp": (0, 5)}},
            r"objective\.global_ramp=\(0, 5\): model\.global_captions=False",
        ),
        (
            {"model": {"window": 10}, "data": {"image_size": 17}},
            r"model\.window=10: .* 9 x 9 .*data\.image_size=17; give at most 9",
        ),
        (
            {"optimizer": {"freeze_backbone": True}},
            r"optimizer\.freeze_backbone=True: .*random; give train\.warm_start or model\.backb",
        ),
        (
            {"objective": {"dice_ramp": (4, 6)}},
            r"objective\.dice_ramp=\(4, 6\): .*train\.steps=4; give a first step below",
        ),
        (
            {"model": {"global_context": True}, "objective": {"global_weight": 0.0}},
            r"model\.global_context=True: objective\.global_weight=0 .*; give it a weight",
        ),
        ({"objective": {"local_branches": 5}}, r"objective\.local_branches=5: there are 4"),
        ({"data": {"aus": (1, 99)}}, r"data\.aus.*99"),
        ({"data": {"aus": (1, 1)}}, r"data\.aus.*1, 1"),
    ],
)
def test_options_that_do_not_fit_each_other(tiny, sections, said):
    with pytest.raises(UserError, match=said) as error:
        prepare(changed(tiny(), **sections))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"patch": 16, "stem": "patch", "window": 1}},
        {"model": {"patch": 8}},
        {"model": {"grid": 4}},
        {"model": {"grid": 1, "taps": (3, 4)}},
        {"model": {"global_captions": False}, "optimizer": {"captioner_learning_rate": 1e-3}},
        {"model": NO_CAPTIONS, "objective": {"dice_ramp": (3, 5)}},
        {"model": {"window": 9}, "data": {"image_size": 17}},
        {"optimizer": {"freeze_backbone": True}, "train": {"warm_start": "w"}},
        {"optimizer": {"freeze_backbone": True}, "model": {"backbone_weights": "w"}},
        {"model": {"global_context": True}, "objective": {"global_weight": 0.1}},
    ],
)
def test_the_extremes_that_do(tiny, sections):
    assert prepare(changed(tiny(), **sections)).abstract.params


def test_class_weights_follow_the_counts_of_the_training_subjects(tiny, monkeypatch):
    from vlfau_jax.train import experiment

    settings = changed(tiny(), data={"aus": (2, 1), "fold": 1})
    dataset = experiment.open_prepared()
    train = prepare(settings).train_subjects
    assert 0 < len(train) < len(dataset.subjects)
    n = len(dataset.aus)
    seen = {"frames": 5, "positives": [1, 4, *[1] * (n - 2)], "known": [5] * n}
    unseen = {"frames": 5, "positives": [5] * n, "known": [5] * n}
    counts = {subject: seen if subject in train else unseen for subject in dataset.subjects}
    monkeypatch.setattr(experiment, "open_prepared", lambda *_: replace(dataset, counts=counts))
    # 1 / r is 5 for AU1 and 5 / 4 for AU2: their mean is made 1.
    e = prepare(settings)
    assert e.captions.aus == (1, 2)
    assert e.class_weights == pytest.approx([1.6, 0.4])
