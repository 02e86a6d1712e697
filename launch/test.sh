#!/usr/bin/env bash
# Checks everything: style, then every test. `bash launch/test.sh tests/model -k windows` narrows it,
# `-m "not slow"` leaves out the backbone at full size.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
install_pins requirements-test.txt
install_pins requirements-beam.txt --no-deps
# For tests/launch/test_slurm.py, which is left out where there is no Slurm.
if ! command -v slurmctld >/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing slurm-wlm and munge ..." >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } \
        >/dev/null 2>&1 </dev/null || echo "No Slurm: its test is left out." >&2
fi

ruff check .
ruff format --check .
# A file's tests share what they train, so that a file stays with one process.
python -m pytest -n auto --maxprocesses=4 --dist=loadfile "$@"
