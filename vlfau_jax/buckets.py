"""Folders in the buckets of object stores, gs:// and s3://, by fsspec's own file systems.

An object is written whole or not at all, but objects have no locks, no renames and no appends. A
lock is therefore a lease (`Lease`), and what needs a file system works in a copy on the local disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlfau_jax.cache import cache_folder
from vlfau_jax.errors import InUse, RunError, UserError

SCHEMES = ("gs://", "s3://")
LEASES = "run.lock"  # the folder of a run's leases

_PACKAGE = {"gs://": ("gcsfs", "gcs"), "s3://": ("s3fs", "s3")}
_MAKE = {"gs://": "gcloud storage buckets create gs://{}", "s3://": "aws s3 mb s3://{}"}
_LOG_IN = {
    "gs://": "gcloud auth application-default login",
    "s3://": "aws configure, aws sso login, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}
_ALLOW = {
    "gs://": "gcloud storage buckets add-iam-policy-binding gs://{} --member=MEMBER "
    "--role=roles/storage.objectUser",
    "s3://": "s3:ListBucket of {0} and s3:GetObject, s3:PutObject, s3:DeleteObject of {0}/*",
}
# Names of exceptions, and codes in their texts: of google.auth, gcsfs, botocore and S3.
_NO_CREDENTIALS = (
    *("DefaultCredentialsError", "RefreshError", "NoCredentialsError", "TokenRetrievalError"),
    *("PartialCredentialsError", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("UnauthorizedSSOTokenError", "SSOTokenLoadError", "Invalid Credentials", "Anonymous caller"),
)
_FULL = ("QuotaExceeded", "StorageQuota", "StorageFull", "Insufficient Storage")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint")


def is_bucket(path: str | Path) -> bool:
    """Whether a path is a URL of an object store that is known here."""
    return str(path).startswith(SCHEMES)


@dataclass(frozen=True)
class Bucket:
    """A folder in a bucket.

    Attributes:
        flag: the option that named it, for messages.
        url: `gs://BUCKET/FOLDER` or `s3://BUCKET/FOLDER`.
        fs: fsspec's file system; it lists anew each time.
        root: the folder as `fs` names it.
    """

    flag: str
    url: str
    fs: Any
    root: str

    @property
    def local(self) -> Path:
        """The folder on the local disk that is this one's copy; it need not exist."""
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        try:
            return cache_folder("buckets", digest) / self.root.rpartition("/")[2]
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{self.flag}={self.url} has its working copy in the cache, but {error}; name "
                "another place with XDG_CACHE_HOME"
            ) from error

    def listed(self) -> dict[str, int]:
        """Bytes of every object by its path in the folder, leases left out."""
        found = self.fs.find(self.root, detail=True)
        names = {path.removeprefix(f"{self.root}/"): of["size"] for path, of in found.items()}
        return {
            name: size
            for name, size in names.items()
            if not name.startswith(f"{LEASES}/") and _is_inside(name)
        }

    def get(self, folder: Path, names: list[str]) -> None:
        """Copies objects below `folder`."""
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if names:
            there = [f"{self.root}/{name}" for name in names]
            self.fs.get(there, [str(folder / name) for name in names])

    def put(self, folder: Path, names: list[str]) -> None:
        """Writes files below `folder` as objects, each whole, in any order."""
        if names:
            there = [f"{self.root}/{name}" for name in names]
            self.fs.put([str(folder / name) for name in names], there)

    def remove(self, names: list[str]) -> None:
        """Removes objects, one after the other."""
        for name in names:
            with suppress(FileNotFoundError):
                self.fs.rm_file(f"{self.root}/{name}")

    @contextmanager
    def told(self) -> Iterator[None]:
        """One line for what the store refuses: what is missing, and the command that gives it."""
        try:
            yield
        except (UserError, RunError):
            raise
        except Exception as error:  # each store's client has a family of them
            raise self.translated(error) from error

    def translated(self, error: Exception) -> Exception:
        """The UserError or RunError that says in a line why the store refused."""
        if isinstance(error, (UserError, RunError)):
            return error
        scheme, bucket = self.url[:5], self.root.split("/")[0]
        text = " ".join(f"{type(one).__name__}: {one}" for one in _chain(error))
        place = f"{self.flag}={self.url}"
        if isinstance(error, OSError) and error.filename is not None:  # of the local copy
            return RunError(f"{place}: {error.filename}: {error.strerror}")
        if any(word in text for word in _FULL):
            return RunError(f"{place}: the bucket is full ({_short(error)}); make room in it")
        if any(word in text for word in _NO_CREDENTIALS):
            return UserError(f"{place}: no valid credentials; give them: {_LOG_IN[scheme]}")
        if any(word in text for word in _ELSEWHERE):
            return UserError(
                f"{place}: the bucket is in another region; give it: AWS_DEFAULT_REGION=REGION, as "
                f"aws s3api get-bucket-location --bucket={bucket} says"
            )
        if isinstance(error, PermissionError) or "AccessDenied" in text or "Forbidden" in text:
            return UserError(f"{place}: permission is missing: {_ALLOW[scheme].format(bucket)}")
        if isinstance(error, FileNotFoundError):
            make = _MAKE[scheme].format(bucket)
            return UserError(f"{place}: there is no bucket {bucket}; create it: {make}")
        return RunError(f"{place}: the store does not answer as it should ({_short(error)})")


