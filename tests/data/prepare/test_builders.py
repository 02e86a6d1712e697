"""The builders as anybody uses them who imports the package: through tfds alone."""

import hashlib
import json
import sys
import tempfile

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data.builds import build, contents
from tests.data.tree_writers import DISFA_CODED, write_disfa, write_table, write_video
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.prepare import builder as module
from vlfau_jax.data.prepare import shards
from vlfau_jax.data.prepare.builder import au_config, config_named
from vlfau_jax.data.prepare.builders import BUILDERS
from vlfau_jax.data.prepare.prepare import prepare
from vlfau_jax.data.raw.disfa import CAMERAS
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS


def download_and_prepare(name, out, raw, **config):
    builder = tfds.builder(name, data_dir=out)
    options = tfds.download.DownloadConfig(manual_dir=raw, **config)
    builder.download_and_prepare(download_config=options)
    return builder


def test_bp4d_is_written_and_read_through_tfds(write_tree, tmp_path):
    raw = write_tree(("M003",))
    builder = download_and_prepare("bp4d/none_32", tmp_path / "tfds", raw)
    source = builder.as_data_source("M003", decoders={"image": tfds.decode.SkipDecoding()})
    assert [(e["task"], e["frame"]) for e in source] == [
        (task, frame) for task in (1, 2) for frame in range(8, 13)
    ]
    assert source[0]["image"][:2] == b"\xff\xd8"
    folder = tmp_path / "tfds/bp4d/none_32/2.0.0"
    assert contents(folder) == contents(build(raw, tmp_path / "verb"))
    assert [path.name for path in folder.parent.iterdir()] == ["2.0.0"]

    again = tfds.data_source("bp4d/none_32", data_dir=tmp_path / "verb", split="M003")
    assert again[3]["image"].shape == (32, 32, 3) and again[3]["frame"] == 11
    read_only = tfds.builder_from_directory(folder)
    assert read_only.info.features["occurrence"].shape == (12,)
    assert read_only.info.metadata["aus"] == list(BP4D_AUS)
    assert "tensorflow" not in sys.modules


def test_disfa_is_written_and_read_through_tfds(tmp_path):
    raw = write_disfa(tmp_path / "raw", ("SN001", "SN002"))
    write_video(raw / "Video_RightCamera/RightVideoSN001_comp.avi", 5, np.random.default_rng(8))
    builder = download_and_prepare("disfa/none_32", tmp_path / "set", raw)
    source = builder.as_data_source("SN001+SN002")
    assert len(source) == 10
    levels = [
        [
            int((raw / f"ActionUnit_Labels/SN002/SN002_au{au}.txt").read_text().split()[3][2:])
            for au in DISFA_CODED
        ]
    ]
    example = source[8]
    assert (example["subject"], example["task"], example["frame"]) == (b"SN002", 1, 4)
    assert example["intensity"].tolist() == levels[0]
    assert (example["occurrence"] == -1).all()
    assert example["source"] == b"Videos_LeftCamera/LeftVideoSN002_comp.avi#3"
    metadata = builder.info.metadata
    assert (metadata["camera"], metadata["layout"], metadata["tasks"]) == ("left", "raw", [1])
    assert metadata["aus"] == list(DISFA_CODED) and metadata["benchmark"] == list(DISFA_AUS)

    right = download_and_prepare("disfa/none_32_right_offset1", tmp_path / "set", raw)
    source = right.as_data_source("SN001")
    assert [(e["frame"], e["source"][-2:]) for e in source] == [
        (1, b"#1"),
        (2, b"#2"),
        (3, b"#3"),
        (4, b"#4"),
    ]
    assert right.info.metadata["camera"] == "right" and right.info.metadata["frame_offset"] == 1
    assert source[0]["source"].startswith(b"Video_RightCamera/")


def test_a_folder_is_written_and_read_through_tfds(tmp_path):
    raw = write_table(
        tmp_path / "raw",
        ["image,subject,AU04,AU12", "a.jpg,ann,1,0", "b.jpg,ann,,1", "c.jpg,bob,0,0"],
    )
    builder = download_and_prepare("folder/none_32", tmp_path / "set", raw)
    source = builder.as_data_source("ann+bob")
    assert [e["occurrence"].tolist() for e in source] == [[1, 0], [-1, 1], [0, 0]]
    assert source[0]["occurrence"].dtype == np.int8
    metadata = json.loads((tmp_path / "set/folder/none_32/2.0.0/metadata.json").read_text())
    assert metadata["aus"] == metadata["benchmark"] == [4, 12]
    assert (metadata["layout"], metadata["camera"]) == ("folder", "")
    assert contents(tmp_path / "set/folder/none_32/2.0.0") == contents(
        build(raw, tmp_path / "verb", dataset="folder")
    )


