#!/usr/bin/env bash
# Makes configs/rendered/, the model that `predict` uses when none is named, from nothing but faces
# that are rendered here. `bash launch/rendered.sh [FOLDER]` writes the model folder there instead
# (default: runs/rendered/model). Everything else is written under runs/rendered/.
#
# With BP4D=RAW_TREE and DISFA=RAW_TREE the card also says how it does on these trees, of which
# nobody was trained on.
set -euo pipefail
# shellcheck disable=SC1091
source "$(dirname "$0")/setup.sh"
