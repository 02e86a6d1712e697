#!/usr/bin/env bash
# Expands a study into jobs, one for each fold of `crossval` or each cell (row x seed x fold) of
# `ablate`, and prints them; with --go it submits them:
#   bash launch/sweep.sh [--go] LAUNCHER crossval|ablate FLAGS ... [-- LAUNCHER'S OPTIONS ...]
# LAUNCHER   OPTIONS                                what a job is
# local                                             a process here, one after the other
# slurm      sbatch's: --gpus=1 --partition=...     a task of a job array, launch/slurm_study.sh
# kubernetes IMAGE CLAIM [QUEUE]                    a pod of an Indexed Job, launch/kubernetes_study.yaml
# tpu        ZONE [tpu_pod.sh's: --spot ...]        a TPU VM of its own, launch/tpu_pod.sh
# sky        sky jobs launch's: --infra=aws ...     a managed job, launch/sky.yaml
# FLAGS are the study's, with --workdir on what all jobs share; crossval needs --folds. A study
# --over a key is expanded for each of its values. What is finished is not trained again, so that the
# same command submits what is left. The last line printed makes the table of what is there.
set -euo pipefail
usage() {
    sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}
go=''
if [ "${1:-}" = --go ]; then
    go=yes
    shift
fi
[ $# -ge 3 ] || usage
launcher=$1 verb=$2
shift 2
flags=() options=()
while [ $# -gt 0 ]; do
    if [ "$1" = -- ]; then
        shift
        options=("$@")
        break
    fi
    flags+=("$1")
    shift
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fail() {
    echo "error: $*" >&2
    exit 2
}
need() { # PROGRAM HOW
    if [ -n "$go" ] && ! command -v "$1" >/dev/null; then fail "$1 is missing; $2"; fi
}
python=${PYTHON:-python}

over='' at='' folds='' workdir=''
for flag in "${flags[@]}"; do
    case $flag in
        --over=*) over=${flag#*=} ;;
        --at=*) at=${flag#*=} ;;
        --folds=*) folds=${flag#*=} ;;
        --workdir=*) workdir=${flag#*=} ;;
        --resume | --collect | --cell=* | --fold=* | --shared)
            fail "$flag is what sweep.sh adds to each job; leave it out"
            ;;
    esac
done
[ -n "$workdir" ] || fail "give --workdir, the study's folder"
case $workdir in
    *://*) fail "--workdir=$workdir: give a folder that all jobs share; mount the bucket there" ;;
esac
case $verb in
    crossval)
        part='fold'
        [[ $folds =~ ^[0-9]+(,[0-9]+)*$ ]] || fail "crossval: give --folds, such as --folds=1,2,3"
        ;;
    ablate) part=cell ;;
    *) usage ;;
esac
case $launcher in
    local) ;;
    slurm) need sbatch "run this on a node that submits to Slurm" ;;
    kubernetes)
        need kubectl "install it and choose a cluster: kubectl config use-context NAME"
        [ "${#options[@]}" -ge 2 ] || fail "kubernetes: give -- IMAGE CLAIM [QUEUE]"
        ;;
    tpu)
        need gcloud "install the Google Cloud CLI, then: gcloud init"
        [ "${#options[@]}" -ge 1 ] || fail "tpu: give -- ZONE"
        ;;
    sky) need sky "pip install 'skypilot[CLOUD]' into an environment of its own, then: sky check" ;;
    *) fail "$launcher: no such launcher; local, slurm, kubernetes, tpu or sky" ;;
esac

# Submits a command, or prints it.
submitted=0 failed=0
job() {
    printf '%q ' "$@"
    printf '\n'
    submitted=$((submitted + 1))
    if [ -n "$go" ]; then "$@" || failed=$((failed + 1)); fi
}

# numbers FLAG ...: of the folds, or of the cells as `ablate --list` counts them.
numbers() {
    if [ "$verb" = crossval ]; then
        tr , '\n' <<<"$folds"
    else
        "$python" -m vlfau_jax ablate "${flags[@]}" "$@" --list | cut -f1
    fi
}

apply() { # NAME NUMBERS FLAG ...: an Indexed Job, a pod for each number
    local name=$1 text list count args=''
    list=${2//,/ }
    count=$(wc -w <<<"$list")
    shift 2
    local one
    for one in "$verb" "${flags[@]}" "$@" --resume; do
        args+="$("$python" -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$one"), "
    done
    text=$(<launch/kubernetes_study.yaml)
    # Quoted: bash 5.2 would put what was found in the place of an & there.
    text=${text//STUDY_NAME/"$name"} text=${text//STUDY_COUNT/"$count"}
    text=${text//STUDY_PART/"$part"} text=${text//STUDY_NUMBERS/"$list"}
    text=${text//STUDY_IMAGE/"${options[0]}"} text=${text//STUDY_CLAIM/"${options[1]}"}
    text=${text//STUDY_QUEUE/"${options[2]:-none}"}
    text=${text//STUDY_FOLDER/"$(printf %q "$workdir")"}
    text=${text//\"STUDY_ARGS\"/"${args%, }"}
    echo "# kubectl apply -f - with:"
    printf '%s\n' "$text"
    submitted=$((submitted + 1))
    if [ -n "$go" ]; then kubectl apply -f - <<<"$text" || failed=$((failed + 1)); fi
}

expand() { # NAME FLAG ...
    local name=$1 found number
    shift
    found=$(numbers "$@")
    case $launcher in
        slurm)
            job sbatch "--array=$(paste -sd, <<<"$found")" "${options[@]}" launch/slurm_study.sh \
                "$verb" "${flags[@]}" "$@"
            return
            ;;
        kubernetes)
            apply "$name" "$(paste -sd, <<<"$found")" "$@"
            return
            ;;
    esac
    for number in $found; do
        local command=("$verb" "${flags[@]}" "$@" "--$part=$number")
        case $launcher in
            local) job "$python" -m vlfau_jax "${command[@]}" --resume ;;
            tpu)
                job bash launch/tpu_pod.sh --delete "${options[@]:1}" "$name-$number" \
                    "${options[0]}" "${command[@]}"
                ;;
            sky)
                job sky jobs launch --yes --detach-run "--name=$name-$number" "${options[@]}" \
                    --env "TASK=$(printf '%q ' "${command[@]}" --resume)" launch/sky.yaml
                ;;
        esac
    done
}

name=vlfau-$(basename "${workdir,,}" | tr -c 'a-z0-9\n' - | cut -c1-40 | sed 's/-*$//')
if [ -n "$over" ] && [ -z "$at" ]; then
    k=0
    for value in $(tr , ' ' <<<"${over#*=}"); do
        k=$((k + 1))
        expand "$name-$k" "--at=$value"
    done
else
    expand "$name"
fi
echo "# when they are done:"
printf '%q ' "$python" -m vlfau_jax "$verb" "${flags[@]}" --collect
printf '\n'
if [ -z "$go" ]; then
    echo "# nothing was submitted; with --go, these are" >&2
elif [ "$failed" -gt 0 ]; then
    echo "failed: $failed of $submitted" >&2
    exit 1
fi
