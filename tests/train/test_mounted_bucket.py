"""A workdir in a bucket that is mounted by rclone, which is how studies share one.

Only on request: rclone 1.60.1 hangs at times where orbax renames a folder whose files it is
sending, and a process that waits for a mount can be neither interrupted nor killed.
"""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.data.sets import coded, write_set
from tests.object_stores import BUCKET, emulated, need
from tests.processes import run, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "VLFAU_MOUNT" not in os.environ,
        reason="rclone can hang, and a test with it: bash launch/test.sh --with-rclone",
    ),
    pytest.mark.skipif(
        not (shutil.which("rclone") and shutil.which("fusermount3")),
        reason="no rclone: apt-get install rclone fuse3",
    ),
    pytest.mark.skipif(
        not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0,
        reason="nothing may be mounted here",
    ),
]


@contextmanager
def mounted(folder: Path, cache: Path):
    """The bucket of the emulator, by the command of launch/README.md; all is sent at the end."""
    folder.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    env |= {
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
        "RCLONE_CONFIG_STORE_ENDPOINT": os.environ["AWS_ENDPOINT_URL"],
        "RCLONE_CONFIG_STORE_FORCE_PATH_STYLE": "true",
    }
    command = ["rclone", "mount", f"store:{BUCKET}", str(folder), "--vfs-cache-mode=writes"]
    with (cache.parent / f"{cache.name}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--vfs-write-back=0", f"--cache-dir={cache}"],
            env=env,
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: process.poll() is not None or folder.is_mount(), "no mount")
            assert process.poll() is None
            yield folder
        finally:
            subprocess.run(["fusermount3", "-u", "-z", str(folder)], check=False)
            process.wait(60)


def test_a_run_goes_on_from_a_mount_on_another_machine(tmp_path):
    need("s3")
    people = coded(np.random.default_rng(0), "bp4d", ("F001", "F003", "M001", "M003"), 6)
    write_set(tmp_path / "data", "bp4d", people)

    def train(workdir, steps):
        argv = [
            *("train", "--config=tests/tiny.py", f"--workdir={workdir}", "--resume"),
            *(f"--config.data.data_dir={tmp_path / 'data'}", f"--config.train.steps={steps}"),
            *("--config.model.local_captions=False", "--config.model.global_captions=False"),
            *("--config.train.checkpoint_every=2", "--config.optimizer.decay_steps=8"),
        ]
        return run(argv, 1, 1, tmp_path / "logs")[0].log

    train(tmp_path / "alone", 8)
    with emulated("s3", tmp_path / "store"):
        for number, steps in enumerate((4, 8)):
            with mounted(tmp_path / f"m{number}", tmp_path / f"cache{number}") as folder:
                log = train(folder / "run", steps)
                final = json.loads((folder / "run/final.json").read_text())
    assert "going on from step 4" in log
    wanted = json.loads((tmp_path / "alone/final.json").read_text())
    assert final["params_digest"] == wanted["params_digest"]
