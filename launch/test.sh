#!/usr/bin/env bash
# Checks everything: style, then every test. `bash launch/test.sh tests/model -k windows` narrows it,
# `-m "not slow"` leaves out the backbone at full size.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
install_pins requirements-test.txt
install_pins requirements-beam.txt --no-deps

ruff check .
ruff format --check .
# A file's tests share what they train, so that a file stays with one process.
python -m pytest -n auto --maxprocesses=4 --dist=loadfile "$@"
