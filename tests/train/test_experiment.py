"""What no single option can know to be wrong is refused by `build_experiment`, naming both."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tiny import noise_set
from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.read import dataset
from vlfau_jax.data.read.dataset import combine
from vlfau_jax.errors import UserError
from vlfau_jax.regions import templates
from vlfau_jax.train.experiment import build_experiment
from vlfau_jax.train.loop import _Run

NO_CAPTIONS = {"local_captions": False, "global_captions": False}


def changed(settings, **sections):
    """Settings with some fields of some sections replaced."""
    return replace(
        settings,
        **{name: replace(getattr(settings, name), **fields) for name, fields in sections.items()},
    )


@pytest.mark.parametrize(
    ("sections", "message"),
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
        (
            {"train": {"batch_size": 2**20}, "data": {"image_size": 1024}},
            r"train\.batch_size=1048576: .*data\.image_size=1024 need 3,298\.5 GB",
        ),
        (
            {"model": {"backbone_width": 4096, "depths": (0, 0, 0, 1), "mlp_ratio": 16.0}},
            r"parameters and the optimizer's moments need .* GB a device",
        ),
        (
            {"objective": {"map_region_weight": 0.5}, "model": {"refinement": "channel"}},
            r"objective\.map_region_weight=0\.5: model\.refinement=channel .*; give 0",
        ),
        (
            {"objective": {"map_entropy_weight": 0.5}, "model": {"refinement": "none"}},
            r"objective\.map_entropy_weight=0\.5: model\.refinement=none",
        ),
        (
            {"objective": {"map_variation_weight": 0.5}, "model": {"spatial_sigmoid": False}},
            r"objective\.map_variation_weight=0\.5: without a sigmoid",
        ),
        (
            {"objective": {"word_region_weight": 0.5}, "model": NO_CAPTIONS},
            r"objective\.word_region_weight=0\.5: model\.local_captions=False",
        ),
        (
            {"data": {"descriptions": "graded"}, "model": {"local_captions": False}},
            r"data\.descriptions='graded': no such sentence .*local_captions=False\); give",
        ),
        (
            {"data": {"descriptions": "paraphrased"}, "model": NO_CAPTIONS},
            r"data\.descriptions='paraphrased': .*local_captions=False and model\.global_captions",
        ),
        (
            {"data": {"descriptions": "grded"}},
            r"data\.descriptions='grded' is no file; give one of",
        ),
        ({"data": {"aus": (1, 99)}}, r"data\.aus.*99"),
        ({"data": {"aus": (1, 1)}}, r"data\.aus.*1, 1"),
    ],
)
def test_options_that_do_not_fit_each_other(tiny, sections, message):
    with pytest.raises(UserError, match=message) as error:
        build_experiment(changed(tiny(), **sections))
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
        {"model": {"local_captions": False}, "data": {"descriptions": "paraphrased"}},
        {"model": {"window": 9}, "data": {"image_size": 17}},
        {"optimizer": {"freeze_backbone": True}, "train": {"warm_start": "w"}},
        {"optimizer": {"freeze_backbone": True}, "model": {"backbone_weights": "w"}},
        {"model": {"global_context": True}, "objective": {"global_weight": 0.1}},
    ],
)
def test_the_extremes_that_do(tiny, sections):
    assert build_experiment(changed(tiny(), **sections)).abstract.params


def with_set(monkeypatch, **changes):
    """Lets `build_experiment` open the noise set with some fields replaced."""
    other = replace(noise_set(), **changes)
    monkeypatch.setattr(dataset, "open_set", lambda *_: other)


@pytest.mark.parametrize("name", ["map_region", "word_region"])
def test_regions_need_eyes_in_their_places(tiny, monkeypatch, tmp_path, capsys, name):
    settings = changed(tiny(), objective={f"{name}_weight": 0.5})
    found = build_experiment(settings).regions
    np.testing.assert_array_equal(found, templates((1, 2, 4, 12), {"parameters": EYE_POSITIONS}))
    assert build_experiment(tiny()).regions is None, "not in a program that does not use them"
    with_set(monkeypatch, crop={"name": "none", "digest": "0" * 16, "parameters": {"zoom": 1.0}})
    unknown = build_experiment(settings)
    assert unknown.regions is None
    _Run(unknown, tmp_path, None, None, None, None, {}, None).report_task()
    told = f"objective.{name}_weight without effect: crop rule none puts eyes in no fixed place"
    assert told in capsys.readouterr().err


def test_class_weights_follow_the_labels_of_the_training_subjects(tiny, monkeypatch):
    settings = changed(tiny(), data={"aus": (2, 1), "fold": 1})
    noise = noise_set()
    seen = np.isin(noise.subjects, build_experiment(settings).split.train)[noise.codes["subject"]]
    assert 0 < seen.sum() < len(seen)
    occurrence = np.ones_like(noise.codes["occurrence"])  # all on, of people who are not seen
    occurrence[seen] = 0
    occurrence[np.flatnonzero(seen)[::5], 0] = 1
    occurrence[seen, 1] = np.arange(seen.sum()) % 5 > 0
    with_set(monkeypatch, codes=dict(noise.codes) | {"occurrence": occurrence})
    # 1 / r is 5 for AU1 and 5 / 4 for AU2: their mean is made 1.
    e = build_experiment(settings)
    assert e.captions.aus == (1, 2)
    assert e.class_weights == pytest.approx([1.6, 0.4])


def test_class_weights_leave_validation_subjects_out(tiny, monkeypatch):
    settings = changed(tiny(), data={"aus": (1, 2), "fold": 0, "validation_subjects": 2})
    e = build_experiment(settings)
    assert len(e.split.validation) == len(e.split.train) == 2
    noise = noise_set()
    occurrence = noise.codes["occurrence"].copy()
    kept_back = np.isin(noise.subjects, e.split.validation)[noise.codes["subject"]]
    occurrence[kept_back] = 1
    with_set(monkeypatch, codes=dict(noise.codes) | {"occurrence": occurrence})
    np.testing.assert_array_equal(build_experiment(settings).class_weights, e.class_weights)
    occurrence[~kept_back, 0] = 1
    assert not np.array_equal(build_experiment(settings).class_weights, e.class_weights)


def test_who_is_trained_on_and_who_is_scored_during_training(tiny):
    nested = changed(tiny(eval_every=1), data={"fold": 1, "validation_subjects": 1})
    e = build_experiment(nested)
    assert e.scored == "validation" and e.split.test == ("M003",)
    record = e.inference_record({})
    assert record["validation_subjects"] == e.split.validation
    assert record["train_subjects"] == e.split.train
    assert build_experiment(changed(tiny(eval_every=1), data={"fold": 1})).scored == "test"
    everybody = build_experiment(changed(tiny(eval_every=1), data={"validation_subjects": 1}))
    assert everybody.scored == "validation" and not everybody.split.test
    with pytest.raises(UserError, match=r"data\.validation_subjects=3 .*give at most 2"):
        build_experiment(changed(tiny(), data={"fold": 1, "validation_subjects": 3}))


def test_a_split_without_a_frame_is_refused(tiny, monkeypatch):
    disfa = noise_set("disfa", ("SN001", "SN004"))
    codes = dict(disfa.codes) | {"frame": np.tile(np.arange(4541, 4546, dtype=np.int32), 2)}
    settings = changed(tiny(eval_every=1), data={"fold": 0, "validation_subjects": 1})
    monkeypatch.setattr(dataset, "open_set", lambda *_: replace(disfa, codes=codes))
    message = {
        ("SN001",): r"data\.validation_subjects=1: every frame of SN004 is in an excluded stretch",
        ("SN004",): r"noise_disfa to train on: of SN004, all their frames are in excluded",
    }
    found = set()
    for seed in range(8):
        one = replace(settings, seed=seed)
        train = combine((disfa,), one.data).split(0, 1, seed).train
        found.add(train)
        with pytest.raises(UserError, match=message[train]):
            build_experiment(one)
    assert found == message.keys()


def test_test_people_without_a_frame_are_refused_where_they_would_be_scored(tiny, monkeypatch):
    disfa = noise_set("disfa", ("SN001", "SN002", "SN004"))
    codes = dict(disfa.codes) | {"frame": np.tile(np.arange(4541, 4546, dtype=np.int32), 3)}
    # SN004, whom fold 1 tests, was lost in these frames.
    monkeypatch.setattr(dataset, "open_set", lambda *_: replace(disfa, codes=codes))
    data = {"fold": 1}
    message = (
        r"train\.eval_every=1: every frame of SN004 is in an excluded .*; give 0, or data\.valid"
    )
    with pytest.raises(UserError, match=message):
        build_experiment(changed(tiny(eval_every=1), data=data))
    assert build_experiment(changed(tiny(), data=data)).split.test == ("SN004",)
    nested = changed(tiny(eval_every=1), data=data | {"validation_subjects": 1})
    assert build_experiment(nested).scored == "validation"


def test_no_known_label_to_train_on_is_refused(tiny, monkeypatch):
    e = build_experiment(changed(tiny(), data={"fold": 1}))
    noise = noise_set()
    occurrence = noise.codes["occurrence"].copy()
    theirs = np.isin(noise.subjects, e.split.train)[noise.codes["subject"]]
    occurrence[np.ix_(theirs, [noise.aus.index(au) for au in e.captions.aus])] = -1
    with_set(monkeypatch, codes=dict(noise.codes) | {"occurrence": occurrence})
    with pytest.raises(UserError, match=r"to train on: of F001, .*no label of AU 1, 2, 4, 12 is"):
        build_experiment(changed(tiny(), data={"fold": 1}))
