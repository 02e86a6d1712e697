"""launch/compile_scaling.sh asks for every program once, and then for the picture."""

import os
import subprocess

from tests.processes import ROOT

# Stands in for Python: writes its arguments into a log, and the file that --out names.
FAKE = """#!/usr/bin/env bash
echo "$@" >>"$LOG"
for argument in "$@"; do
    case $argument in --out=*) echo '{}' >"${argument#--out=}" ;; esac
done
"""


def run(tmp_path, **env):
    fake, log = tmp_path / "python", tmp_path / "log"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    log.write_text("")
    env = {"PYTHON": str(fake), "LOG": str(log), "PICTURE": str(tmp_path / "p.webp"), **env}
    script = ["bash", str(ROOT / "launch" / "compile_scaling.sh"), str(tmp_path / "records")]
    subprocess.run(script, env=os.environ | env, check=True)
    return log.read_text().splitlines()


def test_it_compiles_what_is_not_there_and_draws(tmp_path):
    *compiled, drawn = run(tmp_path, CHIPS="4 16", BACKBONES="swin_b", PER_CHIP="64")
    assert [line.split("--out=")[1].rpartition("/")[2] for line in compiled] == [
        f"swin_b-{name}.json" for name in ("data-4", "data-16", "fsdp-4", "fsdp-16", "mixed-16")
    ]
    assert all(
        line.startswith("-m vlfau_jax compile_only --config=configs/bp4d.py:swin_b ")
        and " --per_chip=64 " in line
        for line in compiled
    )
    assert "--config.mesh.data=1 --config.mesh.fsdp=-1 --topology=v5e:2x2" in compiled[2]
    assert "--config.mesh.fsdp=4 --topology=v5e:4x4" in compiled[4]
    assert drawn.startswith("-m vlfau_jax.report.scaling_picture --records=")
    assert len(run(tmp_path, CHIPS="4 16", BACKBONES="swin_b", PER_CHIP="64")) == 1


def test_in_all_there_are_three_meshes_of_four_sizes_but_one(tmp_path):
    assert len(run(tmp_path)) == 2 * (3 * 4 - 1) + 1
