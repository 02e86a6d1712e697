"""Two processes train in one bucket: the first writes, all go on from what it wrote."""

import json
import shutil
import signal

import numpy as np
import pytest

from tests.data.sets import coded, write_set
from tests.object_stores import emulated, need
from tests.processes import run, together, wait_until
from vlfau_jax.buckets import open_bucket
from vlfau_jax.train.bucket_workdir import local_workdir

pytestmark = pytest.mark.slow

STEPS = 8
PROCESSES = (2, 2)  # and devices of each


def test_what_two_processes_leave_in_a_bucket_is_what_two_others_go_on_with(tmp_path):
    """Ended by SIGTERM, and all machines lost: bit for bit the run in a folder that all share."""
    need("s3")
    people = coded(np.random.default_rng(0), "bp4d", ("F001", "F003", "M001", "M003"), 6)
    write_set(tmp_path / "data", "bp4d", people)

    def argv(workdir, steps):
        return [
            *("train", "--config=tests/tiny.py", f"--workdir={workdir}", "--resume"),
            *(f"--config.data.data_dir={tmp_path / 'data'}", f"--config.train.steps={steps}"),
            *("--config.mesh.data=1", "--config.mesh.fsdp=4", "--config.train.checkpoint_every=2"),
            *("--config.model.local_captions=False", "--config.model.global_captions=False"),
            *("--config.optimizer.decay_steps=8", "--lost_after=20"),
        ]

    run(argv(tmp_path / "shared", STEPS), *PROCESSES, tmp_path / "logs")
    with emulated("s3", tmp_path / "store") as url:
        bucket = open_bucket("--workdir", f"{url}/run")
        with together(argv(bucket.url, 1000), *PROCESSES, tmp_path / "logs") as started:
            wait_until(
                lambda: any(name.endswith("manifest.json") for name in bucket.listed()),
                "no checkpoint is sent",
                started[0],
                every=0.5,
            )
            started[1].send(signal.SIGTERM)
            assert [process.wait() for process in started] == [75, 75], started[0].log
        with local_workdir(bucket.url, writes=False) as copy:
            saved = max(int(path.name) for path in (copy / "checkpoints").iterdir())
        assert f"ended by SIGTERM after step {saved}, saved" in started[0].log
        shutil.rmtree(tmp_path / "store/cache")
        steps = max(saved + 2, STEPS)
        ended = run(argv(bucket.url, steps), *PROCESSES, tmp_path / "logs")
        assert f"going on from step {saved}" in ended[0].log
        with local_workdir(bucket.url, writes=False) as copy:
            final = json.loads((copy / "final.json").read_text())
            lines = (copy / "metrics.jsonl").read_text().splitlines()
    if steps > STEPS:
        run(argv(tmp_path / "shared", steps), *PROCESSES, tmp_path / "logs")
    shared = tmp_path / "shared"
    assert (
        final["params_digest"] == json.loads((shared / "final.json").read_text())["params_digest"]
    )
    wanted = (shared / "metrics.jsonl").read_text().splitlines()
    for line, other in zip(map(json.loads, lines), map(json.loads, wanted), strict=True):
        assert line | {"images_per_second": 0} == other | {"images_per_second": 0}
