import json

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
