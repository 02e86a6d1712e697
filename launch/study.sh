#!/usr/bin/env bash
# The ablation study on rendered faces, in one command:
#   bash launch/study.sh quick|night [ablate's flags ...]
# quick: five rows, three seeds, a smaller and shorter experiment. night: every row, three seeds.
# Everything is written under runs/study/; started again, it goes on where it was stopped.
set -euo pipefail
case ${1:-} in
    quick) rows=ablation:core ;;
    night) rows=ablation ;;
    *)
        echo "usage: bash launch/study.sh quick|night [ablate's flags ...]" >&2
        exit 2
        ;;
esac
source "$(dirname "$0")/setup.sh"

size=$1 study=runs/study
shift
if [ ! -e "$study/rendered" ]; then
    rm -rf "$study/raw" "$study/prepared"  # of a start that was stopped
    python -m vlfau_jax synthesize --layout=bp4d --out="$study/raw" --subjects=27 --frames=16
    python -m vlfau_jax prepare --dataset=bp4d --raw_dir="$study/raw" \
        --data_dir="$study/prepared" --crop_size=128
    touch "$study/rendered"
fi
python -m vlfau_jax ablate --config="configs/study.py:$size" --rows="$rows" --seeds=3 \
    --workdir="$study/$size" --resume "$@"
printf 'Open %s/%s/ablation.html\n' "$study" "$size"
