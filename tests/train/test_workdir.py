import errno
import fcntl
import json
import os
import re
from dataclasses import replace

import pytest

from tests.processes import Process
from vlfau_jax.errors import UserError
from vlfau_jax.train import workdir as folder
from vlfau_jax.train.checkpoint import load_inference
from vlfau_jax.train.loop import train
from vlfau_jax.train.workdir import (
    FREE_KEYS,
    claimed,
    config_digest,
    read_config,
    write_config,
    write_json,
)

CONFIG = {"seed": 0, "data": {"aus": (1, 2)}, "train": {"steps": 4, "batch_size": 8}}


def start(workdir, config=CONFIG, **how):
    with claimed(workdir, config, **{"resume": False, "overwrite": False, **how}):
        pass


def test_a_new_folder_gets_the_config(tmp_path):
    start(tmp_path / "a" / "b")
    assert read_config(tmp_path / "a" / "b") == json.loads(json.dumps(CONFIG))
    start(tmp_path / "c", resume=True)  # a launcher that always says --resume


def test_in_use(tmp_path):
    start(tmp_path)
    with pytest.raises(UserError, match=r"is in use .* --resume .* --overwrite"):
        start(tmp_path)
    with pytest.raises(UserError, match="exclude each other"):
        start(tmp_path, resume=True, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        start(tmp_path / "file")


def test_overwrite_removes_the_run_and_nothing_else(tmp_path):
    start(tmp_path)
    for name in ("final.json", "nonfinite.json", "scores.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    for name in ("checkpoints/4", "raw"):
        (tmp_path / name).mkdir(parents=True)
    start(tmp_path, overwrite=True)
    left = ["config.json", "notes.txt", "raw", "run.lock"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_overwrite_does_not_follow_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    start(tmp_path / "run", overwrite=True)
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_resume_takes_the_same_config_only(tmp_path):
    start(tmp_path)
    ends = [tmp_path / name for name in ("final.json", "nonfinite.json")]
    for end in ends:
        write_json(end, {})
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    longer = CONFIG | {"train": {"steps": 9, "batch_size": 8}}
    start(tmp_path, longer, resume=True)
    # Its checkpoint may still turn out not to fit.
    assert read_config(tmp_path)["train"]["steps"] == 4
    assert all(end.exists() for end in ends)
    write_config(tmp_path, longer)
    assert read_config(tmp_path)["train"]["steps"] == 9
    assert not any(end.exists() for end in ends)
    other = {"seed": 1, "data": {"aus": (1, 4)}, "train": {"steps": 4}}
    differing = "data.aus=[1, 4] (was [1, 2]), seed=1 (was 0), train.batch_size=absent (was 8)"
    with pytest.raises(UserError, match=re.escape(differing)):
        start(tmp_path, other, resume=True)


def test_resume_without_a_config(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"no config\.json; it cannot be resumed"):
        start(tmp_path, resume=True)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        read_config(tmp_path)


def test_digest_is_of_values_not_of_order():
    assert config_digest({"a": 1, "b": (2,)}) == config_digest({"b": [2], "a": 1})
    assert config_digest({"a": 1}) != config_digest({"a": 2})


def test_one_run_at_a_time(tmp_path):
    busy = rf"a run is going on here \(process {os.getpid()} on .+\); wait for it or take another"
    with claimed(tmp_path, CONFIG, resume=False, overwrite=False):
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UserError, match=busy):
                start(tmp_path, CONFIG | {"seed": 1}, **how)
        assert read_config(tmp_path)["seed"] == 0
    start(tmp_path, overwrite=True)


def test_a_killed_run_lets_go(tmp_path, tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    code = (
        "import pathlib, signal, sys, vlfau_jax.train.workdir as w\n"
        "with w.claimed(pathlib.Path(sys.argv[1]), {}, resume=False, overwrite=False):\n"
        "    print('held', flush=True)\n"
        "    signal.pause()"
    )
    with Process([str(tmp_path)], 1, logs, ("-c", code)) as other:
        other.wait_for_log("held")
        with pytest.raises(UserError, match=rf"\(process {other.pid} on "):
            start(tmp_path, {}, resume=True)
    start(tmp_path, {}, resume=True)


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def unlockable(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unlockable)
    start(tmp_path)
    assert read_config(tmp_path)["seed"] == 0
    assert "cannot be locked ([Errno 37] No locks available)" in capsys.readouterr().err


@pytest.mark.slow
def test_the_lock_is_held_while_a_run_trains(silent, tmp_path):
    seen = []

    def score(*_):
        with pytest.raises(UserError, match="a run is going on here"):
            train(settings, tmp_path, overwrite=True, evaluator=score)
        seen.append("refused")
        return {}

    settings = silent(steps=1, eval_every=1)
    settings = replace(settings, data=replace(settings.data, fold=1))
    train(settings, tmp_path, evaluator=score)
    assert seen == ["refused"]
    with claimed(tmp_path, read_config(tmp_path), resume=True, overwrite=False):
        assert load_inference(tmp_path)[2] == 1  # evaluation needs no lock


@pytest.mark.slow
def test_the_config_is_written_once(silent, tmp_path, monkeypatch):
    written = []

    def write(path, content):
        written.append(path.name)
        write_json(path, content)

    monkeypatch.setattr(folder, "write_json", write)
    train(silent(steps=1), tmp_path / "run")
    assert written == ["config.json"]
    (tmp_path / "run" / "nonfinite.json").write_text("{}")
    train(silent(steps=2), tmp_path / "run", resume=True)
    assert written == ["config.json"] * 2
    assert not (tmp_path / "run" / "nonfinite.json").exists()
    train(silent(steps=1), tmp_path / "begun", resume=True)
    assert written == ["config.json"] * 3


@pytest.mark.slow
def test_fewer_steps_than_are_done(silent, tmp_path):
    done = train(silent(steps=3), tmp_path)
    with pytest.raises(UserError, match=r"has 3 steps behind it, train\.steps=2 asks for fewer;"):
        train(silent(steps=2), tmp_path, resume=True)
    assert read_config(tmp_path)["train"]["steps"] == 3
    assert (tmp_path / "final.json").exists()
    assert train(silent(steps=3), tmp_path, resume=True)["params_digest"] == done["params_digest"]


def test_how_many_are_kept_may_change():
    assert {"train.keep", "train.keep_best"} <= set(FREE_KEYS)


@pytest.mark.parametrize("content", [b"[]", b"3", b"{]", b'{"seed": "\xff"}'])
def test_a_damaged_config(tmp_path, content):
    start(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: damaged, .*; restore it or train anew$"):
        start(tmp_path, resume=True)
