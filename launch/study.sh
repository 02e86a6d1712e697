#!/usr/bin/env bash
# Studies on rendered faces (synthetic), each in one command:
#   bash launch/study.sh quick    five rows, three seeds: do captions help, does refinement
#   bash launch/study.sh night    every row of configs/ablation.py, three seeds
#   bash launch/study.sh when     captions or none, over training people, wrong labels, rare units,
#                                 image size and how strongly maps are told where units show
# Everything is written under runs/study/; started again, it goes on where it was stopped, and each
# takes the cells that another has trained. JOBS processes (default: one for each core) share the
# cells; more arguments are ablate's.
set -euo pipefail
case ${1:-} in
    quick | night | when) what=$1 ;;
    *)
        echo "usage: bash launch/study.sh quick|night|when [ablate's flags ...]" >&2
        exit 2
        ;;
esac
shift
# shellcheck disable=SC1091
source "$(dirname "$0")/setup.sh"

study=runs/study
jobs=${JOBS:-$(nproc)}
if [ ! -e "$study/rendered" ]; then
    rm -rf "$study/raw" "$study/prepared" # of a start that was stopped
    python -m vlfau_jax synthesize --layout=bp4d --out="$study/raw" --subjects=27 --frames=16
    python -m vlfau_jax prepare --dataset=bp4d --raw_dir="$study/raw" \
        --data_dir="$study/prepared" --crop_size=128
    touch "$study/rendered"
fi

# ablate_with FOLDER ROWS [FLAG ...]: as many processes as jobs, one core each, then the table.
ablate_with() {
    local folder=$1 rows=$2 core pids=() pid failed=''
    shift 2
    local command=(python -m vlfau_jax ablate --config=configs/study.py --rows="$rows" --seeds=3
        --workdir="$study/$folder" "$@")
    if [ "$jobs" -gt 1 ] && command -v taskset >/dev/null; then
        mkdir -p "$study/logs"
        for ((core = 0; core < jobs; core++)); do
            taskset -c "$core" "${command[@]}" --resume --shared \
                >"$study/logs/$folder.$core.log" 2>&1 &
            pids+=($!)
        done
        echo "$study/$folder: $jobs processes; what they say is in $study/logs/$folder.*.log" >&2
        for pid in "${pids[@]}"; do wait "$pid" || failed=yes; done
        if [ -n "$failed" ]; then
            grep -h "^error\|failed" "$study/logs/$folder".*.log >&2 || true
            exit 1
        fi
        "${command[@]}" --collect
    else
        "${command[@]}" --resume
    fi
}

# same_as_rows POINT: where the value of a point is that of the experiment, its cells are those of
# the rows, as far as they are trained.
same_as_rows() {
    local cell there
    for cell in "$study"/rows/{full,no_captions}/seed*/fold*; do
        there=$study/$1/${cell#"$study"/rows/}
        if [ -e "$cell/cell.json" ] && [ ! -e "$there" ]; then
            mkdir -p "$(dirname "$there")"
            rm -rf "$there.partial"
            cp -r "$cell" "$there.partial"
            mv "$there.partial" "$there"
        fi
    done
}

case $what in
    quick) ablate_with rows ablation:core "$@" ;;
    night) ablate_with rows ablation "$@" ;;
    when)
        ablate_with people ablation:captions --over=data.training_subjects=2,4,8,18 "$@"
        same_as_rows noise/label_noise=0.0
        ablate_with noise ablation:captions --over=data.label_noise=0.0,0.15,0.3 "$@"
        same_as_rows rare/active_share=1.0
        ablate_with rare ablation:captions --over=data.active_share=1.0,0.3,0.1 "$@"
        same_as_rows pixels/image_size=64
        ablate_with pixels ablation:captions --over=data.image_size=64,96 "$@"
        same_as_rows regions/map_region_weight=0.0
        ablate_with regions ablation:captions --over=objective.map_region_weight=0.0,0.3 "$@"
        python -m vlfau_jax.report.sweep_picture --out="$study/curves.webp" \
            "$study"/{people,noise,rare,pixels,regions}/sweep.json
        echo "$study/curves.webp"
        ;;
esac
