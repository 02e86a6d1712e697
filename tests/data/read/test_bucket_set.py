"""A set in a bucket: copied once, compared with its digests, copied again if it changed."""

import numpy as np
import pytest

from tests.data.sets import coded, write_set
from tests.object_stores import emulated, need
from vlfau_jax import files
from vlfau_jax.buckets import Bucket, open_bucket
from vlfau_jax.data.read.bucket_set import local_data
from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.errors import FileError, InUse, UserError

PEOPLE = ("F001", "F003", "M001")


@pytest.fixture(params=["s3", "gs"])
def sets(request, tmp_path):
    """A URL whose bucket holds a set, and the local folder that it was made of."""
    need(request.param)
    write_set(tmp_path / "sets", "bp4d", coded(np.random.default_rng(0), "bp4d", PEOPLE, 3))
    with emulated(request.param, tmp_path / "store") as url:
        send(url, tmp_path / "sets")
        yield url, tmp_path / "sets"


def send(url, folder):
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    open_bucket("test", url).put(folder, names)


def test_a_set_is_read_as_the_local_one_and_copied_once(sets, monkeypatch):
    url, folder = sets
    there, here = (open_dataset(DataOptions(data_dir=str(place))) for place in (url, folder))
    assert there.digests == here.digests and there.identity == here.identity
    there.sets[0].verify()
    monkeypatch.setattr(Bucket, "get", lambda *_: pytest.fail("copied twice"))
    open_dataset(DataOptions(data_dir=url))


def test_a_set_that_changed_is_copied_again(sets, tmp_path):
    url, _ = sets
    before = open_dataset(DataOptions(data_dir=url)).digests
    write_set(tmp_path / "new", "bp4d", coded(np.random.default_rng(1), "bp4d", PEOPLE, 3))
    send(url, tmp_path / "new")
    assert open_dataset(DataOptions(data_dir=url)).digests != before


def test_a_shard_that_was_damaged_on_the_way_is_refused(sets):
    url, folder = sets
    shard = next(path for path in folder.rglob("*array_record*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    send(url, folder)
    with pytest.raises(FileError, match="copy the set into the bucket anew"):
        local_data(url, "bp4d")
    with pytest.raises(FileError):  # nor is it taken for a copy the next time
        local_data(url, "bp4d")


def test_a_folder_is_left_alone_and_an_empty_bucket_is_named(sets, tmp_path):
    url, _ = sets
    assert local_data(str(tmp_path), "bp4d") == tmp_path
    with pytest.raises(UserError, match="holds no prepared disfa"):
        local_data(url, "disfa")


def test_another_process_that_copies_is_waited_for(sets, monkeypatch):
    url, _ = sets
    refused = iter([True, False])
    locked = files.locked

    def busy(folder):
        if next(refused):
            raise InUse("taken")
        return locked(folder)

    monkeypatch.setattr(files, "locked", busy)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    assert local_data(url, "bp4d").is_dir()
