"""--overwrite removes what it recognises, and not before the new run has a checkpoint."""

import json
import os
import shutil

import jax.numpy as jnp
import pytest

from tests.train.records import RECORD
from vlfau_jax.errors import Interrupted, UserError
from vlfau_jax.train import replaced
from vlfau_jax.train.checkpoint import Checkpoints
from vlfau_jax.train.replaced import REPLACED_FOLDER, begun
from vlfau_jax.train.state import TrainState
from vlfau_jax.train.workdir import claimed
from vlfau_jax.train.writer import MetricWriter

OLD = {"seed": 0, "data": {"aus": (1, 2)}, "train": {"steps": 4}}
NEW = OLD | {"seed": 1}
FILES = {
    "final.json": {"step": 4, "params_digest": "0", "seconds": {"train": 1.5}},
    "nonfinite.json": {"step": 4, "values": {"au": "nan"}, "faces": []},
    "scores.json": {"mean_f1": None, "per_au": {}},
    "predictions.jsonl": {"subject": "F001", "per_au": {}},
}


def save(run, step):
    with Checkpoints(run, keep=5) as checkpoints:
        checkpoints.save(step, TrainState(jnp.int32(step), {"w": jnp.ones(3)}, ()), RECORD, 0.5)


@pytest.fixture
def run(tmp_path):
    """A run with all that it and its evaluation leave, and things of the user's."""
    run = tmp_path / "run"
    with claimed(run, OLD, resume=False, overwrite=False), MetricWriter(run, 0) as writer:
        writer.write(1, {"total": 1.0})
        save(run, 2)
        save(run, 4)
    draft = run / "checkpoints" / "5.orbax-checkpoint-tmp"
    shutil.copytree(run / "checkpoints" / "4", draft)
    for path in [path for path in draft.glob("*/**/*") if path.is_file()]:
        path.with_name(f"{path.name}.__lock").touch()  # as a kill leaves it
    (run / "checkpoints" / "2" / "manifest.json").unlink()  # removed in part
    for name, content in FILES.items():
        (run / name).write_text(json.dumps(content) + "\n")
    (run / "report.html").write_text("<!doctype html>\n<html>")
    (run / "metrics.damaged.jsonl").write_bytes(b"\0\0\n")
    (run / "notes.txt").write_text("mine")
    (run / "raw").mkdir()
    return run


