#!/usr/bin/env bash
# Checks everything: style, then every test.
#   bash launch/test.sh [--quick] [--with-slurm] [--with-chromium] [--with-rclone] [PYTEST ARGUMENT...]
# --quick leaves out the tests marked `slow` (tests/README.md says which those are). More arguments
# narrow it further: `bash launch/test.sh tests/model -k windows`. --with-slurm and --with-chromium
# install Slurm and Chromium with apt-get, as root, for tests/launch and tests/report; without them
# those tests run where the programs are installed already. --with-rclone runs the test of a mounted
# bucket, which rclone can hang.
set -euo pipefail
# shellcheck disable=SC1091
source "$(dirname "$0")/setup.sh"

quick='' wanted=' '
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=yes ;;
        --with-rclone) export VLFAU_MOUNT=yes ;;
        --with-slurm | --with-chromium) wanted+="${1#--with-} " ;;
        *) break ;;
    esac
    shift
done

# install_program NAME COMMAND PACKAGE...: with apt-get, unless COMMAND is there; where --with-NAME or
# CI asks for it. Only what --with-NAME asked for must succeed.
install_program() {
    local asked='' name=$1 command=$2
    shift 2
    if [[ $wanted == *" $name "* ]]; then asked=yes; fi
    if command -v "$command" >/dev/null || { [ -z "$asked" ] && [ "${CI:-}" != true ]; }; then
        return
    fi
    echo "Installing $* ..." >&2
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
        --no-install-recommends "$@"; } >".venv/$name.log" 2>&1 </dev/null; then
        tail -n 3 ".venv/$name.log" >&2
        if [ -n "$asked" ]; then
            echo "error: --with-$name: apt-get cannot install $*; run it as root on Debian or" \
                "Ubuntu, or install them yourself" >&2
            exit 1
        fi
        echo "No $name: its tests are skipped." >&2
    fi
}

install_pins requirements-test.txt
install_pins requirements-beam.txt --no-deps
install_pins requirements-launch.txt
install_program slurm slurmctld slurm-wlm munge
install_program chromium chromedriver chromium chromium-driver

ruff check .
ruff format --check .
# The tests of a file share what they train, so a file stays with one worker. Files with slow tests
# come first (tests/conftest.py), so that no worker is left with one of them at the end.
python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder \
    ${quick:+-m "not slow"} "$@"
