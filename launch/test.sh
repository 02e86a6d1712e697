#!/usr/bin/env bash
# Checks everything: style, then every test.
#   bash launch/test.sh [--quick] [--with-slurm] [PYTEST ARGUMENT...]
# --quick leaves out the tests marked `slow` (tests/README.md says which those are). More arguments
# narrow it further: `bash launch/test.sh tests/model -k windows`. --with-slurm installs Slurm with
# apt-get, as root, for tests/launch; without it that test runs where Slurm is installed already.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

quick='' slurm=''
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=yes ;;
        --with-slurm) slurm=yes ;;
        *) break ;;
    esac
    shift
done

install_pins requirements-test.txt
install_pins requirements-beam.txt --no-deps
if ! command -v slurmctld >/dev/null && { [ -n "$slurm" ] || [ "${CI:-}" = true ]; }; then
    echo "Installing slurm-wlm and munge ..." >&2
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
        --no-install-recommends slurm-wlm munge; } >.venv/slurm.log 2>&1 </dev/null; then
        tail -n 3 .venv/slurm.log >&2
        if [ -n "$slurm" ]; then
            echo "error: --with-slurm: apt-get cannot install slurm-wlm and munge; run it as root" \
                "on Debian or Ubuntu, or install them yourself" >&2
            exit 1
        fi
        echo "No Slurm: its test is skipped." >&2
    fi
fi

ruff check .
ruff format --check .
# The tests of a file share what they train, so a file stays with one worker. Files with slow tests
# come first (tests/conftest.py), so that no worker is left with one of them at the end.
python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder \
    ${quick:+-m "not slow"} "$@"
