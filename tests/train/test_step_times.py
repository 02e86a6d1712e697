import pytest

from vlfau_jax.train import step_times as module
from vlfau_jax.train.step_times import StepTimes


def test_median_and_p95_leave_out_the_step_after_a_pause(monkeypatch):
    now = 50.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    times = StepTimes()
    assert times.summary() is None
    times.ended()  # nothing is known of when it began
    assert times.summary() is None
    for _ in range(18):
        now += 0.010
        times.ended()
    for _ in range(2):
        now += 0.100
        times.ended()
    times.paused()  # a checkpoint
    now += 60.0
    times.ended()
    now += 0.010
    times.ended()
    found = times.summary()
    assert found["median"] == pytest.approx(10)
    assert found["p95"] == pytest.approx(100)


def test_only_the_newest_steps_are_kept(monkeypatch):
    now = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    monkeypatch.setattr(module, "_KEPT", 4)
    times = StepTimes()
    for step in range(100):
        now += 1.0 if step < 95 else 0.5
        times.ended()
    assert times.summary() == {"median": pytest.approx(500), "p95": pytest.approx(500)}
