"""Apache Beam in the place of worker processes: the same bytes, one line for what goes wrong."""

import re
import sys
from pathlib import Path

import pytest

from tests.data.builds import IMAGES, build, contents, staged
from vlfau_jax.data.prepare import beam, prepare
from vlfau_jax.errors import RunError, UserError

DIRECT = {"beam_runner": "DirectRunner", "workers": None}


def test_the_direct_runner_writes_the_same_bytes(write_tree, tmp_path, capsys):
    raw = write_tree(("F001", "F002", "M003"))
    (raw / IMAGES / "F001/T1/9.jpg").write_bytes(b"no picture")
    for image in (raw / IMAGES / "F002").rglob("*.jpg"):
        image.write_bytes(b"no picture")
    by_beam = contents(build(raw, tmp_path / "beam", **DIRECT))
    message = capsys.readouterr().err
    assert "30/30" in message and "WARNING" not in message
    for workers in (0, 2):
        assert by_beam == contents(build(raw, tmp_path / str(workers), workers=workers))


def test_several_worker_processes_of_beam_write_the_same_bytes(write_tree, tmp_path):
    raw = write_tree()
    options = ("direct_running_mode=multi_processing", "direct_num_workers=2")
    by_beam = contents(build(raw, tmp_path / "beam", **DIRECT, beam_options=options))
    assert by_beam == contents(build(raw, tmp_path / "0"))


def failing_on_f002(job):
    if job.sequence.subject == "F002":
        raise UserError("landmarks.csv:3: no")
    return _write_shard(job)


_write_shard = prepare.write_shard


def test_a_job_that_fails_is_one_line_and_finished_shards_stay(
    write_tree, tmp_path, monkeypatch, caplog
):
    raw = write_tree(("F001", "F002"))
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_shard", failing_on_f002)
        with pytest.raises(UserError, match=r"^landmarks.csv:3: no$"):
            build(raw, tmp_path / "set", **DIRECT)
    assert caplog.text == ""  # Beam would log a traceback
    kept = staged(tmp_path / "set/bp4d/none_32/2.0.0")
    assert set(kept) <= {"F001_T1", "F001_T2"}
    folder = build(raw, tmp_path / "set", **DIRECT)
    assert contents(folder) == contents(build(raw, tmp_path / "0"))


def write_nowhere(job):
    return None


def test_workers_that_write_elsewhere_are_noticed(write_tree, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "write_shard", write_nowhere)
    with pytest.raises(RunError, match=r"4 shards, such as F001_T1.array_record, are not in"):
        build(write_tree(), tmp_path / "set", **DIRECT)


def test_older_shards_are_not_taken_for_new_ones(write_tree, tmp_path, monkeypatch):
    raw = write_tree(("F001", "F002"))
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_shard", failing_on_f002)
        with pytest.raises(UserError):
            build(raw, tmp_path / "set")
    (raw / IMAGES / "F001/T1/9.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(prepare, "write_shard", write_nowhere)
    with pytest.raises(RunError, match=r"3 shards, such as F001_T1.array_record, are not in"):
        build(raw, tmp_path / "set", **DIRECT)


@pytest.mark.parametrize(
    ("runner", "options", "message"),
    [
        ("NopeRunner", (), "--beam_runner=NopeRunner: Unexpected pipeline runner"),
        ("no.such.Runner", (), "--beam_runner=no.such.Runner: No module named 'no'"),
        ("DirectRunner", ("direct_num_workers=x",), "invalid int value: 'x'"),
        ("DirectRunner", ("nope=3",), "--beam_options=nope: Beam has no such option"),
        (
            "DataflowRunner",
            (),
            "--beam_runner=DataflowRunner: Missing GCS path option: temp_location; ",
        ),
    ],
)
def test_what_beam_does_not_know_is_refused(
    write_tree, tmp_path, capsys, caplog, runner, options, message
):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        build(
            write_tree(("F001",)),
            tmp_path / "set",
            **DIRECT | {"beam_runner": runner},
            beam_options=options,
        )
    assert "\n" not in str(error.value)
    assert capsys.readouterr().err == caplog.text == ""
    assert not (tmp_path / "set").exists()


def test_without_beam_the_pins_to_install_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"pip install --no-deps -r requirements-beam.txt"):
        beam.check("DirectRunner", ())
    assert (Path(__file__).parents[3] / "requirements-beam.txt").is_file()
