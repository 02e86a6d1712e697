import json
import re
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.tiny import tiny_settings
from vlfau_jax.account import comparison
from vlfau_jax.account.comparison import TASKS, compare
from vlfau_jax.account.reference import Reference
from vlfau_jax.cli.main import main
from vlfau_jax.errors import RunError, UserError


@pytest.fixture
def settings():
    """The tiny network with what the reference has: patches, and blocks in the first stage."""
    s = tiny_settings()
    model = replace(s.model, stem="patch", depths=(2, 0, 0, 1))
    return replace(s, model=model, data=replace(s.data, image_size=32))


@pytest.mark.slow
def test_both_do_the_same_work_in_turns(settings, tmp_path, capsys):
    found = compare(settings, seconds=0.01, out=tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text()) == found
    assert found["turns"] == 3
    assert {*found["ms"]} == {"ours", "eager"} and {*found["ratios"]} == {"eager"}
    assert {*found["ms"]["ours"]} == {*TASKS, "sentences"}
    checks = found["checks"]["eager"]
    assert checks["total"] < 1e-4 and checks["logits"] < 1e-3 and checks["grad_norm"] < 5e-3
    assert checks["words_difference"] == 0 and checks["same_sentences"] > 0.95
    # No sentence ends early: 8 faces, 4 units, and one more word each, where <end> would be.
    local, whole = found["words"]
    assert checks["words"] == 8 * (4 * (local + 1) + whole + 1)
    screen = capsys.readouterr().out
    assert all(re.search(rf"^{task} .*\d\.\d\d \(", screen, re.M) for task in TASKS)


def test_another_network_is_found_out(settings, monkeypatch):
    monkeypatch.setattr(
        Reference, "recognition", lambda self: np.zeros((8, 4), np.float32) + np.eye(8, 4)
    )
    with pytest.raises(RunError, match=r"the reference \(eager\) differs in logits by"):
        compare(settings, seconds=0.01, tasks=("recognition",))


def test_fewer_words_are_found_out():
    ours = {"describing": {"global_tokens": np.array([[5, 6, 2]])}}
    theirs = {"describing": {"global_tokens": np.array([[5, 2, 0]])}}
    found = comparison._differences(ours, theirs)
    assert found == {"same_sentences": 0.0, "words": 3, "words_difference": -1}
    with pytest.raises(RunError, match="words_difference"):
        comparison._check("eager", found)


def test_what_is_missing_is_named(settings, monkeypatch):
    with pytest.raises(UserError, match="stem 'patch'"):
        compare(tiny_settings(), seconds=0.01, tasks=("recognition",))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"torch.*run in a checkout with requirements-test\.txt"):
        compare(settings)
    monkeypatch.setattr(comparison.reference_modules.__globals__["vlfau_jax"], "__file__", "/x/y/z")
    with pytest.raises(UserError, match=r"no tests/reference; run in a checkout"):
        compare(settings)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "--reference"], "exclude each other"),
        (["--compiled"], "--compiled: only --reference"),
        (["--tasks=training"], "--tasks: only --reference"),
        (["--reference", "--tasks=walking"], "--tasks=walking: give some of training,"),
        (["--reference", "--tasks=,"], "--tasks=,: give some of"),
        (["--data", "--profile=p"], "--profile: only training steps"),
        (["--seconds=0"], "--seconds=0: give more than 0"),
        (["--reference", "--seconds=-1"], "--seconds=-1: give more than 0"),
    ],
)
def test_mistakes_are_told_in_one_line(flags, message, capsys):
    assert main(["benchmark", "--config=configs/demo.py", *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_shapes_of_a_batch_are_the_pipelines(settings):
    from vlfau_jax.account.synthetic import synthetic
    from vlfau_jax.data.read.batch import check

    made = synthetic(settings)
    batch = made.batch(np.random.default_rng(0))
    check(batch, made.program.spec)
    assert jax.tree.map(np.shape, batch) == {k: s for k, (s, _) in made.program.spec.items()}
    assert (batch["local_tokens"] > 0).any(-1).all() and (batch["global_tokens"] > 0).any(-1).all()
