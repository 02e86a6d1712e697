#!/usr/bin/env bash
# Trains one experiment on several nodes under Slurm, one process a node or, with the second, a GPU:
#   sbatch --nodes=4 --gpus-per-node=8 launch/slurm.sh configs/bp4d.py:swin_b /shared/run \
#       [--config.key=value ...]
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh ...
# Give sbatch what your cluster asks for: --partition, --time, --account. WORKDIR, the data set and
# this checkout lie on a file system that all nodes share; run launch/setup.sh's pins once before,
# on a node with network: `bash -c 'source launch/setup.sh'`.
#
# Two minutes before its time is up, the run saves and ends with exit code 75; so it does when a node
# is lost, unless srun reports the lost process itself: 137, killed. The job is then queued again and
# goes on from its last checkpoint; after 1 (a failure) or 2 (a mistake in what was asked) it ends. So
# it does after five starts in a row without a new checkpoint (launch/attempt.sh, ATTEMPTS).
#
# CONTAINER=IMAGE runs the processes in containers, by Slurm's plugin pyxis, with this folder mounted;
# MOUNTS=/from:/to,... mounts more, and then names this folder, too. launch/Dockerfile makes an image
# with JAX for GPUs: CONTAINER=REGISTRY#vlfau_jax:cuda sbatch ... launch/slurm.sh ...
#SBATCH --job-name=vlfau
#SBATCH --ntasks-per-node=1
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: sbatch [SBATCH OPTION...] launch/slurm.sh configs/X.py WORKDIR" \
        "[--config.key=value ...]" >&2
    exit 2
fi
# Slurm runs a copy of this script from its spool folder.
cd "${SLURM_SUBMIT_DIR:?give this script to sbatch, from the checkout}"
container=() # options of srun, set by
# shellcheck disable=SC1091
source launch/slurm_environment.sh

config=$1 workdir=$2
shift 2

# JAX gives each process the one GPU of its number on the node; one process a node has them all.
if [ -n "${SLURM_GPUS_ON_NODE:-}" ] && [ "${SLURM_NTASKS_PER_NODE:-1}" = 1 ]; then
    JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
    export JAX_LOCAL_DEVICE_IDS
fi

# The processes find each other through srun's environment. It ends all of them when one is lost,
# after giving them the time to report that.
code=0
bash launch/attempt.sh "slurm-$SLURM_JOB_ID" "$workdir" \
    srun --kill-on-bad-exit=1 --wait=180 "${container[@]}" \
    python -m vlfau_jax train --config="$config" --workdir="$workdir" --resume "$@" || code=$?
if [ "$code" -eq 75 ] || [ "$code" -eq 137 ]; then
    echo "slurm.sh: stopped from outside, exit code $code; queued again" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
