#!/usr/bin/env bash
# Trains one experiment on a Cloud TPU slice, one process a host; makes the slice where it is missing:
#   bash launch/tpu_pod.sh [OPTION ...] TPU_NAME ZONE configs/bp4d.py:swin_b WORKDIR \
#       [--config.key=value ...]
#   bash launch/tpu_pod.sh [OPTION ...] TPU_NAME ZONE crossval|ablate FLAGS ...
# Options, all before TPU_NAME:
#   --dry_run          print every command that would run, and run none
#   --type=v5litepod-16 --version=v2-alpha-tpuv5-lite     the slice to make, and its software
#   --spot             may be taken away: made again, and the run goes on from its last checkpoint
#   --queued           as a queued resource, waiting until there is room
#   --mount=BUCKET     on every host, by gcsfuse at /mnt/BUCKET, where WORKDIR and the data can lie
#   --delete           delete the slice at the end, however the run ended
# The slice gets this checkout's committed files in ~/vlfau_jax and requirements.txt with JAX for
# TPUs in its .venv. WORKDIR and the data set lie in a bucket, gs://BUCKET/FOLDER, or, of a study too, on
# what all hosts share: --mount or Filestore. The processes find each other by the slice's metadata.
#
# The run is detached from this terminal: the same command again follows its log, and Ctrl-C only
# stops following. Stopped from outside (exit code 75: a maintenance event's SIGTERM, or a lost host)
# or killed (137), it is started again, and after the slice itself was taken away that is made anew;
# not after five starts in a row without a new checkpoint (launch/attempt.sh, ATTEMPTS).
set -euo pipefail
usage() {
    sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}
type=v5litepod-16 version=v2-alpha-tpuv5-lite
dry='' spot='' queued='' delete='' mount=''
while [ $# -gt 0 ]; do
    case $1 in
        --dry_run) dry=yes ;;
        --type=*) type=${1#*=} ;;
        --version=*) version=${1#*=} ;;
        --spot) spot=--spot ;;
        --queued) queued=yes ;;
        --mount=*) mount=${1#*=} ;;
        --delete) delete=yes ;;
        -*)
            echo "error: $1: no such option of tpu_pod.sh" >&2
            exit 2
            ;;
        *) break ;;
    esac
    shift
done
[ $# -ge 4 ] || usage
name=$1 zone=$2
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "$dry" ] && ! command -v gcloud >/dev/null; then
    echo "error: gcloud is missing; install the Google Cloud CLI, then: gcloud init" >&2
    exit 2
fi

case $1 in
    crossval | ablate)
        place=.attempts
        for flag in "$@"; do case $flag in --workdir=*) place=${flag#*=} ;; esac done
        task=("$@" --resume)
        ;;
    *)
        place=$2
        task=(train "--config=$1" "--workdir=$2" --resume --hardware=hardware "${@:3}")
        ;;
esac

# run COMMAND ...: says what runs, and with --dry_run no more.
run() {
    printf '+' >&2
    printf ' %q' "$@" >&2
    printf '\n' >&2
    [ -n "$dry" ] || "$@"
}
tpu() { run gcloud compute tpus "$1" "$2" "$name" "--zone=$zone" "${@:3}"; }
on_all() { tpu tpu-vm ssh --worker=all "--command=$1"; }

# The slice's state: READY, PREEMPTED, ...; empty where there is none. Anything else that gcloud says
# ends this script in one line.
state() {
    local said
    if [ -n "$dry" ]; then
        tpu tpu-vm describe '--format=value(state)' # printed
        return
    fi
    if said=$(tpu tpu-vm describe '--format=value(state)' 2>"$log"); then
        echo "$said"
    elif ! grep -q NOT_FOUND "$log"; then
        echo "error: $name in $zone: $(grep -v '^+' "$log" | head -n 1); see: gcloud auth login," \
            "gcloud config set project PROJECT, gcloud compute tpus locations list" >&2
        return 2
    fi
}