def test_a_set_names_the_boxes_and_the_opencv_that_made_it(tmp_path):
    rows = ["image,subject,AU04", "a.jpg,ann,1", "b.jpg,ann,0"]
    raw, table = write_table(tmp_path / "raw", rows), tmp_path / "boxes.csv"
    rule = {"dataset": "folder", "crop": "box", "crop_file": str(table), "crop_size": 32}
    table.write_text("source,left,top,width,height\nelse.jpg,1,1,50,50\n")
    with pytest.raises(UserError, match=r"boxes\.csv: no row is about .*'else\.jpg'") as error:
        build(raw, tmp_path / "set", **rule)
    assert "\n" not in str(error.value)
    table.write_text("source,left,top,width,height\nb.jpg,1,1,50,50\n")
    prepare(raw_dir=raw, data_dir=tmp_path / "set", workers=0, **rule)
    folder = tmp_path / "set/folder/box_32/2.0.0"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["crop_table_sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert metadata["opencv"] == cv2.__version__
    report = json.loads((folder / "integrity.json").read_text())
    assert report["losses"]["not_in_table"] == ["a.jpg"] and report["written"] == 1


def test_a_subject_that_cannot_name_a_split_is_refused(write_tree, tmp_path, monkeypatch):
    raw = write_table(tmp_path / "raw", ["image,subject,AU04", "a.jpg,all,1"])
    with pytest.raises(UserError, match="'all'"):
        build(raw, tmp_path / "set", dataset="folder")


def test_tfds_leaves_nothing_elsewhere(write_tree, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    build(write_tree(("F001",)), tmp_path / "set")
    tfds.builder("bp4d/none_64", data_dir=tmp_path / "set")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_prepare_refuses_a_set_that_tfds_is_making(write_tree, tmp_path, monkeypatch):
    """It would delete the other's work."""
    raw, others = write_tree(("F001",)), []

    def write_shard(job):
        with pytest.raises(UserError, match="is being written by another process"):
            build(raw, tmp_path / "set")
        others.append(job)
        return shards.write_shard(job)

    monkeypatch.setattr(module, "write_shard", write_shard)
    builder = download_and_prepare("bp4d/none_32", tmp_path / "set", raw)
    assert len(builder.as_data_source("F001")) == 10 and len(others) == 2


@pytest.mark.parametrize("config", [{"beam_runner": "DirectRunner"}, {"max_examples_per_split": 2}])
def test_what_tfds_would_ignore_is_refused(write_tree, tmp_path, config):
    with pytest.raises(UserError, match="do nothing here"):
        download_and_prepare("bp4d/none_32", tmp_path / "set", write_tree(("F001",)), **config)


def test_another_file_format_is_refused(write_tree, tmp_path):
    builder = tfds.builder("bp4d/none_32", data_dir=tmp_path / "set", file_format="tfrecord")
    config = tfds.download.DownloadConfig(manual_dir=write_tree(("F001",)))
    with pytest.raises(UserError, match="file_format=tfrecord is not written here"):
        builder.download_and_prepare(download_config=config)


@pytest.mark.parametrize(
    ("name", "camera", "offset"),
    [
        ("cascade_256", "left", 0),
        ("cascade_96_right", "right", 0),
        ("none_64_offset-1", "left", -1),
        ("landmarks_224_right_offset12", "right", 12),
    ],
)
def test_every_name_is_a_config(name, camera, offset):
    config = config_named(name, CAMERAS)
    assert (config.name, config.camera, config.frame_offset) == (name, camera, offset)
    rule, size = name.split("_")[:2]
    assert config.crop == crop_rule(rule, int(size))
    assert au_config(config.crop, camera, offset, cameras=CAMERAS).name == name
    assert BUILDERS["disfa"].get_builder_config(name) is BUILDERS["disfa"].get_builder_config(name)


@pytest.mark.parametrize("offset", [9999, -9999])
def test_the_widest_frame_offsets_are_names_still(offset):
    name = au_config(crop_rule("none", 64), frame_offset=offset).name
    assert config_named(name, ()).frame_offset == offset


@pytest.mark.parametrize(
    "name",
    [
        "",
        "cascade",
        "cascade_8",
        "retinaface_256",
        "yunet_256",
        "none_64_right_",
        "none_64_left",
        "none_64_offset0",
    ],
)
def test_other_names_are_none(name):
    assert config_named(name, CAMERAS) is None


def test_only_disfa_has_a_right_camera():
    assert BUILDERS["bp4d"].get_builder_config("cascade_256_right") is None
    assert BUILDERS["disfa"].get_builder_config("cascade_256_right").camera == "right"


@pytest.mark.parametrize("builder", BUILDERS.values())
def test_the_listed_configs_are_documented(builder, tmp_path):
    for config in builder.BUILDER_CONFIGS:
        info = builder(config=config.name, data_dir=tmp_path).info
        assert info.config_description == config.description
        for part in (
            "What it is: ",
            "Licence: ",
            "How to build it:",
            "python -m vlfau_jax prepare",
        ):
            assert part in info.description
    assert builder.builder_configs["cascade_256"] is builder.BUILDER_CONFIGS[0]
