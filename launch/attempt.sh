#!/usr/bin/env bash
# Runs a command that trains, unless it was started too often without progress:
#   bash launch/attempt.sh RUN WORKDIR COMMAND [ARGUMENT...]
# RUN names what starts it again and again, such as a job with its number: another one counts anew.
# Progress is a newer finished checkpoint in WORKDIR/checkpoints; of a WORKDIR in a bucket, in the
# copies that this machine has of it. Where ATTEMPTS starts (5) in a row began with the same one, it
# ends with exit code 1 and starts nothing: what killed them, such as too little memory, would kill
# the next, too. It counts before it starts, so that nothing escapes it, and becomes the command,
# which then gets all signals.
#
# Launchers call this; several processes of one run each count for themselves (RUN differs).
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash launch/attempt.sh RUN WORKDIR COMMAND [ARGUMENT...]" >&2
    exit 2
fi
run=$1 workdir=$2 most=${ATTEMPTS:-5}
shift 2
case $most in
    '' | *[!0-9]* | 0*)
        echo "error: ATTEMPTS=$most: give a number of 1 or more" >&2
        exit 2
        ;;
esac

folders=("$workdir"/checkpoints/*/)
if [[ $workdir == *://* ]]; then # as vlfau_jax/buckets.py names the copies
    url=$workdir
    while [[ $url == */ ]]; do url=${url%/}; done
    workdir=${XDG_CACHE_HOME:-$HOME/.cache}/vlfau_jax/buckets/$(printf %s "$url" | sha256sum | cut -c1-16)
    folders=("$workdir/${url##*/}"/checkpoints/*/ "$workdir/${url##*/}".copy.*/checkpoints/*/)
fi

newest=none
for folder in "${folders[@]}"; do
    step=$(basename "$folder")
    if [[ $step =~ ^(0|[1-9][0-9]{0,9})$ ]] && { [ "$newest" = none ] || [ "$step" -gt "$newest" ]; }
    then
        newest=$step
    fi
done

# The file names RUN and has "STEP COUNT": the newest checkpoint at the last start, and how many
# starts in a row began with it.
mkdir -p "$workdir"
file=$workdir/.attempts-${run//[^A-Za-z0-9_.-]/_}
before='' count=0
if [ -f "$file" ] && [ ! -L "$file" ]; then
    read -r before count <"$file" || true
    case $count in '' | *[!0-9]* | ???????*) count=0 ;; esac
fi
[ "$before" = "$newest" ] || count=0
if [ "$count" -ge "$most" ]; then
    echo "failed: $workdir: $count starts in a row made no progress (newest checkpoint: $newest);" \
        "read the log, mend the cause, and start it anew" >&2
    exit 1
fi
partial=$(mktemp "$workdir/.attempts.XXXXXX")
echo "$newest $((count + 1))" >"$partial"
mv -fT "$partial" "$file"
exec "$@"
