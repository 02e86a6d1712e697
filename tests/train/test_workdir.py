import errno
import fcntl
import json
import os
import re
from dataclasses import replace

import pytest

from tests.processes import Process
from vlfau_jax.errors import RunError, UserError
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
from vlfau_jax.train.writer import MetricWriter

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


def test_resume_takes_the_same_config_only(tmp_path):
    start(tmp_path)
    ends = [tmp_path / name for name in ("final.json", "nonfinite.json")]
    write_json(ends[0], {"step": 4, "params_digest": "0", "seconds": {}})
    write_json(ends[1], {"step": 4, "values": {"au": "nan"}, "faces": []})
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
        "import json, pathlib, signal, sys, vlfau_jax.train.workdir as w\n"
        "folder, config = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])\n"
        "with w.claimed(folder, config, resume=False, overwrite=False):\n"
        "    print('held', flush=True)\n"
        "    signal.pause()"
    )
    with Process([str(tmp_path), json.dumps(CONFIG)], 1, logs, ("-c", code)) as other:
        other.wait_for_log("held")
        with pytest.raises(UserError, match=rf"\(process {other.pid} on "):
            start(tmp_path, resume=True)
    start(tmp_path, resume=True)


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
    ended = {"step": 1, "values": {}, "faces": []}
    write_json(tmp_path / "run" / "nonfinite.json", ended)
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


DAMAGE = [
    (b"[]", "holds a list of 0"),
    (b"3", "holds 3"),
    (b"{]", "not JSON"),
    (b"", "not JSON"),
    (b'{"seed": "\xff"}', "not JSON"),
    (b'{"seed": 1, "data": {}, "train": ' + b"[" * 100_000, "not JSON: recursion limit"),
    (b'{"seed": 1e400, "data": {}, "train": {}}', "seed is inf"),
    (b'{"seed": true, "data": {}, "train": {}}', "seed is True"),
    (b'{"seed": 1, "data": 3, "train": {}}', "data is 3"),
    (b'{"seed": 1, "data": {}, "train": {"steps": NaN}}', r"train\.steps is nan"),
    (b'{"seed": 1, "data": {}, "train": {}, "architectures": []}', "architectures is no key"),
    (b'{"seed": ' + b"9" * 100_000 + b', "data": {}, "train": {}}', "digits|number"),
]


@pytest.mark.parametrize(("content", "fault"), DAMAGE)
def test_a_damaged_config(tmp_path, content, fault):
    start(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    message = rf"config\.json: damaged, .*{fault}.*; restore it or train anew$"
    with pytest.raises(UserError, match=message) as error:
        start(tmp_path, resume=True)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["run.lock", "metrics.jsonl", "config.json"])
@pytest.mark.parametrize("what", ["link", "dangling", "fifo", "folder"])
def test_nothing_is_written_or_read_through_what_is_no_file(tmp_path, name, what):
    run, target = tmp_path / "run", tmp_path / "precious"
    start(run)
    write_json(run / "metrics.jsonl", {"step": 1})
    before = (run / name).read_bytes()
    (run / name).unlink()
    if what == "link":
        target.write_bytes(before)
        (run / name).symlink_to(target)
    elif what == "dangling":
        (run / name).symlink_to(target)
    elif what == "fifo":
        os.mkfifo(run / name)
    else:
        (run / name).mkdir()
    if (name, what) == ("config.json", "link"):  # reading through it does no harm
        start(run, resume=True)
    else:
        with pytest.raises(UserError, match=rf"{re.escape(name)}.*(is|cannot|damaged)") as error:
            start(run, resume=True)
            MetricWriter(run, 0)
        assert "\n" not in str(error.value)
    assert (target.read_bytes() == before) if what == "link" else not target.exists()


def test_a_lock_that_is_another_file_keeps_its_content(tmp_path):
    (tmp_path / "precious").write_text("words")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "precious", tmp_path / "run" / "run.lock")
    start(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "words"


def test_a_workdir_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    start(tmp_path / "run")
    assert (tmp_path / "disk" / "config.json").exists()


def test_a_name_that_is_none(tmp_path):
    with pytest.raises(UserError, match="null byte"):
        start(tmp_path / "a\0b")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO])
def test_no_room_for_a_run_is_a_failure_and_no_mistake(tmp_path, monkeypatch, number):
    def full(*_):
        raise OSError(number, os.strerror(number), str(tmp_path / "config.json"))

    monkeypatch.setattr(folder, "write_json", full)
    with pytest.raises(RunError, match=f"{os.strerror(number)}; there is no good checkpoint"):
        start(tmp_path)
