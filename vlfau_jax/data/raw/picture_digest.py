"""Quick digests of picture and video files, to find the same one under two people.

Of a large file only its size and three parts are digested, which costs some microseconds; whether
files are really the same is then found by comparing them.
"""

from __future__ import annotations

import hashlib
import os

from vlfau_jax.errors import FileError
from vlfau_jax.files import open_regular

DIGITS = 16
NO_DIGEST = "0" * DIGITS
_PART = 4096  # bytes


def _parts(size: int) -> list[tuple[int, int]]:
    """Begin and end of the parts that count: all of a small file."""
    if size <= 3 * _PART:
        return [(0, size)]
    return [(at, at + _PART) for at in (0, size // 2, size - _PART)]


def digest_bytes(data: bytes) -> str:
    """The digest of a file that holds `data`: `DIGITS` hexadecimal digits."""
    digest = hashlib.blake2b(str(len(data)).encode(), digest_size=DIGITS // 2)
    for begin, end in _parts(len(data)):
        digest.update(data[begin:end])
    return digest.hexdigest()


def digest_file(path: str) -> str:
    """The digest of a file; `NO_DIGEST` if it cannot be read."""
    try:
        with open_regular(path, 1 << 62) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(str(size).encode(), digest_size=DIGITS // 2)
            for begin, end in _parts(size):
                file.seek(begin)
                digest.update(file.read(end - begin))
    except (FileError, OSError):
        return NO_DIGEST
    return digest.hexdigest()
