#!/usr/bin/env bash
# Runs a study as a job array under Slurm, one fold or one cell a job:
#   sbatch --array=1-3 launch/slurm_study.sh crossval --config=configs/bp4d.py --workdir=/shared/cv
#   sbatch --array=1-45 launch/slurm_study.sh ablate --config=configs/bp4d.py --workdir=/shared/abl
# Job k trains fold k, or the k-th cell that `ablate --list` prints, and refreshes the table of what
# is there. Give sbatch what your cluster asks for: --gpus=1, --partition, --time. Each job is one
# process. The study's folder, the data set and this checkout lie on a shared file system; run
# launch/setup.sh's pins once before: `bash -c 'source launch/setup.sh'`.
#
# Two minutes before its time is up, a job saves and ends with exit code 75; it is then queued again
# and goes on from its last checkpoint, at most ATTEMPTS (20) times.
#
# CONTAINER=IMAGE runs it in a container, by Slurm's plugin pyxis; see launch/slurm.sh.
#SBATCH --job-name=vlfau-study
#SBATCH --ntasks=1
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
case ${1:-} in
    crossval) part='fold' ;;
    ablate) part=cell ;;
    *)
        echo "usage: sbatch --array=1-N launch/slurm_study.sh crossval|ablate FLAGS ..." >&2
        exit 2
        ;;
esac
# Slurm runs a copy of this script from its spool folder.
cd "${SLURM_SUBMIT_DIR:?give this script to sbatch, from the checkout}"
container=() # options of srun, set by
# shellcheck disable=SC1091
source launch/slurm_environment.sh

code=0
srun "${container[@]}" python -m vlfau_jax "$@" --resume \
    "--$part=${SLURM_ARRAY_TASK_ID:?give sbatch --array=1-N}" || code=$?
if [ "$code" -eq 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${ATTEMPTS:-20}" ]; then
    echo "slurm_study.sh: stopped from outside; queued again" >&2
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
