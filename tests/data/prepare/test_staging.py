"""What `prepare` removes and replaces: its own alone, and never half of it."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from tests.data.builds import OPTIONS, build, contents
from tests.processes import Process
from vlfau_jax.cli.main import main
from vlfau_jax.data.prepare import prepare as module
from vlfau_jax.data.prepare import shards, staging
from vlfau_jax.errors import RunError, UserError

SET = "bp4d/none_32/2.0.0"


@pytest.fixture
def folder(write_tree, tmp_path: Path) -> Path:
    """A prepared set; the raw tree of another is beside it."""
    write_tree(("F005",), "other")
    return build(write_tree(), tmp_path / "set")


def tree(folder: Path) -> dict[str, bytes | str]:
    """All that is below a folder, links by what they name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = path.read_bytes()
        else:
            found[str(path)] = "folder"
    return found


@pytest.mark.parametrize(
    "place",
    [
        f"{SET}/notes.txt",
        f"{SET}/integrity.json.bak",
        f"{SET}/bp4d-F001.array_record-00000-of-00002.old",
        f"{SET}/mine/a.txt",
        "bp4d/none_32/incomplete.2.0.0/notes.txt",
        "bp4d/none_32/incomplete.2.0.0/shards/notes.txt",
        "bp4d/none_32/incomplete.2.0.0/replaced/notes.txt",
        "bp4d/none_32/incomplete.2.0.0/bp4d/none_32/2.0.0/mine.csv",
        "bp4d/none_32/incomplete.A1B2C3_2.0.0/notes.txt",
        "bp4d/none_32/.2.0.0.replaced/notes.txt",
        "bp4d/.config/mine",
    ],
)
@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_foreign_file_stops_it_by_name(folder, tmp_path, place, kind):
    data_dir = tmp_path / "set"
    foreign = data_dir / place
    foreign.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        # Even with a name that prepare writes.
        foreign = foreign.with_name("metadata.json")
        foreign.unlink(missing_ok=True)
        (tmp_path / "elsewhere").write_text("mine")
        foreign.symlink_to(tmp_path / "elsewhere")
    else:
        foreign.write_text("mine")
    before = tree(data_dir)
    named = "mine" if "mine/" in place else foreign.name
    with pytest.raises(UserError, match=f"/{named} is nothing that prepare writes; move it"):
        build(tmp_path / "other", data_dir, overwrite=True)
    assert tree(data_dir) == before


@pytest.mark.parametrize("name", ["2.0.0", "incomplete.2.0.0", ".2.0.0.replaced"])
def test_links_in_the_way_are_not_followed(folder, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "shards").mkdir(parents=True)
    (elsewhere / "shards/F001_T1.json").write_text("mine")
    place = folder.with_name(name)
    if place == folder:
        shutil.rmtree(folder)
    place.symlink_to(elsewhere)
    before = tree(tmp_path / "set") | tree(elsewhere)
    with pytest.raises(UserError, match=f"/{name} is nothing that prepare writes"):
        build(tmp_path / "other", tmp_path / "set", overwrite=True)
    assert tree(tmp_path / "set") | tree(elsewhere) == before