def open_bucket(flag: str, url: str) -> Bucket:
    """A folder in a bucket that exists and may be listed.

    Raises:
        UserError: the URL names none, the store's package or credentials are missing, or it is not
            to be read.
    """
    url = url.rstrip("/")
    scheme, name = url[:5], url[5:]
    if not _is_inside(name) or "/" not in name:
        raise UserError(f"{flag}={url}: give a folder in a bucket, {scheme}BUCKET/FOLDER")
    package, extra = _PACKAGE[scheme]
    try:
        import fsspec

        logging.getLogger("gcsfs").setLevel(logging.ERROR)  # it warns of each call without rights
        fs, root = fsspec.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise UserError(
            f"{flag}={url}: {package} is not installed; pip install 'vlfau_jax[{extra}]'"
        ) from error
    except Exception as error:
        raise Bucket(flag, url, None, name).translated(error) from error
    bucket = Bucket(flag, url, fs, root)
    with bucket.told():
        bucket.listed()  # s3fs' `exists` takes whatever is refused for a bucket that is missing
    return bucket


class Lost(RunError):
    """Another process has taken over: nothing more may be written."""


class Lease:
    """The right to write to a folder in a bucket, renewed every quarter of its `seconds`.

    A lease is an object `run.lock/NUMBER` that says who holds it and counts how often it was
    renewed. Who wants the folder watches the newest one; where it was not renewed for `seconds`,
    its holder is dead, and the next number is created. Stores create an object only if it is absent
    when asked so (If-None-Match of S3, ifGenerationMatch of Cloud Storage): of two who try, one is
    refused. No clocks of two machines are compared. A holder that slept through its time finds a
    newer number, and ends.

    Attributes:
        number: this one's, 0 before `claim`.
        before: the newest one there when it was claimed, 0 for none.
    """

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        self.number = self.before = 0
        self._bucket, self._seconds = bucket, seconds
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._token, self._count = secrets.token_hex(8), 0
        self._writing, self._released = threading.Lock(), False

    def claim(self) -> None:
        """Takes the lease. Raises InUse where another process holds it, and goes on."""
        while True:
            self.before = newest = self._newest()
            said = self._read(newest) if newest else {}
            if newest and not (said.get("free") or _is_dead(said.get("process"))):
                self._wait_for_death(newest, said)
            try:
                self._write(newest + 1, mode="create")
            except FileExistsError:
                continue
            if self._newest() == newest + 1:  # else others came and went since it was looked up
                self.number = newest + 1
                break
        for number in self._numbers():
            if number < self.number:
                self._bucket.remove([f"{LEASES}/{number}"])

    def renew(self) -> None:
        """Says that the holder lives; raises Lost where it is no longer the holder."""
        with self._writing:
            if not self._released:
                self.check()
                self._write(self.number)

    def check(self) -> None:
        """Raises Lost where another process is the holder by now."""
        if self._newest() != self.number or self._read(self.number).get("token") != self._token:
            raise Lost(
                f"{self._bucket.flag}={self._bucket.url}: another process has taken over, since "
                f"this one had not been heard of for {self._seconds:g} s"
            )

    def release(self) -> None:
        """Lets the next one begin at once."""
        with self._writing:
            self.check()
            self._write(self.number, free=True)
            self._released = True

    def holder(self) -> str:
        """Who holds the newest lease, and when it was heard of; empty where it was given back."""
        newest = self._newest()
        said = self._read(newest) if newest else {}
        if not newest or said.get("free"):
            return ""
        heard = self._bucket.fs.modified(f"{self._bucket.root}/{LEASES}/{newest}")
        return f"{said.get('who', 'a process')} (heard of at {heard:%H:%M:%S} UTC)"

    def _wait_for_death(self, newest: int, said: Mapping[str, Any]) -> None:
        who = said.get("who", "a process")
        print(
            f"{self._bucket.url}: waiting {self._seconds:g} s whether {who}, which was writing "
            "here, still lives",
            file=sys.stderr,
        )
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            time.sleep(self._seconds / 8)
            now = self._newest()
            if now == newest and self._read(now).get("free"):
                return
            if now != newest or self._read(now) != said:
                raise InUse(
                    f"{self._bucket.flag}={self._bucket.url}: a run is going on here ({who}); wait "
                    "for it or take another folder"
                )

    def _numbers(self) -> list[int]:
        found = self._bucket.fs.find(f"{self._bucket.root}/{LEASES}")
        names = (path.rpartition("/")[2] for path in found)
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal())

    def _newest(self) -> int:
        return max(self._numbers(), default=0)

    def _read(self, number: int) -> dict[str, Any]:
        try:
            content = self._bucket.fs.cat_file(f"{self._bucket.root}/{LEASES}/{number}")
            said = json.loads(content[:10_000])
        except (FileNotFoundError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _write(self, number: int, *, free: bool = False, mode: str = "overwrite") -> None:
        self._count += 1
        said = {
            "who": self._who,
            "token": self._token,
            "renewed": self._count,
            "free": free,
            "process": [_machine(), os.getpid()],
        }
        content = json.dumps(said).encode()
        self._bucket.fs.pipe_file(f"{self._bucket.root}/{LEASES}/{number}", content, mode=mode)


def _machine() -> str:
    """Names what numbers processes: this start of the system, and its part that this one sees."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink(
            "/proc/self/ns/pid"
        )
    except OSError:
        return ""


def _is_dead(process: object) -> bool:
    """Whether a process of this very machine, which is sure to be known here, has ended."""
    match process:
        case [str(machine), int(pid)] if machine and machine == _machine():
            return not os.path.exists(f"/proc/{pid}")
    return False


def _is_inside(name: str) -> bool:
    """Whether an object's name is a path below a folder, and none that leads out of it."""
    parts = name.split("/")
    return "\0" not in name and not {"", ".", ".."} & {*parts}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _short(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:200]}"
