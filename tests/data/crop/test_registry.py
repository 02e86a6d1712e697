"""What holds for every crop rule. A new one needs its digest here and is tested with the others."""

import dataclasses
import hashlib
import inspect
import re
from multiprocessing.reduction import ForkingPickler

import pytest

from vlfau_jax.data.crop.registry import (
    RULES,
    crop_file_help,
    crop_help,
    crop_rule,
    reads_file,
    rule_from_record,
    table_rules,
)
from vlfau_jax.errors import UserError

CASCADE = crop_rule("cascade", 64)
# Of crops of 64 pixels, and files that hold "1": they are in prepared sets, checkpoints and model
# folders, which are refused if a digest changes.
DIGESTS = {
    "cascade": "34c91da3cb87727c",
    "yunet": "463deb71d11dc6ac",
    "yunetwheel": "ba0e2187753e85d8",
    "mtcnn": "36fa4cb8455df3bb",
    "mediapipe": "c501d4f3501fd446",
    "landmarks": "db425e2c5f13eb64",
    "box": "ea59ae89bab637d6",
    "none": "bd5d053e7706d5a7",
}


@pytest.fixture(params=RULES)
def rule(request, tmp_path):
    """Each rule in turn, with a file that holds "1" if it reads one."""
    return rule_of(request.param, tmp_path)


def rule_of(name, folder, content=b"1"):
    file = folder / f"{name}.bin"
    file.write_bytes(content)
    return crop_rule(name, 64, str(file) if reads_file(name) else "")


def test_digests_stay(rule):
    assert rule.digest == DIGESTS[rule.name]


def test_rules_are_plain_values_with_a_name_for_configs(rule):
    assert RULES[rule.name] is type(rule) and re.fullmatch("[a-z]+", rule.name)
    assert ForkingPickler.loads(ForkingPickler.dumps(rule)) == rule  # as workers get it
    assert dataclasses.replace(rule, size=65) != rule
    assert rule.parameters is not type(rule).PARAMETERS


def test_records_are_rebuilt(rule, tmp_path):
    assert rule_from_record(rule.describe(), rule.file, "config.json") == rule
    for change in {"version": 99}, {"size": 65}, {"digest": "0" * 16}, {"name": "another"}:
        with pytest.raises(UserError, match=r"config\.json: .* does not know crop rule") as error:
            rule_from_record(rule.describe() | change, rule.file, "config.json")
        assert "\n" not in str(error.value)


def test_a_record_asks_for_the_model_of_the_training(tmp_path):
    made, other = (rule_of("yunet", tmp_path, content) for content in (b"1", b"2"))
    sha256 = hashlib.sha256(b"1").hexdigest()
    assert made.parameters["file_sha256"] == sha256
    with pytest.raises(UserError, match=f"of SHA-256 {sha256}; give that file as --crop_file"):
        rule_from_record(made.describe(), "", "config.json")
    with pytest.raises(UserError, match=f"is not the file that config.json .*expected {sha256}"):
        rule_from_record(made.describe(), other.file, "config.json")
    with pytest.raises(UserError, match="the crop rule cascade reads no file"):
        rule_from_record(CASCADE.describe(), other.file, "config.json")
    with pytest.raises(UserError, match="needs a --crop_file"):
        rule_from_record(rule_of("box", tmp_path).describe(), "", "config.json")


@pytest.mark.parametrize("key", ["name", "version", "parameters", "size", "digest"])
def test_damaged_records_are_refused(key):
    for value in (None, 1.5):
        with pytest.raises(UserError, match=rf"config\.json: .*damaged: its {key} is {value}"):
            rule_from_record(CASCADE.describe() | {key: value}, "", "config.json")


def test_digests_follow_every_part():
    more = {**CASCADE.parameters, "zoom": 1.2}
    older = type("Older", (type(CASCADE),), {"version": 1})
    digests = {
        CASCADE.digest,
        crop_rule("cascade", 65).digest,
        crop_rule("none", 64).digest,
        older.create(64).digest,
        dataclasses.replace(CASCADE, parameters=more).digest,
        dataclasses.replace(CASCADE, parameters=CASCADE.parameters | {"smooth_frames": 7}).digest,
    }
    assert len(digests) == 6
    assert crop_rule("cascade", 64).digest == CASCADE.digest == CASCADE.describe()["digest"]


def test_a_models_bytes_are_part_of_its_rule_and_its_path_is_not(tmp_path):
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    a, b, c = (crop_rule("yunet", 64, str(tmp_path / name)) for name in "abc")
    assert a.digest == b.digest != c.digest
    assert str(tmp_path) not in str(a.describe()) and "file_sha256" in a.describe()["parameters"]
    boxes = {crop_rule("box", 64, str(tmp_path / name)).digest for name in "abc"}
    assert len(boxes) == 1  # a table of boxes is data, as landmarks are
    tables = [crop_rule("box", 64, str(tmp_path / name)).table_digest() for name in "abc"]
    assert tables[0] == tables[1] != tables[2] and tables[0] == hashlib.sha256(b"1").hexdigest()
    assert a.table_digest() == CASCADE.table_digest() == ""
    assert crop_rule("landmarks", 64).table_digest() == ""


@pytest.mark.parametrize(
    ("name", "size", "file", "message"),
    [
        (
            "other",
            64,
            "",
            "expected one of cascade, yunet, yunetwheel, mtcnn, mediapipe",
        ),
        ("cascade", 8, "", "expected 16 to 1024"),
        ("none", 5000, "", "expected 16 to 1024"),
        ("cascade", 64, "a.onnx", "reads no file"),
        ("landmarks", 64, "a.csv", "reads no file"),
        ("yunet", 64, "", "needs a --crop_file; expected YuNet's ONNX"),
        ("mediapipe", 64, "gone.task", r"gone\.task is no file; expected a MediaPipe"),
        ("box", 64, "", "expected a CSV with the columns source,left,top,width,height"),
    ],
)
def test_rules_that_are_refused(name, size, file, message):
    with pytest.raises(UserError, match=message):
        crop_rule(name, size, file)


def test_rules_that_read_tables_are_known_by_name():
    assert {"box", "landmarks"} <= set(table_rules()) <= RULES.keys() - {"cascade", "none"}
    assert table_rules() == sorted(table_rules())


def test_the_help_names_every_rule_and_file(rule):
    first = inspect.getdoc(type(rule)).splitlines()[0]
    assert f"{rule.name}: {first}" in crop_help() and first.endswith(".")
    assert (f"{rule.name}: {rule.FILE}" in crop_file_help()) == bool(rule.FILE)
