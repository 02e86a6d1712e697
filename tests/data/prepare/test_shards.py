"""One shard: what is in it, and when a finished one may be used again."""

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource

from tests.data.tree_writers import write_images
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.prepare import shards
from vlfau_jax.data.prepare.shards import ShardJob, features, finished, stored, write_shard
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence
from vlfau_jax.errors import RunError, UserError


@pytest.fixture
def job(tmp_path: Path, rng) -> ShardJob:
    """Five frames, the third of which is no picture."""
    names = [f"{n}.jpg" for n in range(4, 9)]
    write_images(tmp_path / "raw/a", names, rng)
    (tmp_path / "raw/a/6.jpg").write_bytes(b"no picture")
    (tmp_path / "work").mkdir()
    sequence = RawSequence(
        subject="F001",
        task=3,
        frames=(4, 5, 6, 7, 8),
        pictures=ImageFiles(tuple(str(tmp_path / "raw/a" / name) for name in names)),
        occurrence=rng.integers(-1, 2, (5, 12), np.int8),
        intensity=rng.integers(-1, 6, (5, 12), np.int8),
        sex="female",
    )
    return ShardJob(sequence, str(tmp_path / "raw"), crop_rule("none", 64), str(tmp_path / "work"))


def names(job: ShardJob) -> list[str]:
    return sorted(path.name for path in Path(job.folder).iterdir())


def test_a_shard_holds_its_sequence(job):
    facts = write_shard(job)
    assert names(job) == ["F001_T3.array_record", "F001_T3.json"]
    assert facts.kept == (0, 1, 3, 4) and facts.aligned_by == {"none": 4}
    assert facts.losses == (("image_unreadable", 2),)
    records = ArrayRecordDataSource(str(job.path))
    assert len(records) == 4
    for i, record in zip(facts.kept, records, strict=True):
        example = features(12, 64).deserialize_example_np(record)
        sequence = job.sequence
        assert example["image"].shape == (64, 64, 3)
        assert example["occurrence"].tolist() == sequence.occurrence[i].tolist()
        assert example["intensity"].tolist() == sequence.intensity[i].tolist()
        assert (example["task"], example["frame"]) == (3, sequence.frames[i])
        texts = {key: example[key].decode() for key in ("subject", "sex", "source", "aligned_by")}
        assert texts == {
            "subject": "F001",
            "sex": "female",
            "source": f"a/{sequence.frames[i]}.jpg",
            "aligned_by": "none",
        }
        # The centre square of 80 x 96 pixels, scaled to 64.
        assert example["box"].tolist() == [0, 8, 80, 80] and example["box"].dtype == np.float32
        assert np.allclose(example["alignment"], [[0.8, 0, 0], [0, 0.8, -6.4]], atol=1e-5)


def test_records_have_their_keys_in_order(job):
    """Otherwise the bytes change from process to process, which one test run cannot see."""
    write_shard(job)
    keys = sorted(features(12, 64))
    for record in ArrayRecordDataSource(str(job.path)):
        places = [record.index(b"\n%c%s" % (len(key), key.encode())) for key in keys]
        assert places == sorted(places)


def test_a_sequence_without_a_usable_frame_has_a_sidecar_only(job):
    write_shard(job)
    for path in job.sequence.pictures.paths:
        Path(path).write_bytes(b"")
    facts = write_shard(job)
    assert names(job) == ["F001_T3.json"]
    assert facts.kept == () and len(facts.losses) == 5
    assert finished(job) is not None


def test_a_finished_shard_is_known_again(job):
    facts = write_shard(job)
    assert finished(job) == stored(job) == facts


def edit(job: ShardJob, **changes) -> None:
    job.sidecar.write_text(json.dumps(json.loads(job.sidecar.read_text()) | changes))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda job: flip(job.path),
        lambda job: os.truncate(job.path, 70000),
        lambda job: job.path.unlink(),
        lambda job: job.sidecar.unlink(),
        lambda job: os.truncate(job.sidecar, 40),
        lambda job: job.sidecar.write_text("[1, 2]"),
        lambda job: job.sidecar.write_text('{"kept": []}'),
        lambda job: edit(job, kept=[0, 1, 3, 99]),
        lambda job: edit(job, kept=[1, 0, 3, 4]),
        lambda job: edit(job, losses=[["else", 2]]),
        lambda job: edit(job, size="1"),
        lambda job: edit(job, class_name="os.system"),
        lambda job: (job.sidecar.unlink(), os.mkfifo(job.sidecar)),
        lambda job: (job.path.unlink(), os.mkfifo(job.path)),
        lambda job: os.utime(job.sequence.pictures.paths[1], (5, 5)),
        lambda job: Path(job.sequence.pictures.paths[1]).unlink(),
    ],
    ids=[
        "shard flipped",
        "shard cut",
        "shard gone",
        "sidecar gone",
        "sidecar cut",
        "sidecar of a list",
        "sidecar short",
        "sidecar of other frames",
        "sidecar out of order",
        "sidecar with an unknown reason",
        "sidecar with a wrong type",
        "sidecar with another key",
        "sidecar a pipe",
        "shard a pipe",
        "picture touched",
        "picture gone",
    ],
)
def test_what_was_spoiled_is_not_used_again(job, spoil):
    write_shard(job)
    assert finished(job)
    spoil(job)
    assert finished(job) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": (4, 5, 6, 7, 9)},
        {"sex": "male"},
        {"recording": False},
        {"occurrence": np.zeros((5, 12), np.int8)},
        {"intensity": np.zeros((5, 12), np.int8)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_asked_for_otherwise_is_made_anew(job, changes):
    write_shard(job)
    assert finished(replace(job, sequence=replace(job.sequence, **changes))) is None
    assert finished(replace(job, rule=crop_rule("cascade", 64))) is None
    assert finished(job)


def test_another_opencv_makes_it_anew(job, monkeypatch):
    """It crops with other roundings, and compresses otherwise."""
    write_shard(job)
    monkeypatch.setattr(shards.cv2, "__version__", "5.0.0")
    assert finished(job) is None


def test_a_changed_table_of_landmarks_or_boxes_counts(job):
    table = Path(job.root) / "a/landmarks.csv"
    table.write_text("frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n4,20,40,60,40\n")
    by_landmarks = replace(job, rule=crop_rule("landmarks", 64))
    boxes = Path(job.root) / "boxes.csv"
    boxes.write_text("source,left,top,width,height\na/4.jpg,1,1,50,50\n")
    by_boxes = replace(job, rule=crop_rule("box", 64, str(boxes)))
    for made, read in ((by_landmarks, table), (by_boxes, boxes)):
        assert write_shard(made).kept == (0,)
        assert finished(made)
        read.write_text(read.read_text() + "\n")
        assert finished(made) is None


def test_a_crop_that_fails_leaves_nothing(job, monkeypatch):
    def failing(sequence, rule, root, seen):
        yield from ()
        raise UserError("landmarks.csv:3: no")

    monkeypatch.setattr(shards, "crop_sequence", failing)
    with pytest.raises(UserError, match="landmarks"):
        write_shard(job)
    assert names(job) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(job):
    """A limit on the size of files stands in for it: the writer fails in the same way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40000, hard))
    try:
        with pytest.raises(
            RunError, match=r"work cannot be written to: .*File too large$"
        ) as error:
            write_shard(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert names(job) == []


def test_a_folder_that_is_gone_is_one_line(job):
    with pytest.raises(RunError, match=r"elsewhere cannot be written to: .*No such file"):
        write_shard(replace(job, folder=job.folder + "/elsewhere"))