def tree(folder):
    """All files below a folder, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.lock"
    }


def overwrite(run):
    return claimed(run, NEW, resume=False, overwrite=True)


def test_the_run_is_replaced_and_nothing_else(run):
    with overwrite(run):
        pass
    left = ["config.json", "notes.txt", "raw", "run.lock"]
    assert sorted(path.name for path in run.iterdir()) == left


def foreign_file(run, name):
    (run / name).parent.mkdir(exist_ok=True, parents=True)
    (run / name).write_text("precious")


FOREIGN = [
    "checkpoints/thesis.docx",
    "checkpoints/7/model.safetensors",
    "checkpoints/7",
    "checkpoints/4/params/thesis.docx",
    "checkpoints/4/notes",
    "checkpoints/backup/4",
    "checkpoints/007/params/_METADATA",
    "checkpoints/mine.orbax-checkpoint-tmp/a",
    "tensorboard/plot.png",
    "tensorboard/events.out.tfevents.1/a",
    "final.json",
    "nonfinite.json",
    "scores.json",
    "predictions.jsonl",
    "report.html",
    "metrics.jsonl",
    "config.json",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_entry_stops_it_by_name(run, name):
    foreign_file(run, name)
    before = tree(run)
    with (
        pytest.raises(UserError, match=rf"--overwrite: .*run/{name.split('/')[0]}.*") as error,
        overwrite(run),
    ):
        pytest.fail("it began")
    assert name.split("/")[-1] in str(error.value) or name.split("/")[1] in str(error.value)
    assert tree(run) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "final.json", "checkpoints", "tensorboard"])
def test_links_are_not_followed(run, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    (run / name).rename(elsewhere)
    (run / name).symlink_to(elsewhere)
    before = tree(tmp_path)
    with (
        pytest.raises(UserError, match=rf"--overwrite: .*{name}: is (a link|no regular file)"),
        overwrite(run),
    ):
        pytest.fail("it began")
    assert tree(tmp_path) == before


def test_an_empty_folder_on_another_disk_is_used_again(run, tmp_path):
    shutil.rmtree(run / "checkpoints")
    (tmp_path / "disk").mkdir()
    (run / "checkpoints").symlink_to(tmp_path / "disk")
    with overwrite(run):
        save(run, 1)
    assert (tmp_path / "disk" / "1").is_dir()


@pytest.mark.parametrize(
    "content",
    ["{}", '{"architectures": ["Swin"]}', '{"name": "project", "data": {}}', "[]", "", "\0"],
)
def test_a_folder_that_never_was_a_run_is_left_alone(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    foreign_file(tmp_path, "checkpoints/1000/params/manifest.ocdbt")
    before = tree(tmp_path)
    for without in (False, True):
        with (
            pytest.raises(UserError, match=r"--overwrite: .*nothing in .* is removed"),
            overwrite(tmp_path),
        ):
            pytest.fail("it began")
        assert tree(tmp_path) == before
        if not without:
            (tmp_path / "config.json").unlink()
            del before["config.json"]


def test_a_run_that_fails_before_its_first_checkpoint_gives_the_earlier_one_back(run):
    before = tree(run)
    with pytest.raises(RuntimeError), overwrite(run), MetricWriter(run, 0) as writer:
        writer.write(1, {"total": 2.0})
        assert not (run / "final.json").exists()
        raise RuntimeError
    assert tree(run) == before


def test_after_its_first_checkpoint_the_earlier_one_is_gone(run):
    with pytest.raises(RuntimeError), overwrite(run):
        assert not begun(run)
        save(run, 1)
        assert begun(run)
        assert not (run / REPLACED_FOLDER).exists()
        raise RuntimeError
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["1"]


def test_one_that_is_stopped_goes_on_and_keeps_the_earlier_one_till_then(run, capsys):
    before = tree(run)
    with pytest.raises(Interrupted), overwrite(run):
        raise Interrupted
    with (
        pytest.raises(UserError, match=r"is in use"),
        claimed(run, NEW, resume=False, overwrite=False),
    ):
        pass
    kept = {name.removeprefix(f"{REPLACED_FOLDER}/"): value for name, value in tree(run).items()}
    assert before == kept | {"config.json": before["config.json"]}
    capsys.readouterr()
    with claimed(run, NEW, resume=True, overwrite=False):
        assert "kept in .replaced/ until" in capsys.readouterr().err
        save(run, 1)
    assert not (run / REPLACED_FOLDER).exists()


def test_the_first_of_three_survives_two_that_fail(run):
    before = tree(run)
    with pytest.raises(Interrupted), overwrite(run):
        raise Interrupted
    with pytest.raises(RuntimeError), overwrite(run):
        raise RuntimeError
    assert tree(run) == before


@pytest.mark.parametrize("moves", range(1, 23))
def test_a_kill_at_any_rename_loses_nothing(run, monkeypatch, moves):
    """A kill is an exception that nothing catches."""
    before, count, rename = tree(run), iter(range(1, 1000)), os.rename

    class Killed(BaseException):
        pass

    def counted(*paths):
        if next(count) == moves:
            raise Killed
        rename(*paths)

    monkeypatch.setattr(replaced.os, "rename", counted)
    with pytest.raises(Killed), overwrite(run):
        raise RuntimeError
    monkeypatch.undo()
    with pytest.raises(RuntimeError), overwrite(run):
        raise RuntimeError
    assert tree(run) == before


@pytest.mark.parametrize("name", [".replaced", ".replaced.partial"])
@pytest.mark.parametrize("what", ["link", "foreign", "file"])
def test_what_lies_at_the_place_of_the_earlier_run(run, tmp_path, name, what):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("")
    match what:
        case "link":
            (run / name).symlink_to(elsewhere)
        case "foreign":
            elsewhere.rename(run / name)
        case "file":
            (run / name).write_text("")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=rf"{name}.*move it away"), overwrite(run):
        pytest.fail("it began")
    assert tree(tmp_path) == before


def test_a_resume_removes_no_foreign_step(run):
    foreign_file(run, "checkpoints/3/thesis.docx")
    (run / "checkpoints" / "notes").mkdir()  # which nothing would remove
    with (
        pytest.raises(UserError, match=r"--resume: .*thesis\.docx: is no part of a checkpoint"),
        claimed(run, OLD, resume=True, overwrite=False),
    ):
        pass
    shutil.rmtree(run / "checkpoints" / "3")
    with claimed(run, OLD, resume=True, overwrite=False):
        pass
