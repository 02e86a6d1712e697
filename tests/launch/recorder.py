"""A checkout in which the scripts of launch/ run, and a python that writes down what it gets."""

import hashlib

from tests.processes import ROOT


def recorder(folder, then):
    """Makes such a checkout of `folder`; its python adds a line to `got`, and goes on with `then`.

    Args:
        folder: an empty one.
        then: lines of bash, whose exit code is that of the python.
    """
    (folder / "launch").symlink_to(ROOT / "launch")
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text(f"export PATH={folder}/.venv/bin:$PATH\n")
    (folder / "requirements.txt").write_text("")
    digest = hashlib.sha256(b"").hexdigest()
    (folder / ".venv/requirements.installed").write_text(digest)
    python = folder / ".venv/bin/python"
    python.write_text(f'#!/bin/bash\necho "$@" >>{folder}/got\n{then}\n')
    python.chmod(0o755)
