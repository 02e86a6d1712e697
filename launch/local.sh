#!/usr/bin/env bash
# Trains, evaluates and exports one experiment on this machine, whatever devices it has:
#   bash launch/local.sh configs/demo.py runs/mine [--config.key=value ...]
# Run it again to go on where it stopped.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: bash launch/local.sh configs/X.py WORKDIR [--config.key=value ...]" >&2
    exit 2
fi
# shellcheck disable=SC1091
source "$(dirname "$0")/setup.sh"

config=$1 workdir=$2
shift 2
python -m vlfau_jax train --config="$config" --workdir="$workdir" --resume "$@"
python -m vlfau_jax evaluate --workdir="$workdir"
python -m vlfau_jax export --workdir="$workdir" --out="$workdir/model" --overwrite
