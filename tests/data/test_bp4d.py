"""A raw tree with every trap, built and read back; and the mistakes that must stop a build."""

import csv
import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from vlfau_jax.data import bp4d
from vlfau_jax.data.bp4d_tree import index_tree
from vlfau_jax.data.faces import crop_frames
from vlfau_jax.data.pipeline import open_prepared
from vlfau_jax.data.prepare import prepare
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS

IMAGES = "Sequences(2D+3D)"
LABELS = "AUCoding/AU_OCC"
LEVELS = "AUCoding/AU_INT/AU12/F001_T1_AU12.csv"


def build(raw: Path, out: Path, **options) -> Path:
    prepare("bp4d", raw, out, crop="none", crop_size=32, **{"workers": 0, **options})
    return next((out / "bp4d").glob("none_32/*"))


def edit_labels(path: Path, line: int, column: str, cell: str) -> None:
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[line][rows[0].index(column)] = cell
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")


def claiming_65500_pixels(jpeg: bytes) -> bytes:
    size = jpeg.index(b"\xff\xc0") + 5  # height and width, two bytes each
    return jpeg[:size] + b"\xff\xdc" * 2 + jpeg[size + 4 :]


def csv_codes(raw: Path, subject: str, task: int, frame: int) -> list[int]:
    """Reads a label file in another way than the builder does."""
    with (raw / LABELS / f"{subject}_T{task}.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if int(row["0"]) == frame)
    return [{"0": 0, "1": 1, "9": -1}[row[str(au)]] for au in BP4D_AUS]


@pytest.fixture
def trapped(write_tree) -> Path:
    raw = write_tree(("F001", "M003", "F024"))
    edit_labels(raw / LABELS / "F001_T1.csv", 2, "14", "9")
    image = raw / IMAGES / "M003/T1/9.jpg"
    image.write_bytes(image.read_bytes()[:1500])
    (raw / IMAGES / "M003/T1/10.jpg").write_bytes(b"no picture")
    (raw / IMAGES / "M003/T2/0011.jpg").unlink()
    shutil.copy(raw / IMAGES / "F001/T1/8.jpg", raw / IMAGES / "F001/T1/99.jpg")
    shutil.copytree(raw / IMAGES / "F001/T1", raw / IMAGES / "F001/T7")
    shutil.copy(raw / LABELS / "F001_T1.csv", raw / LABELS / "F001_T8.csv")
    (raw / IMAGES / "F001/T1/Thumbs.db").touch()
    gap = raw / LABELS / "F024_T1.csv"
    lines = gap.read_text().splitlines(keepends=True)
    gap.write_text("".join(lines[:3] + lines[4:]))
    levels = raw / LEVELS
    levels.parent.mkdir(parents=True)
    levels.write_text("8,3\n9,9\n10,0\n77,2\n")
    return raw


def test_every_trap_is_found_and_every_label_equals_its_cell(trapped, tmp_path):
    folder = build(trapped, tmp_path / "set")
    report = json.loads((folder / "integrity.json").read_text())
    assert report["losses"] == {
        "image_missing": [f"{IMAGES}/M003/T2/11.jpg"],
        "image_unreadable": [f"{IMAGES}/M003/T1/9.jpg", f"{IMAGES}/M003/T1/10.jpg"],
        "no_face": [],
    }
    remarks = report["remarks"]
    assert remarks["sequence_without_labels"] == [f"{IMAGES}/F001/T7"]
    assert remarks["labels_without_sequence"] == [f"{LABELS}/F001_T8.csv"]
    assert remarks["subject_unexpected"] == ["F024"]
    assert len(remarks["subject_missing"]) == 39
    assert remarks["gap"] == [f"{LABELS}/F024_T1.csv: 10 to 10"]
    assert f"{IMAGES}/F001/T1/Thumbs.db" in remarks["name_ignored"]
    assert remarks["intensity_frame_unlabelled"] == [
        "AUCoding/AU_INT/AU12/F001_T1_AU12.csv: frame 77"
    ]
    facts = {(s["subject"], s["task"]): s for s in report["sequences"]}
    assert facts["F001", 1]["padding"] == "none" and facts["F001", 2]["padding"] == "4"
    assert facts["F001", 1]["unlabelled_images"] == 1 and facts["F001", 1]["unknown_labels"] == 1
    assert facts["M003", 1]["written"] == 3
    assert report["written"] == 30 - 4 and report["lost"] == 3

    dataset = open_prepared("bp4d", tmp_path / "set")
    seen = 0
    for example in dataset.source(dataset.subjects):
        subject = example["subject"].decode()
        expected = csv_codes(trapped, subject, example["task"], example["frame"])
        assert example["occurrence"].tolist() == expected
        level = {8: 3, 9: -1, 10: 0}.get(example["frame"], -1)
        place = (subject, example["task"])
        assert example["intensity"][6] == (level if place == ("F001", 1) else -1)
        assert (np.delete(example["intensity"], 6) == -1).all()
        assert (trapped / example["source"].decode()).is_file()
        seen += 1
    assert seen == 26

    table = (folder / "integrity.txt").read_text()
    for place in [*report["losses"]["image_unreadable"], "F024_T1.csv: 10 to 10", "26 frames"]:
        assert place in table


def test_metadata_counts_what_was_written(trapped, tmp_path):
    build(trapped, tmp_path / "set")
    dataset = open_prepared("bp4d", tmp_path / "set")
    assert dataset.aus == BP4D_AUS and dataset.subjects == ("F001", "F024", "M003")
    assert dataset.tasks == (1, 2) and not dataset.synthetic
    assert dataset.crop["name"] == "none" and dataset.crop["size"] == 32
    for subject in dataset.subjects:
        codes = np.array([e["occurrence"] for e in dataset.source([subject])])
        positives, known = dataset.label_counts([subject])
        assert positives.tolist() == (codes == 1).sum(0).tolist()
        assert known.tolist() == (codes >= 0).sum(0).tolist()
        assert dataset.frames([subject]) == len(codes)
    assert dataset.label_counts(["F001"])[1].tolist() == [10] * 7 + [9] + [10] * 4


def test_renderers_mark_travels(write_tree, tmp_path):
    raw = write_tree()
    (raw / "SYNTHETIC.json").write_text("{}")
    build(raw, tmp_path / "set")
    assert open_prepared("bp4d", tmp_path / "set").synthetic


def test_bytes_do_not_depend_on_workers(write_tree, tmp_path):
    raw = write_tree()
    one, two = build(raw, tmp_path / "one"), build(raw, tmp_path / "two", workers=2)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_records_have_their_keys_in_order(write_tree, tmp_path):
    """Otherwise the bytes change from process to process, which one test run cannot see."""
    folder = build(write_tree(("M003",)), tmp_path / "set")
    records = ArrayRecordDataSource(str(next(folder.glob("*M003*"))))
    names = sorted(["image", "occurrence", "intensity", "subject", "task", "frame", "source"])
    for record in records:
        places = [record.index(b"\n%c%s" % (len(name), name.encode())) for name in names]
        assert places == sorted(places)


def test_builder_works_through_tfds_alone(write_tree, tmp_path):
    assert bp4d.Bp4d.name == "bp4d"
    builder = tfds.builder("bp4d/none_256", data_dir=tmp_path / "set")
    config = tfds.download.DownloadConfig(manual_dir=write_tree(("M003",)))
    builder.download_and_prepare(download_config=config)
    source = builder.as_data_source("M003", decoders={"image": tfds.decode.SkipDecoding()})
    assert [(e["task"], e["frame"]) for e in source] == [
        (task, frame) for task in (1, 2) for frame in range(8, 13)
    ]
    assert source[0]["image"][:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("break_tree", "message"),
    [
        (lambda raw: shutil.rmtree(raw), "is not a folder"),
        (lambda raw: shutil.rmtree(raw / IMAGES), "holds no Sequences"),
        (lambda raw: shutil.rmtree(raw / LABELS), "holds no AUCoding"),
        (lambda raw: [shutil.rmtree(p) for p in (raw / IMAGES).iterdir()], "no frame with both"),
        (
            lambda raw: (raw / LABELS / "F001_T1.csv").write_text("8,1,0\n"),
            "F001_T1.csv:1: no header",
        ),
        (lambda raw: edit_labels(raw / LABELS / "M003_T2.csv", 3, "7", "7"), "M003_T2.csv:4: AU 7"),
        (lambda raw: (raw / IMAGES / "F001/T1/0008.jpg").touch(), "same number"),
        (lambda raw: (raw / IMAGES / "F001/T01").mkdir(), "same number"),
    ],
)
def test_a_tree_that_cannot_be_trusted_stops_before_anything_is_written(
    write_tree, tmp_path, break_tree, message
):
    raw = write_tree()
    break_tree(raw)
    with pytest.raises(UserError, match=message) as error:
        build(raw, tmp_path / "set")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_subject_without_a_usable_frame_is_left_out_and_named(write_tree, tmp_path, workers):
    raw = write_tree(("F001", "F002", "M003"))
    for image in (raw / IMAGES / "F001").rglob("*.jpg"):
        image.write_bytes(b"no picture")
    shutil.rmtree(raw / IMAGES / "M003/T1")
    (raw / IMAGES / "M003/T1").mkdir()
    for image in (raw / IMAGES / "M003/T2").iterdir():
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
    dataset = open_prepared("bp4d", tmp_path / "set")
    assert dataset.subjects == ("F002",) and len(dataset.source(["F002"])) == 10


def test_a_tree_without_any_usable_frame_leaves_nothing_finished(write_tree, tmp_path):
    raw = write_tree()
    for image in raw.rglob("*.jpg"):
        image.write_bytes(b"no picture")
    with pytest.raises(UserError, match="no labelled frame of any subject is usable"):
        build(raw, tmp_path / "set")
    with pytest.raises(UserError, match="holds no prepared bp4d"):
        open_prepared("bp4d", tmp_path / "set")


def test_files_that_cannot_be_read_cost_only_their_frames(write_tree, tmp_path):
    raw = write_tree(("F001",))
    images = raw / IMAGES / "F001/T1"
    for name in ("8.jpg", "9.jpg", "10.jpg"):
        whole = (images / name).read_bytes()
        (images / name).unlink()
    (images / "8.jpg").symlink_to("nowhere.jpg")
    (images / "9.jpg").mkdir()
    (images / "10.jpg").write_bytes(claiming_65500_pixels(whole))
    folder = build(raw, tmp_path / "set")
    report = json.loads((folder / "integrity.json").read_text())
    lost = [f"{IMAGES}/F001/T1/{n}.jpg" for n in (8, 9, 10)]
    assert report["losses"]["image_unreadable"] == lost and report["written"] == 7


def test_absent_intensities_are_remarked_on(write_tree, tmp_path):
    raw = write_tree()
    for au, where in ((6, "AUCoding/AU_INT"), (12, "AU Intensity Codes3.0")):
        (raw / where / f"AU{au:02d}").mkdir(parents=True)
        for sequence in ("F001_T1", "F001_T2", "M003_T1"):
            (raw / where / f"AU{au:02d}" / f"{sequence}_AU{au:02d}.csv").write_text("8,3\n")
    remarks = index_tree(raw).report.remarks["intensity_missing"]
    assert remarks == [
        *(
            f"AU Intensity Codes3.0/AU{au} and AUCoding/AU_INT/AU{au}: no such folder"
            for au in (10, 14, 17)
        ),
        "AUCoding/AU_INT/AU06/M003_T2_AU06.csv",
        "AU Intensity Codes3.0/AU12/M003_T2_AU12.csv",
    ]


def test_an_interrupted_build_leaves_nothing_finished(write_tree, tmp_path, monkeypatch):
    calls = []

    def interrupt(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return crop_frames(*args, **kwargs)

    monkeypatch.setattr(bp4d, "crop_frames", interrupt)
    raw = write_tree()
    with pytest.raises(KeyboardInterrupt):
        build(raw, tmp_path / "set")
    with pytest.raises(UserError, match="holds no prepared bp4d"):
        open_prepared("bp4d", tmp_path / "set")
    monkeypatch.undo()
    build(raw, tmp_path / "set")
    assert open_prepared("bp4d", tmp_path / "set").frames(["F001", "M003"]) == 20


def test_a_prepared_set_is_replaced_only_on_request(write_tree, tmp_path):
    folder = build(write_tree(), tmp_path / "set")
    before = (folder / "dataset_info.json").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        build(write_tree(("F005",), "other"), tmp_path / "set")
    assert (folder / "dataset_info.json").read_bytes() == before
    build(tmp_path / "other", tmp_path / "set", overwrite=True)
    assert open_prepared("bp4d", tmp_path / "set").subjects == ("F005",)


def test_the_old_set_survives_an_overwrite_that_fails(write_tree, tmp_path, monkeypatch):
    folder = build(write_tree(), tmp_path / "set")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupt(*args, **kwargs):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        raise KeyboardInterrupt

    monkeypatch.setattr(bp4d, "crop_frames", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(write_tree(("F005",), "other"), tmp_path / "set", overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


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
    assert open_prepared("bp4d", tmp_path / "set").folder == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    said = capsys.readouterr().err
    assert f"removed {left}" in said and f"removed {older}" in said


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


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("ck", {}, "--dataset='ck'"),
        ("bp4d", {"crop": "mtcnn"}, "--crop='mtcnn' is not a crop rule; expected one of cascade"),
        ("bp4d", {"crop_size": 4}, "--crop_size=4"),
        ("bp4d", {"workers": -1}, "--workers=-1"),
    ],
)
def test_options_out_of_range_are_named(write_tree, tmp_path, dataset, options, message):
    with pytest.raises(UserError, match=message):
        prepare(dataset, write_tree(), tmp_path / "set", **options)


def test_index_opens_no_image(write_tree):
    raw = write_tree(("F001",))
    for image in raw.rglob("*.jpg"):
        image.write_bytes(b"")
    tree = index_tree(raw)
    assert [s.frames for s in tree.sequences] == [(8, 9, 10, 11, 12)] * 2