def test_a_file_that_comes_while_it_works_stops_the_change(folder, tmp_path, monkeypatch):
    def write_shard(job):
        (folder / "notes.txt").write_text("mine")
        return shards.write_shard(job)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_shard", write_shard)
        with pytest.raises(UserError, match=r"notes\.txt is nothing that prepare writes"):
            build(tmp_path / "other", tmp_path / "set", overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    build(tmp_path / "other", tmp_path / "set", overwrite=True)
    assert [path.name for path in folder.parent.iterdir()] == ["2.0.0"]


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_before_any_change_leaves_a_whole_set_and_no_rest(write_tree, tmp_path, overwrite):
    raw, other = write_tree(("F001",)), write_tree(("F005",), "other")
    new = contents(build(raw, tmp_path / "new"))
    old = contents(build(other, tmp_path / "old"))
    argv = [str(raw), str(tmp_path / "killed"), *([str(tmp_path / "old")] if overwrite else [])]
    with Process(argv, 1, tmp_path / "logs", ("-m", "tests.data.prepare.killed")) as process:
        assert process.wait() == 0, process.log
    kills = list((tmp_path / "killed").iterdir())
    assert len(kills) > 10
    for data_dir in kills:
        folder = data_dir / SET
        if folder.exists():
            assert contents(folder) in ((new, old) if overwrite else (new,))
        with suppress(UserError):  # the set may be there
            build(raw, data_dir)
        if overwrite:
            build(raw, data_dir, overwrite=True)
        assert contents(folder) == new
        assert [path.name for path in folder.parent.iterdir()] == ["2.0.0"]
        assert sorted(path.name for path in folder.parents[1].iterdir()) == [".config", "none_32"]


def test_of_many_at_once_one_prepares_and_none_spoils_it(write_tree, tmp_path):
    raw = write_tree(("F001",))
    argv = ["prepare", "--dataset=bp4d", f"--raw_dir={raw}", f"--data_dir={tmp_path}/set"]
    argv += ["--workers=0", *(f"--{key}={value}" for key, value in OPTIONS.items())]
    started = [Process(argv, 1, tmp_path / "logs") for _ in range(3)]
    codes = [process.wait() for process in started]
    for process, code in zip(started, codes, strict=True):
        assert code in (0, 2) and "Traceback" not in process.log
        if code == 2:
            assert "by another process" in process.log or "prepared already" in process.log
    assert codes.count(0) == 1
    folder = tmp_path / "set" / SET
    assert contents(folder) == contents(build(raw, tmp_path / "alone"))
    assert [path.name for path in folder.parent.iterdir()] == ["2.0.0"]


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "EIO"])
@pytest.mark.parametrize("where", ["worker", "labels", "digests", "swap"])
def test_an_exhausted_machine_is_one_line_that_says_what_is_kept(
    write_tree, tmp_path, monkeypatch, capsys, name, where
):
    raw, number = write_tree(), getattr(errno, name)

    def fail(*_: object, **__: object):
        raise OSError(number, os.strerror(number))  # as a write raises it: without a name

    with monkeypatch.context() as patch:
        match where:
            case "worker":
                calls = []

                def write_shard(job):
                    calls.append(job)
                    return shards.write_shard(job) if len(calls) < 3 else fail()

                patch.setattr(module, "write_shard", write_shard)
            case "labels":
                patch.setattr("vlfau_jax.data.prepare.builder.np.savez", fail)
            case "digests":
                patch.setattr("vlfau_jax.data.prepare.builder.seal", fail)
            case "swap":
                patch.setattr(staging.os, "replace", fail)
        argv = ["prepare", "--dataset=bp4d", f"--raw_dir={raw}", f"--data_dir={tmp_path}/set"]
        argv += ["--workers=0", *(f"--{key}={value}" for key, value in OPTIONS.items())]
        code = main(argv)
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == 1 and last.startswith("failed: ") and os.strerror(number) in last
    if where != "swap":  # the same function gives shards their names
        kept = 2 if where == "worker" else 4
        assert f"{kept} finished shards kept, and the same command continues with them" in last
    folder = build(raw, tmp_path / "set")
    assert contents(folder) == contents(build(raw, tmp_path / "whole"))
    assert [path.name for path in folder.parent.iterdir()] == ["2.0.0"]


def test_a_worker_process_that_finds_no_room_is_one_line(write_tree, tmp_path):
    raw = write_tree()
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000,) * 2); "
    limit += "from vlfau_jax.__main__ import command; sys.exit(command())"
    argv = ["prepare", "--dataset=bp4d", f"--raw_dir={raw}", f"--data_dir={tmp_path}/set"]
    argv += ["--workers=2", *(f"--{key}={value}" for key, value in OPTIONS.items())]
    with Process(argv, 1, tmp_path / "logs", ("-c", limit)) as process:
        assert process.wait() == 1
        assert "Traceback" not in process.log and "Exception ignored" not in process.log
        assert process.log.splitlines()[-1].startswith(f"failed: {tmp_path}/set")
        assert process.log.splitlines()[-1].endswith("File too large")
    assert not (tmp_path / "set").exists()
    with pytest.raises((UserError, RunError)):
        build(tmp_path / "none", tmp_path / "set")
