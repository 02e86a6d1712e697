# shellcheck shell=bash
# Sourced by the other scripts: goes to the repository root and enters .venv, made from
# requirements.txt when it is missing or the pins have changed. `install_pins` adds another such file.
# PYTHON chooses the interpreter.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || return

_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11, 3.12 or 3.13 is needed; install it or name it: PYTHON=/path/to/python" >&2
    return 1
}

# install_pins FILE [PIP ARGUMENT...]: installs a file of pins, unless it is in .venv as it stands.
install_pins() {
    local pins file=$1 stamp=".venv/${1%.txt}.installed"
    shift
    pins=$(sha256sum "$file" | cut -d' ' -f1)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$pins" ]; then
        echo "Installing $file into .venv (a minute or two) ..." >&2
        [ -x .venv/bin/python ] || "$(_python)" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" -r "$file"
        echo "$pins" >"$stamp"
    fi
}

install_pins requirements.txt
# shellcheck disable=SC1091
source .venv/bin/activate
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
