#!/usr/bin/env bash
# The whole way on rendered faces: raw BP4D tree -> prepared set -> training -> scores and report
# -> exported model -> predictions. Everything is written under runs/demo/; no licence is needed.
# `bash launch/demo.sh --overwrite` removes what an earlier demo left there.
set -euo pipefail
# shellcheck disable=SC1091
source "$(dirname "$0")/setup.sh"

demo=runs/demo
if [ "${1:-}" = --overwrite ]; then
    rm -rf "$demo"
elif [ -e "$demo" ]; then
    echo "error: $demo is there from an earlier run; move it away, or give --overwrite" >&2
    exit 2
fi
mkdir -p "$demo"
started=$SECONDS

step() { printf '\n== %s\n' "$1"; }

step "1/6 synthesize: rendered faces as a raw BP4D tree"
python -m vlfau_jax synthesize --layout=bp4d --out="$demo/raw" --subjects=27 --frames=16

step "2/6 prepare: raw tree to data set, with an integrity report"
python -m vlfau_jax prepare --dataset=bp4d --raw_dir="$demo/raw" --data_dir="$demo/prepared" \
    --crop_size=128

step "3/6 train"
python -m vlfau_jax train --config=configs/demo.py --workdir="$demo"

step "4/6 evaluate: people never seen in training"
python -m vlfau_jax evaluate --workdir="$demo"

step "5/6 export: a self-contained model folder"
python -m vlfau_jax export --workdir="$demo" --out="$demo/model"

step "6/6 predict: pictures to scores and sentences"
python -m vlfau_jax predict --model="$demo/model" --out="$demo/predicted" \
    "$demo/raw/Sequences(2D+3D)/F004/T1"

printf '\nDone in %d s. Open %s/report.html\n' "$((SECONDS - started))" "$demo"
