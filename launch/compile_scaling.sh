#!/usr/bin/env bash
# Compiles the training step of Swin-B and Swin-L for 4 to 256 chips of TPU v5e, on three kinds of
# mesh, without a TPU, and draws vlfau_jax/account/scaling.webp from what the programs say.
#   PYTHON=python bash launch/compile_scaling.sh FOLDER
# FOLDER gets NETWORK-MESH-CHIPS.json; what is there is not compiled again. PYTHON belongs to an
# environment with libtpu, requirements.txt and `pip install "jax[tpu]==<its jax pin>"`. BACKBONES,
# MESHES, CHIPS and PER_CHIP choose less; the picture predicts what was not compiled.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?give a folder for the accounts}
python=${PYTHON:-python}
declare -A topology=([4]=2x2 [16]=4x4 [64]=8x8 [256]=16x16)
declare -A mesh=(
    [data]='--config.mesh.data=-1 --config.mesh.fsdp=1'
    [fsdp]='--config.mesh.data=1 --config.mesh.fsdp=-1'
    [mixed]='--config.mesh.data=-1 --config.mesh.fsdp=4'  # with 4 chips the same as fsdp
)

mkdir -p "$folder"
for backbone in ${BACKBONES:-swin_b swin_l}; do
    for kind in ${MESHES:-data fsdp mixed}; do
        for chips in ${CHIPS:-4 16 64 256}; do
            out="$folder/$backbone-$kind-$chips.json"
            if [ -e "$out" ] || [ "$kind$chips" = mixed4 ]; then continue; fi
            # shellcheck disable=SC2086  # several flags
            "$python" -m vlfau_jax compile_only --config="configs/bp4d.py:$backbone" \
                --hardware=hardware ${mesh[$kind]} --topology="v5e:${topology[$chips]}" \
                --per_chip="${PER_CHIP:-32}" --out="$out"
        done
    done
done
"$python" -m vlfau_jax.report.scaling_picture --records="$folder" \
    --out="${PICTURE:-vlfau_jax/account/scaling.webp}"
