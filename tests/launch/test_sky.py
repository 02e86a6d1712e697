"""launch/sky.yaml is a task of SkyPilot, by SkyPilot itself; its scripts are run as it runs them.

SkyPilot's pins are not ours: SKYPILOT_PYTHON names an interpreter of an environment that has it
(`pip install skypilot==0.14.1`).
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.processes import ROOT

PYTHON = os.environ.get("SKYPILOT_PYTHON") or (
    sys.executable if importlib.util.find_spec("sky") else None
)
PARSE = """
import json, sys, sky
task = sky.Task.from_yaml(sys.argv[1])
task.validate_name()
(one, *others) = task.resources
print(json.dumps({
    "run": task.run, "setup": task.setup, "nodes": task.num_nodes, "envs": task.envs,
    "spot": [r.use_spot for r in task.resources], "recovery": one.job_recovery,
    "accelerators": sorted({key for r in task.resources for key in r.accelerators}),
}))
"""
installed = pytest.mark.skipif(PYTHON is None, reason="no SkyPilot: set SKYPILOT_PYTHON")


def parse(path, home):
    env = os.environ | {"HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    env.pop("PYTHONPATH", None)
    return subprocess.run(
        [PYTHON, "-c", PARSE, str(path)], env=env, cwd=ROOT, capture_output=True, text=True
    )


@installed
def test_skypilot_reads_the_task(tmp_path):
    done = parse("launch/sky.yaml", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    task = json.loads(done.stdout.splitlines()[-1])
    assert task["nodes"] == 1 and all(task["spot"]) and len(task["spot"]) == 4
    assert task["accelerators"] == ["A100", "A10G", "H100", "L4"]
    assert task["recovery"]["strategy"] == "EAGER_NEXT_REGION"
    assert task["recovery"]["recover_on_exit_codes"] == [75, 137]
    for script in (task["run"], task["setup"]):
        assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0


@installed
def test_skypilot_refuses_a_misspelt_field(tmp_path):
    wrong = tmp_path / "sky.yaml"
    wrong.write_text((ROOT / "launch/sky.yaml").read_text().replace("use_spot", "use_spots"))
    assert parse(wrong, tmp_path).returncode != 0


@pytest.mark.parametrize("nodes", [1, 4])
def test_the_task_is_run_as_its_words(tmp_path, nodes):
    yaml = pytest.importorskip("yaml")
    run = yaml.safe_load((ROOT / "launch/sky.yaml").read_text())["run"]
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch/setup.sh").touch()
    (tmp_path / "python").write_text('#!/bin/bash\nprintf "[%s]" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TASK": r"train --workdir=a\ b '--config=c d'",
        "SKYPILOT_NUM_NODES": str(nodes),
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NODE_RANK": "2",
    }
    done = subprocess.run(
        ["bash", "-c", run], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    group = "[--coordinator=10.0.0.1:9876][--processes=4][--process=2]" if nodes > 1 else ""
    assert done.stdout == f"[-m][vlfau_jax][train][--workdir=a b][--config=c d]{group}"
