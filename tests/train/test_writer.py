import json
import math

import pytest
from tensorboardX.proto import event_pb2

from vlfau_jax.errors import UserError
from vlfau_jax.train.writer import EVENTS_FOLDER, METRICS_FILE, MetricWriter


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


@pytest.mark.parametrize(
    "damage",
    [b'{"step": "a"}', b'{"step": 1.5}', b"[1]", b'{"step": 2, "a\xff": 1}', b"\0" * 64, b""],
)
def test_a_damaged_line_is_named(tmp_path, damage):
    before = b'{"step": 1}\n' + damage + b'\n{"step": 3}\n'
    (tmp_path / METRICS_FILE).write_bytes(before)
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not a line of metrics; mend or remove"):
        MetricWriter(tmp_path, 3)
    assert (tmp_path / METRICS_FILE).read_bytes() == before
