"""`prepare`: the same bytes whatever happens on the way, and one line where it must stop."""

import fcntl
import json
import os
import re
import resource
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data.builds import IMAGES, OPTIONS, build, contents, staged
from tests.data.tree_writers import write_disfa
from tests.processes import Process, wait_until
from vlfau_jax.data.prepare import prepare as module
from vlfau_jax.data.prepare.prepare import prepare
from vlfau_jax.errors import RunError, UserError


def stop_after(monkeypatch, count: int, stop: BaseException) -> None:
    made = []

    def write_shard(job):
        if len(made) == count:
            raise stop
        made.append(job)
        return original(job)

    original = module.write_shard
    monkeypatch.setattr(module, "write_shard", write_shard)


@pytest.fixture
def interrupted(write_tree, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A raw tree of four sequences, and the set's folder, of which three shards are finished."""
    raw = write_tree()
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt, match=r"^3 finished shards kept, and the same"):
            build(raw, tmp_path / "set")
    folder = tmp_path / "set/bp4d/none_32/2.0.0"
    assert not folder.exists() and len(staged(folder)) == 3
    assert [path.name for path in folder.with_name("incomplete.2.0.0").iterdir()] == ["shards"]
    return raw, folder


def test_bytes_do_not_depend_on_workers(write_tree, tmp_path):
    raw = write_tree()
    expected = contents(build(raw, tmp_path / "0", workers=0))
    assert len(expected) == 12 and "bp4d-M003.array_record-00001-of-00002" in expected
    for workers in (1, 2):
        assert contents(build(raw, tmp_path / str(workers), workers=workers)) == expected


class Stopped(Process):
    """`python -m vlfau_jax prepare` whose worker stops before a sequence, see paused.py."""

    def __init__(self, raw: Path, out: Path, sequence: str) -> None:
        self.tmp = raw.with_name("tmp")
        self.tmp.mkdir(exist_ok=True)
        self.paused = self.tmp.with_name(f"paused_{sequence}")
        argv = ["--dataset=bp4d", f"--raw_dir={raw}", f"--data_dir={out}", "--workers=1"]
        argv += [f"--{key}={value}" for key, value in OPTIONS.items()]
        program = ("-m", "tests.data.prepare.paused")
        env = {"PAUSED_AT": sequence, "PAUSED": str(self.paused), "TMPDIR": str(self.tmp)}
        super().__init__(["prepare", *argv], 1, raw.with_name("logs"), program, **env)

    def worker(self) -> int:
        """The worker process, once it has come to the sequence."""
        self.wait_for(self.paused)
        return int(self.paused.read_text())


def test_killed_prepares_continue_and_write_the_same_bytes(write_tree, tmp_path, capsys):
    raw = write_tree(("F001", "F002", "M003", "M004"))
    folder = tmp_path / "set/bp4d/none_32/2.0.0"

    first = Stopped(raw, tmp_path / "set", "F002_T1")
    worker = first.worker()
    first.send(signal.SIGKILL)
    first.wait()
    assert list(first.tmp.iterdir()) == []
    kept = staged(folder)
    assert sorted(kept) == ["F001_T1", "F001_T2"]
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "its worker goes on writing")

    second = Stopped(raw, tmp_path / "set", "M003_T2")
    os.kill(second.worker(), signal.SIGKILL)
    assert second.wait() == 1
    message = second.log.strip().splitlines()
    assert re.search(
        "continuing with the 2 of 8 shards that an earlier prepare finished$", message[0]
    )
    assert message[-1].startswith("failed: one of 1 worker processes was killed")
    assert message[-1].endswith(
        "; 5 finished shards kept, and the same command continues with them"
    )
    assert not folder.exists() and len(staged(folder)) == 5
    assert kept.items() <= staged(folder).items()
    kept = staged(folder)

    build(raw, tmp_path / "set")
    assert "continuing with the 5 of 8 shards" in capsys.readouterr().err
    assert [path.name for path in folder.parent.iterdir()] == ["2.0.0"]
    times = [path.stat().st_mtime_ns for path in sorted(folder.glob("*.array_record-*"))]
    assert times[:5] == [kept[name] for name in sorted(kept)]
    assert contents(folder) == contents(build(raw, tmp_path / "whole"))


