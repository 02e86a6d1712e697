"""A loss that is not finite: nothing of it enters the state, and the run can go on past it."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from vlfau_jax.errors import RunError
from vlfau_jax.train import step
from vlfau_jax.train.checkpoint import load_inference, params_digest
from vlfau_jax.train.loop import train
from vlfau_jax.train.nonfinite import format_values
from vlfau_jax.train.state import TrainState
from vlfau_jax.train.step import advanced

pytestmark = pytest.mark.slow

SUBJECT, TASK, FRAME = 2, 1, 4  # a face whose sentences break the loss


@pytest.fixture
def poisoned(monkeypatch):
    joint_loss = step.joint_loss

    def broken(outputs, batch, **how):
        terms = joint_loss(outputs, batch, **how)
        there = (batch["key"] == jnp.asarray([[SUBJECT, TASK, FRAME]])).all(1).any()
        total, weight = terms["local"]
        return terms | {"local": type(terms["local"])(jnp.where(there, jnp.nan, total), weight)}

    monkeypatch.setattr(step, "joint_loss", broken)


def test_the_last_good_state_is_saved_and_a_resume_goes_past_it(tiny, tmp_path, poisoned, capsys):
    steps = {"steps": 5, "checkpoint_every": 4}
    with pytest.raises(RunError, match="the term 'local' is nan; it saw ") as error:
        train(tiny(**steps), tmp_path / "run")
    assert "\n" not in str(error.value) and "and 5 more, all of them in" in str(error.value)
    found = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    bad = found["step"]
    assert 1 < bad < 5 and str(error.value).startswith(f"step {bad}: ")
    assert {"subject": "M001", "task": TASK, "frame": FRAME} in found["faces"]
    assert len(found["faces"]) == 8 and found["values"]["local"] == "nan"

    good = train(tiny(steps=bad - 1), tmp_path / "good")
    params, _, step = load_inference(tmp_path / "run")
    assert (step, params_digest(params)) == (bad - 1, good["params_digest"])
    with pytest.raises(RunError, match=f"step {bad}: .*; step {bad - 1}, the last good one, is"):
        train(tiny(**steps), tmp_path / "run", resume=True)

    capsys.readouterr()
    parts = train(tiny(**steps, skip_steps=9), tmp_path / "run", resume=True)
    output = capsys.readouterr().err
    assert f"step {bad} skipped, 1 in all: the term 'local' is nan" in output
    whole = train(tiny(**steps, skip_steps=9), tmp_path / "whole")
    assert parts["step"] == whole["step"] == 5
    assert parts["params_digest"] == whole["params_digest"]
    assert parts["skipped"] == whole["skipped"] > 0
    assert f"trained to step 5, {parts['skipped']} of them skipped; " in output
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["skipped"] > 0 for line in lines] == [line["step"] >= bad for line in lines]
    assert lines[bad - 1]["local"] is None
    # The schedule counts updates: the rate of a step left out is the next one's.
    assert lines[bad]["learning_rate"] == lines[bad - 1]["learning_rate"]


def test_ruined_parameters_are_not_answered_with_more_skips(tiny, tmp_path):
    settings = tiny(skip_steps=1)
    ruin = replace(settings.optimizer, warmup_steps=0)
    object.__setattr__(ruin, "learning_rate", 1e30)  # beyond its bounds: ruins them in one step
    with pytest.raises(RunError, match=r"skipped, too.* a lower optimizer\.learning_rate") as error:
        train(replace(settings, optimizer=ruin), tmp_path / "run")
    assert "train.skip_steps=" not in str(error.value)


def test_only_an_allowed_step_counts_and_past_the_allowance_nothing_moves():
    @jax.jit
    def take(state, finite):
        nan = state.opt_state * jnp.where(finite, 1.0, jnp.nan)
        new = TrainState(state.step + 1, state.params + 1, nan, nan)
        return advanced(state, new, finite, 1)

    def plain(state):
        return [int(state.step), float(state.params), int(state.skipped)]

    state = TrainState(jnp.int32(0), jnp.float32(0.0), jnp.float32(2.0), jnp.float32(2.0))
    states = [plain(state := take(state, good)) for good in (True, False, True, False, True, False)]
    assert states == [[1, 1, 0], [2, 1, 1], [3, 2, 1], [3, 2, -2], [3, 2, -2], [3, 2, -2]]
    assert plain(state.last_good) == [3, 2, 1] == plain(state.last_good.last_good)
    assert float(state.opt_state) == float(state.ema) == 2.0


def test_the_faults_of_terms_come_before_those_that_follow_from_them():
    nan, inf = float("nan"), float("inf")
    values = {"au": inf, "local": nan, "total": nan, "grad_norm": nan}
    assert format_values(values) == "the term 'au' is inf, the term 'local' is nan"
    rates = {"learning_rate": inf, "local_weight": nan, "grad_norm": nan}
    assert format_values(rates) == "the learning rate is inf, the weight of the term 'local' is nan"
    assert format_values({"grad_norm": inf}) == "the gradient's norm is inf"
    assert format_values({"total": inf, "grad_norm": nan}) == (
        "the sum of all terms is inf, the gradient's norm is nan"
    )
