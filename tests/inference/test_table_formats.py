"""Parquet and py-feat's columns hold what the CSV and the JSON lines do."""

import csv

import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.inference import table_formats
from vlfau_jax.inference.prediction_files import describe_columns

AUS = (1, 12)
COLUMNS = describe_columns(AUS, (0.5, 0.5), ("au_probabilities",), {})


def record(frame, success=1, person=0):
    unit = {"probability": 0.25, "active": False, "sentence": "no", "sentence_probability": 0.5}
    none = dict.fromkeys(unit)
    return {
        "frame": frame,
        "face_id": person,
        "timestamp": (frame - 1) * 30.5,
        "confidence": 0.9 if success else 0.0,
        "success": success,
        "source": "a.mp4",
        "sentence": "a woman smiles" if success else None,
        "per_au": {"1": unit, "12": none} if success else None,
        "box": [1.5, 2.0, 30.0, 40.0] if success else None,
        "finder": "yunetwheel",
        **({} if success else {"reason": "no face", "detail": ""}),
    }


def records():
    return [record(1), record(2, 0, -1), *(record(k, person=1) for k in range(3, 5000))]


def test_parquet_is_typed_and_described(tmp_path):
    from pyarrow import parquet

    table_formats.write_parquet(tmp_path / "a.parquet", iter(records()), AUS, COLUMNS)
    table = parquet.read_table(tmp_path / "a.parquet")
    first, second, *_ = table.slice(0, 2).to_pylist()
    assert table.num_rows == len(records())
    assert first["AU01_p"] == 0.25 and first["AU01_c"] == 0 and first["AU12_p"] is None
    assert first["FaceRectHeight"] == 40.0 and first["sentence"] == "a woman smiles"
    assert second["AU01_c"] is None and second["FaceRectX"] is None
    assert second["face_id"] == -1 and second["reason"] == "no face"
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["frame"] == "int64" and kinds["AU01_p"] == "double" and kinds["AU01_c"] == "int8"
    described = table.schema.field("AU01_p").metadata[b"description"].decode()
    assert described == COLUMNS["predictions.csv"]["AU01_p"]


def test_the_columns_are_those_of_py_feat(tmp_path):
    table_formats.write_pyfeat(tmp_path / "a.csv", iter(records()[:3]), AUS, COLUMNS)
    with (tmp_path / "a.csv").open(newline="") as file:
        first, second, third = csv.DictReader(file)
    boxes = ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"]
    assert [first[name] for name in boxes] == ["1.5", "2.0", "30.0", "40.0", "0.9"]
    assert (first["AU01"], first["AU12"], first["frame"]) == ("0.250000", "", "0")
    assert (first["Identity"], third["Identity"], second["Identity"]) == (
        "Person_0",
        "Person_1",
        "",
    )
    assert third["approx_time"] == "01:01" and first["input"] == "a.mp4"
    assert {"anger", "neutral", "Pitch", "x_0", "y_67"} <= first.keys()
    assert second["AU01"] == second["FaceRectX"] == ""


def test_formats_are_checked_before_any_work(monkeypatch):
    table_formats.check_formats(("parquet", "pyfeat"))
    with pytest.raises(UserError, match="--format=xml: expected parquet or pyfeat"):
        table_formats.check_formats(("xml",))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    table_formats.check_formats(("pyfeat",))
    with pytest.raises(UserError, match="`pip install pyarrow`"):
        table_formats.check_formats(("parquet",))
