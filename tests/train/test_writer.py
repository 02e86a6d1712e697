import json
import math
import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX.proto import event_pb2

from vlfau_jax.errors import UserError
from vlfau_jax.train import writer
from vlfau_jax.train.writer import (
    DAMAGED_FILE,
    EVENTS_FOLDER,
    METRICS_FILE,
    MetricWriter,
    read_lines,
)


def steps(workdir):
    lines = (workdir / METRICS_FILE).read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_resumed_run_has_each_step_once(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        for step in range(1, 6):
            writer.write(step, {"total": 1.0 / step})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 6, "tot')  # killed in the middle
    with MetricWriter(tmp_path, 3) as writer:
        writer.write(4, {"total": 0.0})
    assert steps(tmp_path) == [1, 2, 3, 4]
    assert json.loads((tmp_path / METRICS_FILE).read_text().splitlines()[-1])["total"] == 0.0
    assert len(list((tmp_path / EVENTS_FOLDER).iterdir())) >= 1


def test_lines_are_there_at_once(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        writer.write(1, {"total": 1.0})
        assert steps(tmp_path) == [1]


def events(path):
    """The events of a file: little-endian length, 4 bytes, the event, 4 bytes."""
    data = path.read_bytes()
    while data:
        size = int.from_bytes(data[:8], "little")
        yield event_pb2.Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]


def test_tensorboard_gets_the_same_values_and_a_resume_purges_what_came_after(tmp_path, caplog):
    with MetricWriter(tmp_path, 3) as writer:
        for step in (4, 5):
            writer.write(step, {"total": step / 2, "au": 0.25, "local": math.nan})
    (path,) = (tmp_path / EVENTS_FOLDER).iterdir()
    version, restart, *logged = events(path)
    assert version.file_version == "brain.Event:2"
    assert (restart.step, restart.session_log.status) == (4, event_pb2.SessionLog.START)
    found = [
        (one.step, one.summary.value[0].tag, one.summary.value[0].simple_value) for one in logged
    ]
    assert not caplog.records  # tensorboardX warns of each value that is not finite
    assert found == [(4, "total", 2.0), (4, "au", 0.25), (5, "total", 2.5), (5, "au", 0.25)]


DAMAGE = [
    b'{"step": "a"}',
    b'{"step": 1.5}',
    b'{"step": true}',
    b'{"step": -1}',
    b'{"step": 1e400}',
    b'{"step": ' + b"9" * 10_000 + b"}",
    b'{"step": 2, "au": NaN}',
    b'{"step": 2, "au": "0.5"}',
    b'{"step": 2, "au": [1]}',
    b'{"total": 1.0}',
    b"[1]",
    b'{"step": 2, "a\xff": 1}',
    b"[" * 100_000,
    b"\0" * 64,
    b"",
]


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_line_costs_nothing_and_is_kept(tmp_path, capsys, damage):
    lines = [b'{"step": 1}', damage, b'{"step": 2, "au": null}', damage, b'{"step": 9}']
    (tmp_path / METRICS_FILE).write_bytes(b"".join(line + b"\n" for line in lines))
    assert [bool(one.metrics) for one in read_lines(tmp_path / METRICS_FILE)] == [
        *(True, False, True, False, True)
    ]
    with MetricWriter(tmp_path, 3) as writer:
        writer.write(4, {"au": 0.5})
    assert steps(tmp_path) == [1, 2, 4]
    assert (tmp_path / DAMAGED_FILE).read_bytes() == (damage + b"\n") * 2
    assert "2 damaged lines were moved to metrics.damaged.jsonl" in capsys.readouterr().err


def test_a_line_longer_than_any_is_kept_in_parts(tmp_path):
    line = b'{"step": 2, "a": "' + b"x" * (2 << 20) + b'"}'
    (tmp_path / METRICS_FILE).write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with MetricWriter(tmp_path, 3):
        pass
    assert steps(tmp_path) == [1, 2]
    assert (tmp_path / DAMAGED_FILE).read_bytes().replace(b"\n", b"") == line


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=50))
def test_any_line_is_read_or_counted(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("lines") / METRICS_FILE
    path.write_bytes(b'{"step": 1}\n' + content + b'\n{"step": 2}\n')
    found = list(read_lines(path))
    assert [one.metrics.step for one in found if one.metrics][-1] == 2
    assert len(found) == 2 + content.count(b"\n") + 1


def test_no_file_of_metrics(tmp_path):
    os.mkfifo(tmp_path / METRICS_FILE)
    with pytest.raises(UserError, match="no regular file"):
        list(read_lines(tmp_path / METRICS_FILE))


@pytest.mark.parametrize("name", [METRICS_FILE, DAMAGED_FILE])
def test_nothing_is_written_through_a_link(tmp_path, name):
    (tmp_path / METRICS_FILE).write_bytes(b'{"step": 1}\n[]\n')
    (tmp_path / "precious").write_bytes(b'{"step": 1}\n')
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=f"{name}: is a symbolic link"):
        MetricWriter(tmp_path, 1)
    assert (tmp_path / "precious").read_bytes() == b'{"step": 1}\n'


def test_each_life_of_a_run_has_a_file_of_events_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(writer.time, "time", lambda: 1e9)  # all in one second
    precious = tmp_path / "precious"
    precious.write_text("words")
    (tmp_path / EVENTS_FOLDER).mkdir()
    name = f"events.out.tfevents.1000000000.{socket.gethostname()}"
    (tmp_path / EVENTS_FOLDER / name).symlink_to(precious)
    for step in (0, 1, 2):
        with MetricWriter(tmp_path, step) as metrics:
            metrics.write(step + 1, {"total": 1.0})
    assert precious.read_text() == "words"
    found = sorted(path.name for path in (tmp_path / EVENTS_FOLDER).iterdir())
    assert found == [name, f"{name}.1", f"{name}.2", f"{name}.3"]
