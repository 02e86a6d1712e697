"""Lines of metrics.jsonl, good and bad."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.train.metrics import read_metrics

BAD = (
    b"",
    b"{",
    b"[1]",
    b"null",
    b'{"total": 1}',
    b'{"step": "1"}',
    b'{"step": true}',
    b'{"step": -1}',
    b'{"step": 1, "total": NaN}',
    b'{"step": 1, "total": 1e999}',
    b'{"step": 1, "total": 1e300}',
    b'{"step": 1, "total": "x"}',
    b'{"step": 1, "total": {"a": [1]}}',
    b'{"step": 1' + b"0" * 5000 + b"}",
    b'{"step": 1, "\xff": 1}',
    b"[" * 100_000,
)


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_line_is_counted_and_the_others_are_read(tmp_path, capsys, bad):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "total": 2.5}\n' + bad + b'\n{"step": 2, "total": null}\n')
    found = read_metrics(path)
    assert found.records == ({"step": 1, "total": 2.5}, {"step": 2, "total": None})
    assert found.left_out == 1
    assert f"{path}:2: " in capsys.readouterr().err


def test_an_unfinished_last_line_is_no_fault(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    found = read_metrics(path)
    assert found.records == ({"step": 1}, {"step": 2}) and found.left_out == 0
    assert read_metrics(tmp_path / "nowhere").records == ()
    assert capsys.readouterr().err == ""


def test_what_is_no_file_costs_only_the_curves(tmp_path, capsys):
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert read_metrics(tmp_path / "metrics.jsonl").records == ()
    assert "no regular file" in capsys.readouterr().err


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=5))
def test_every_line_is_read_or_counted(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "fuzzed.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    found = read_metrics(path)
    assert len(found.records) + found.left_out == len(lines)
    assert all(json.dumps(record, allow_nan=False) for record in found.records)