def finish(raw: Path, folder: Path, capsys, line: str) -> None:
    """Continues, prints `line`, and writes what an uninterrupted prepare writes."""
    capsys.readouterr()
    assert build(raw, folder.parents[2]) == folder
    message = [text for text in capsys.readouterr().err.splitlines() if "continuing" in text]
    assert len(message) == 1 and message[0].endswith(line), message
    assert contents(folder) == contents(build(raw, folder.parents[2].with_name("whole")))


def test_a_damaged_shard_is_made_again(interrupted, capsys):
    raw, folder = interrupted
    work = folder.with_name("incomplete.2.0.0") / "shards"
    shard = work / "F001_T2.array_record"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    os.truncate(work / "M003_T1.array_record", 65536)
    (work / "M003_T2.array_record.0123.partial").write_bytes(b"half")
    finish(
        raw,
        folder,
        capsys,
        "continuing with the 1 of 4 shards that an earlier prepare finished; removed 2 that are "
        "damaged or made from something else",
    )


def test_what_changed_in_the_raw_tree_is_noticed(interrupted, capsys, rng):
    raw, folder = interrupted
    picture = raw / IMAGES / "F001/T1/10.jpg"
    cv2.imwrite(str(picture), rng.integers(0, 256, (96, 80, 3), np.uint8))
    labels = raw / "AUCoding/AU_OCC/F001_T2.csv"
    labels.write_text(labels.read_text().replace(",0,", ",9,", 1))
    finish(raw, folder, capsys, "removed 2 that are damaged or made from something else")


def test_what_is_left_of_another_tree_is_removed(interrupted, capsys, write_tree):
    _, folder = interrupted
    finish(
        write_tree(("F005",), "other"),
        folder,
        capsys,
        "continuing with the 0 of 2 shards that an earlier prepare finished; removed 3 that are "
        "damaged or made from something else",
    )


