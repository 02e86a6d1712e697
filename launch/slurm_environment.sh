# shellcheck shell=bash
# Sourced by slurm.sh and slurm_study.sh, in the checkout: enters .venv, or, with CONTAINER=IMAGE, sets
# what srun is to be told for the plugin pyxis, as `container`.
if [ -n "${CONTAINER:-}" ]; then
    # shellcheck disable=SC2034
    container=("--container-image=$CONTAINER" "--container-mounts=${MOUNTS:-$PWD:$PWD}"
        "--container-workdir=$PWD")
else
    # shellcheck disable=SC1091
    source .venv/bin/activate
fi
