"""A prepared set in a bucket: copied once to the local disk of each machine, and verified there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from vlfau_jax.buckets import Bucket, is_bucket, open_bucket
from vlfau_jax.data.set_record import DIGESTS, Digests
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import file_digest, locked_in_turn, partial_name
from vlfau_jax.records import read_record

FLAG = "data.data_dir"


def local_data(data_dir: str, name: str) -> Path:
    """`data_dir`, or the local folder into which the set `name` of one in a bucket was copied.

    A copy is used again while the digests.json of the bucket are the same; every shard is compared
    with them once, after it was copied. Of several processes of a machine one copies.

    Raises:
        UserError: the bucket cannot be read or holds no such set, or a copy is not what
            `prepare` wrote.
    """
    if not is_bucket(data_dir):
        return Path(data_dir)
    bucket = open_bucket(FLAG, f"{data_dir.rstrip('/')}/{name}")
    folder = bucket.local
    with bucket.told(), locked_in_turn(folder.parent):
        listed = bucket.listed()
        stated = {path for path in listed if path.endswith(f"/{DIGESTS}")}
        if not stated:
            raise UserError(f"{FLAG}={data_dir} holds no prepared {name}; copy the set there")
        if not all(_is_same(bucket, folder, path) for path in stated):
            partial = partial_name(folder)
            shutil.rmtree(partial, ignore_errors=True)
            print(f"{bucket.url}: copying {sum(listed.values()):,} bytes", file=sys.stderr)
            bucket.get(partial, list(listed))
            for path in stated:
                _verify((partial / path).parent)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(partial, folder)
    return folder.parent


def _is_same(bucket: Bucket, folder: Path, path: str) -> bool:
    try:
        return (folder / path).read_bytes() == bucket.fs.cat_file(f"{bucket.root}/{path}")
    except FileNotFoundError:
        return False


def _verify(folder: Path) -> None:
    for shard in read_record(folder / DIGESTS, Digests).in_order:
        if file_digest(folder / shard.file) != shard.sha256:
            raise FileError(
                folder / shard.file,
                "is not what `prepare` wrote; copy the set into the bucket anew",
            )