def test_a_full_disk_is_one_line_and_finished_shards_stay(write_tree, tmp_path, monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    stop_after(monkeypatch, 1, RunError("the limit comes in its place"))
    raw = write_tree()
    with pytest.raises(RunError, match="1 finished shard kept, and the same command continues"):
        build(raw, tmp_path / "set")
    monkeypatch.undo()
    resource.setrlimit(resource.RLIMIT_FSIZE, (40000, hard))
    try:
        with pytest.raises(RunError, match=r"shards cannot be written to: .*1 finished") as error:
            build(raw, tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    folder = build(raw, tmp_path / "set")
    assert contents(folder) == contents(build(raw, tmp_path / "whole"))


def test_labels_beside_the_shards_are_those_of_the_examples(write_tree, tmp_path):
    raw = write_tree(("F001", "F002", "M003"))
    for name in ("F001/T2/0010.jpg", "M003/T1/8.jpg", "M003/T1/12.jpg"):
        (raw / IMAGES / name).write_bytes(b"no picture")
    for image in (raw / IMAGES / "F002").rglob("*.jpg"):
        image.write_bytes(b"no picture")
    folder = build(raw, tmp_path / "set")
    metadata = json.loads((folder / "metadata.json").read_text())
    assert {name: about["frames"] for name, about in metadata["subjects"].items()} == {
        "F001": 9,
        "M003": 8,
    }
    subjects = sorted(metadata["subjects"])
    with np.load(folder / "labels.npz", allow_pickle=False) as labels:
        types = {key: str(column.dtype) for key, column in labels.items()}
        assert types == {
            "subject": "int32",
            "task": "int32",
            "frame": "int32",
            "occurrence": "int8",
            "intensity": "int8",
        }
        examples = tfds.builder_from_directory(folder).as_data_source("+".join(subjects))
        assert len(examples) == len(labels["frame"]) == 17
        for i, example in enumerate(examples):
            assert example["subject"].decode() == subjects[labels["subject"][i]]
            assert (example["task"], example["frame"]) == (labels["task"][i], labels["frame"][i])
            for key in ("occurrence", "intensity"):
                assert example[key].tolist() == labels[key][i].tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_subject_without_a_usable_frame_is_left_out_and_named(write_tree, tmp_path, workers):
    raw = write_tree(("F001", "F002", "M003"))
    for image in (raw / IMAGES / "F001").rglob("*.jpg"):
        image.write_bytes(b"no picture")
    for image in (raw / IMAGES / "M003").rglob("*.jpg"):
        image.unlink()
    folder = build(raw, tmp_path / "set", workers=workers)
    report = json.loads((folder / "integrity.json").read_text())
    assert report["remarks"]["subject_unusable"] == ["F001", "M003"]
    assert report["losses"]["image_unreadable"] == [
        f"{IMAGES}/F001/{task}/{form.format(n)}.jpg"
        for task, form in (("T1", "{}"), ("T2", "{:04d}"))
        for n in range(8, 13)
    ]
    assert len(report["losses"]["image_missing"]) == 10
    assert (report["written"], report["lost"]) == (10, 20)
    assert list(report["subjects"]) == ["F002"] and report["aligned_by"] == {"none": 10}
    builder = tfds.builder_from_directory(folder)
    assert list(builder.info.splits) == ["F002"]
    assert builder.info.splits["F002"].num_examples == 10


@pytest.mark.parametrize("workers", [0, 1])
def test_a_tree_without_any_usable_frame_leaves_nothing(write_tree, tmp_path, workers):
    raw = write_tree()
    for image in raw.rglob("*.jpg"):
        image.write_bytes(b"no picture")
    with pytest.raises(UserError, match="no labelled frame of any subject is usable"):
        build(raw, tmp_path / "set", workers=workers)
    assert not (tmp_path / "set").exists()


def test_a_tree_that_cannot_be_trusted_stops_before_anything_is_written(write_tree, tmp_path):
    raw = write_tree()
    (raw / "AUCoding/AU_OCC/F001_T1.csv").write_text("8,1,0\n")
    with pytest.raises(UserError, match=r"F001_T1.csv:1"):
        build(raw, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_prepared_set_is_replaced_only_on_request(write_tree, tmp_path, capsys):
    raw = write_tree()
    folder = build(raw, tmp_path / "set")
    summary, place = capsys.readouterr().out.splitlines()
    assert summary in " ".join((folder / "integrity.txt").read_text().split("\n"))
    assert place == f"{folder}: the set, its integrity.txt and integrity.json"
    before = contents(folder)
    other = write_tree(("F005",), "other")
    with pytest.raises(UserError, match="--overwrite"):
        build(other, tmp_path / "set")
    assert contents(folder) == before
    build(other, tmp_path / "set", overwrite=True)
    assert list(tfds.builder_from_directory(folder).info.splits) == ["F005"]
    assert [path.name for path in folder.parent.iterdir()] == ["2.0.0"]


def test_the_old_set_survives_an_overwrite_that_is_stopped(write_tree, tmp_path, monkeypatch):
    folder = build(write_tree(), tmp_path / "set")
    before = contents(folder)
    other = write_tree(("F005",), "other")
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            build(other, tmp_path / "set", overwrite=True)
    assert contents(folder) == before and list(staged(folder)) == ["F005_T1"]
    build(other, tmp_path / "set", overwrite=True)
    assert contents(folder) == contents(build(other, tmp_path / "whole"))


@pytest.mark.parametrize("links", [True, False])
def test_a_stop_between_the_two_renames_costs_no_set(write_tree, tmp_path, monkeypatch, links):
    folder = build(write_tree(), tmp_path / "set")
    before = contents(folder)

    def replace(source, target):
        if Path(target) == folder and Path(source).name != "replaced":
            raise OSError(28, "No space left on device", str(target))
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", replace)
    if not links:
        monkeypatch.setattr(os, "link", lambda source, target: os.stat("/nowhere"))
    kept = "; 2 finished shards kept, and the same command continues with them" if links else ""
    with pytest.raises(RunError, match=f"No space left on device{kept}$"):
        build(write_tree(("F005",), "other"), tmp_path / "set", overwrite=True)
    assert contents(folder) == before
    assert len(staged(folder)) == (2 if links else 0)


def test_what_a_killed_prepare_left_is_swept_away(write_tree, tmp_path, capsys):
    raw = write_tree()
    folder = build(raw, tmp_path / "set")
    left = folder.with_name(f"incomplete.{folder.name}")
    (left / "bp4d").mkdir(parents=True)
    os.replace(folder, left / "replaced")  # killed in the very moment of the swap
    older = folder.with_name(f"incomplete.A1B2C3_{folder.name}")
    older.mkdir()
    with pytest.raises(UserError, match="--overwrite"):
        build(raw, tmp_path / "set")
    assert (folder / "dataset_info.json").is_file()
    assert f"removed {older}" in capsys.readouterr().err
    build(raw, tmp_path / "set", overwrite=True)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_file_system_without_links_gets_the_same_bytes(write_tree, tmp_path, monkeypatch):
    raw = write_tree()
    expected = contents(build(raw, tmp_path / "links"))

    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert contents(build(raw, tmp_path / "none")) == expected


def test_a_failure_without_a_finished_shard_leaves_nothing(write_tree, tmp_path, monkeypatch):
    raw = write_tree(("F001",))
    stop_after(monkeypatch, 0, RunError("the disk is full"))
    with pytest.raises(RunError, match=r"^the disk is full$"):
        build(raw, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    (tmp_path / "set/bp4d").mkdir(parents=True)  # not its own
    with pytest.raises(RunError):
        build(raw, tmp_path / "set")
    assert list((tmp_path / "set").rglob("*")) == [tmp_path / "set/bp4d"]


def test_ctrl_c_is_one_line_that_states_what_is_kept(write_tree, tmp_path):
    """The terminal sends it to the workers, too."""
    raw = write_tree()
    process = Stopped(raw, tmp_path / "set", "M003_T1")
    worker = process.worker()
    for pid in (worker, process.pid):
        os.kill(pid, signal.SIGINT)
    assert process.wait() == 130
    assert "Traceback" not in process.log
    assert process.log.splitlines()[-1] == (
        "interrupted: 2 finished shards kept, and the same command continues with them"
    )


def test_two_processes_do_not_prepare_one_set(write_tree, tmp_path):
    folder = build(write_tree(), tmp_path / "set")
    handle = os.open(folder.parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another process"):
        build(tmp_path / "raw", tmp_path / "set", overwrite=True)
    os.close(handle)
    build(tmp_path / "raw", tmp_path / "set", overwrite=True)


def test_a_place_below_a_file_is_named(write_tree, tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "file/set"):
        with pytest.raises(UserError, match=r"--data_dir=.*/file is not a folder"):
            build(write_tree(("F001",), f"raw_{len(place)}"), tmp_path / place)


def test_the_progress_bar_moves_within_a_video(tmp_path, monkeypatch, capsys):
    """A worker reports every frame, the bar shows them as they come."""
    raw = write_disfa(tmp_path / "raw", ("SN001",), frames=40)
    seen = []
    update = module.tqdm.update
    monkeypatch.setattr(module.tqdm, "update", lambda bar, n=1: (seen.append(n), update(bar, n)))
    folder = build(raw, tmp_path / "set", dataset="disfa")
    assert sum(seen) == 40 and len(seen) > 30
    seen.clear()
    with_worker = build(raw, tmp_path / "worker", dataset="disfa", workers=1)
    assert sum(seen) == 40
    assert contents(with_worker) == contents(folder)
    assert "40/40" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("ck", {}, "--dataset='ck'"),
        ("bp4d", {"crop": "dlib"}, "--crop='dlib' is not a crop rule; expected one of cascade"),
        ("bp4d", {"crop_size": 4}, "--crop_size=4"),
        ("bp4d", {"crop_file": "x"}, "--crop_file="),
        ("bp4d", {"workers": -1}, "--workers=-1"),
        ("bp4d", {"camera": "left"}, "--camera=left: bp4d has one camera"),
        ("disfa", {"camera": "top"}, "--camera='top'"),
        ("folder", {"frame_offset": 1}, "--frame_offset=1"),
        ("bp4d", {"frame_offset": 10000}, "--frame_offset=10000 is out of range; expected -9999"),
        ("bp4d", {"frame_offset": -10000}, "--frame_offset=-10000 is out of range"),
        ("bp4d", {"beam_options": ("a=b",)}, "--beam_options=a=b does nothing without"),
        ("bp4d", {"beam_runner": "DirectRunner", "workers": 2}, "--workers=2 does nothing with"),
    ],
)
def test_options_that_are_wrong_or_do_nothing_are_named(
    write_tree, tmp_path, dataset, options, message
):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        prepare(dataset, write_tree(("F001",)), tmp_path / "set", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()
