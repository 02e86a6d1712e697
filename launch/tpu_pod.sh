#!/usr/bin/env bash
# Trains one experiment on a Cloud TPU slice of several hosts, one process a host:
#   bash launch/tpu_pod.sh TPU_NAME ZONE configs/bp4d.py:swin_b gs-or-nfs/run \
#       [--config.key=value ...]
# Each host needs this checkout in ~/vlfau_jax with JAX for TPUs in its .venv (requirements.txt says
# how), and WORKDIR and the data set on a file system that all hosts share, such as Filestore or a
# bucket mounted by gcsfuse. The processes find each other by the slice's own metadata.
#
# Stopped from outside (exit code 75: a maintenance event's SIGTERM, or a lost host) or killed (137),
# it is started again and goes on from its last checkpoint; not after five starts in a row without a
# new one (launch/attempt.sh, ATTEMPTS).
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: bash launch/tpu_pod.sh TPU_NAME ZONE configs/X.py WORKDIR" \
        "[--config.key=value ...]" >&2
    exit 2
fi
name=$1 zone=$2 config=$3 workdir=$4
shift 4

# Each host counts its own starts: $(hostname) is for the host's shell.
command="cd ~/vlfau_jax && ATTEMPTS=${ATTEMPTS:-5} bash launch/attempt.sh"
command+=" tpu-$$-$(date +%s)-\$(hostname)"
command+=$(printf ' %q' "$workdir" .venv/bin/python -m vlfau_jax train \
    "--config=$config" "--workdir=$workdir" --resume --hardware=configs/hardware.py "$@")
code=75
while [ "$code" -eq 75 ] || [ "$code" -eq 137 ]; do
    code=0
    gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$command" ||
        code=$?
done
exit "$code"
