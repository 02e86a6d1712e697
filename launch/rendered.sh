#!/usr/bin/env bash
# Makes the model that ships (configs/rendered/) from nothing but faces that are rendered here:
#   bash launch/rendered.sh [MODEL]     writes the model folder MODEL (default: runs/rendered/model)
# It is the mean of RUNS runs (default: 3) of configs/rendered.py, which differ in their seed, with
# more steps for its sentences.
# Everything else is written under runs/rendered/; started again, it goes on where it was stopped.
# Where BP4D and DISFA name raw trees of faces that nobody was trained on, the model's card says how
# it does on them.
set -euo pipefail
if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then
    echo "usage: [RUNS=N BP4D=RAW_TREE DISFA=RAW_TREE] bash launch/rendered.sh [MODEL]" >&2
    exit 2
fi
# shellcheck disable=SC1091
source "$(dirname "$0")/setup.sh"

rendered=runs/rendered
model=${1:-$rendered/model}
runs=${RUNS:-3}
mkdir -p "$rendered"

# set_of NAME SEED SUBJECTS: rendered heads as a prepared set.
set_of() {
    if [ -e "$rendered/$1.done" ]; then return; fi
    rm -rf "${rendered:?}/$1.raw" "${rendered:?}/$1"
    python -m vlfau_jax synthesize --layout=folder --renderer=mesh --out="$rendered/$1.raw" \
        --subjects="$3" --frames=8 --seed="$2"
    python -m vlfau_jax prepare --dataset=folder --raw_dir="$rendered/$1.raw" \
        --data_dir="$rendered/$1" --crop=yunetwheel --crop_size=128
    touch "$rendered/$1.done"
}

set_of prepared 17 1300
others=()
for ((run = 0; run < runs; run++)); do
    folder=$rendered/run$run
    if [ ! -e "$folder/final.json" ]; then
        python -m vlfau_jax train --config=configs/rendered.py --workdir="$folder" \
            --config.seed="$run" --resume
    fi
    if [ "$run" -gt 0 ]; then others+=(--average="$folder"); fi
done
if [ ! -e "$rendered/mean.done" ]; then
    rm -f "$rendered/mean.safetensors"
    python -m vlfau_jax warm_start --workdir="$rendered/run0" "${others[@]}" \
        --out="$rendered/mean.safetensors"
    touch "$rendered/mean.done"
fi
if [ ! -e "$rendered/sentences/final.json" ]; then
    python -m vlfau_jax train --config=configs/rendered.py:sentences \
        --workdir="$rendered/sentences" --resume
fi
python -m vlfau_jax export --workdir="$rendered/sentences" --out="$model" \
    --weights=bfloat16 --shifts=configs/rendered_shifts.json --overwrite

# tested TITLE DATA_DIR [FLAG ...]: a section of the model's card.
tested() {
    local title=$1 data=$2
    shift 2
    python -m vlfau_jax transfer --model="$model" --data_dir="$data" --out="$rendered/transfer" \
        --overwrite "$@"
    printf '\n## %s\n\n' "$title" >>"$model/README.md"
    cat "$rendered/transfer/transfer.md" >>"$model/README.md"
}

set_of people 2001 100
tested "Scores on 100 other rendered (synthetic) people" "$rendered/people" \
    --groups="$rendered/people.raw/people.csv"
if [ -n "${BP4D:-}" ]; then
    python -m vlfau_jax prepare --dataset=bp4d --raw_dir="$BP4D" --data_dir="$rendered/bp4d" \
        --crop=yunetwheel --crop_size=128 --overwrite
    tested "Scores on faces of another renderer, laid out as BP4D" "$rendered/bp4d" --part=report
fi
if [ -n "${DISFA:-}" ]; then
    python -m vlfau_jax prepare --dataset=disfa --raw_dir="$DISFA" --data_dir="$rendered/disfa" \
        --crop=yunetwheel --crop_size=128 --overwrite
    tested "Scores on faces of another renderer, laid out as DISFA" "$rendered/disfa"
fi
printf '\nDone: %s\n' "$model"