make() {
    if [ -n "$queued" ]; then
        tpu queued-resources create "--node-id=$name" "--accelerator-type=$type" \
            "--runtime-version=$version" ${spot:+"$spot"}
        local now=''
        until [ -n "$dry" ] || [ "$now" = READY ]; do
            sleep "${POLL:-60}"
            now=$(state)
            case $(tpu queued-resources describe '--format=value(state.state)' 2>/dev/null) in
                FAILED | SUSPENDING | SUSPENDED)
                    echo "error: $name in $zone is not to be had; see: gcloud compute tpus" \
                        "queued-resources describe $name --zone=$zone" >&2
                    return 2
                    ;;
            esac
        done
    else
        tpu tpu-vm create "--accelerator-type=$type" "--version=$version" ${spot:+"$spot"}
    fi
}

remove() {
    if [ -n "$queued" ]; then
        tpu queued-resources delete --force --quiet
    else
        tpu tpu-vm delete --quiet
    fi
}

prepare() {
    run git archive --format=tar.gz --output="$archive" HEAD
    tpu_scp "$archive"
    on_all "mkdir -p ~/vlfau_jax && tar -xzf ~/vlfau_jax.tar.gz -C ~/vlfau_jax && cd ~/vlfau_jax &&\
 source launch/setup.sh &&\
 pip install --quiet \"jax[tpu]==\$(python -c 'import jax; print(jax.__version__)')\" gcsfs"
    if [ -n "$mount" ]; then
        on_all "mountpoint -q /mnt/$mount || { sudo install -d -o \$(id -u) /mnt/$mount &&\
 gcsfuse --implicit-dirs --rename-dir-limit=100000 $mount /mnt/$mount; }"
    fi
}
tpu_scp() {
    run gcloud compute tpus tpu-vm scp "$1" "$name:vlfau_jax.tar.gz" "--zone=$zone" --worker=all
}

log=$(mktemp) archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$log" "$archive"' EXIT

# Each host counts its own starts: $(hostname) is for the host's shell. So is all of what follows:
# run.pid and run.code say whether the run of this host goes on, and how it ended.
start="cd ~/vlfau_jax && { [ -e run.pid ] && kill -0 \$(cat run.pid) 2>/dev/null || { rm -f run.code;"
start+=" ATTEMPTS=${ATTEMPTS:-5} setsid nohup bash -c 'bash launch/attempt.sh"
start+=" tpu-$$-$(date +%s)-\$(hostname) $(printf ' %q' "$place" .venv/bin/python -m vlfau_jax "${task[@]}" | sed "s/'/'\\\\''/g")"
start+="; echo \$? >run.code' >>run.log 2>&1 </dev/null & echo \$! >run.pid; }; }"
follow="cd ~/vlfau_jax && tail -n 20 -f run.log --pid=\$(cat run.pid)"
ended="cat ~/vlfau_jax/run.code" # of the first host: gcloud says of several hosts only that all answered

found=$(state)
code=75 ready='' unheard=0
while [ "$code" -eq 75 ] || [ "$code" -eq 137 ]; do
    case $found in
        READY) ;;
        '')
            make
            ready=''
            ;;
        PREEMPTED | TERMINATED | STOPPED)
            echo "tpu_pod.sh: $name is $found; made again" >&2
            remove
            make
            ready=''
            ;;
        *)
            echo "error: $name in $zone is $found; wait until it is READY, or delete it:" \
                "gcloud compute tpus tpu-vm delete $name --zone=$zone" >&2
            exit 2
            ;;
    esac
    if [ -z "$ready" ]; then
        prepare
        ready=yes
    fi
    on_all "$start" || true # what is missing shows below
    on_all "$follow" || true
    code=$(tpu tpu-vm ssh --worker=0 "--command=$ended") || code=''
    [ -z "$dry" ] || break
    if [ "$code" != 0 ]; then
        found=$(state)
        case $found in '' | PREEMPTED | TERMINATED | STOPPED) code=75 ;; esac
    fi
    if ! [[ $code =~ ^[0-9]+$ ]]; then # the connection broke
        unheard=$((unheard + 1))
        if [ "$unheard" -ge 5 ]; then
            echo "error: $name in $zone does not tell how its run goes; see: gcloud compute tpus" \
                "tpu-vm ssh $name --zone=$zone --command='tail vlfau_jax/run.log'" >&2
            exit 1
        fi
        sleep "${POLL:-60}"
        code=75
    else
        unheard=0
    fi
done
if [ -n "$delete" ]; then
    remove
fi
exit "${code:-0}"
