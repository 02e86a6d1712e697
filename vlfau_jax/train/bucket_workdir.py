"""A run's workdir in a bucket: the run works in a copy on the local disk, which is sent there.

The run itself, its checkpoints and their atomic renames are those of any local folder. Beside it a
thread sends what has changed: the small files every half minute, a finished checkpoint at once. The
manifest of a checkpoint goes last, after the metrics of its steps, and is removed first, so that a
checkpoint of the bucket is finished where it has one; what else a kill has left is removed by the
next run. Orbax itself writes to gs:// but refuses s3:// (0.12.8, `build_kvstore_tspec`).

One process at a time holds the bucket's lease (`vlfau_jax.buckets.Lease`). Where the last one to
hold it worked in this machine's copy, the next goes on there, for it may be ahead of the bucket;
anywhere else the bucket is copied anew.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from vlfau_jax.buckets import Bucket, Lease, Lost, is_bucket, open_bucket
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.train.manifest import MANIFEST, is_step
from vlfau_jax.train.workdir import CHECKPOINTS, FINAL_FILE, LOCK_FILE

SMALL_EVERY = 30.0  # seconds between two sendings of metrics
_LOOK_EVERY = 0.5  # seconds between two looks for a finished checkpoint
_GIVE_UP_AFTER = 600.0  # seconds for which nothing could be sent
_HELD = ".bucket_lease"  # in the copy: the number of the lease under which it was written


@contextmanager
def local_workdir(
    url: str, *, writes: bool, lease: float = 120.0, overwrite: bool = False
) -> Iterator[Path]:
    """The folder of a run: `url` itself, or the local copy of one in a bucket.

    Args:
        url: a folder, or `gs://...` or `s3://...`.
        writes: whether what changes in the folder belongs into the bucket; then the bucket's lease
            is held until the end.
        lease: seconds after which a holder of the lease that is not heard of is dead.
        overwrite: whether the run that is there is to be replaced, which is refused of buckets.

    Raises:
        UserError: the bucket cannot be used; InUse where another process writes there.
        RunError: what was written could not be sent to the bucket.
    """
    if not is_bucket(url):
        yield Path(url)
        return
    bucket = open_bucket("--workdir", url)
    if overwrite:
        remove = {"gs://": "gcloud storage rm -r", "s3://": "aws s3 rm --recursive"}[url[:5]]
        raise UserError(
            f"--overwrite replaces no run in a bucket; take another folder, or {remove} {url}"
        )
    if not writes:
        yield _copied(bucket, lambda name: True)
        return
    holder = Lease(bucket, lease)
    with bucket.told():
        holder.claim()
        mirror = _Mirror(bucket, holder)
        mirror.fetch()
    print(f"{url}: working copy in {bucket.local}", file=sys.stderr)
    with _renewed(holder, lease / 4), mirror.sending():
        yield bucket.local


def copied_records(url: str) -> tuple[Path, str | None]:
    """A run's folder without its arrays, copied from a bucket, and who is writing there.

    Of a local folder the second is None: its lock says it.
    """
    if not is_bucket(url):
        return Path(url), None
    bucket = open_bucket("--workdir", url)
    with bucket.told():
        return _copied(bucket, lambda name: _order(name) != 1), Lease(bucket, 0).holder()


def _copied(bucket: Bucket, wanted: Callable[[str], bool]) -> Path:
    """The bucket's finished content, copied beside any copy in which a run works."""
    folder = bucket.local.with_name(f"{bucket.local.name}.read")
    with bucket.told():
        while True:
            names = [name for name in _finished(bucket.listed()) if wanted(name)]
            if not names:
                raise UserError(f"--workdir={bucket.url} is empty; expected a run's folder")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                bucket.get(folder, names)
                return folder
            except FileNotFoundError:  # the run has gone on, and removed a checkpoint
                if {*names} <= bucket.listed().keys():
                    raise


@contextmanager
def _renewed(lease: Lease, every: float) -> Iterator[None]:
    """Renews a lease in a thread, and asks the process to stop where it is lost."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(every):
            try:
                lease.renew()
            except Lost:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except Exception as error:  # the store may be away for a while
                print(f"warning: the lease is not renewed: {error}", file=sys.stderr)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # the next one waits then until it is over
            lease.release()


class _Mirror:
    """The local copy, and what of it is in the bucket."""

    def __init__(self, bucket: Bucket, lease: Lease) -> None:
        self._bucket, self._lease, self._folder = bucket, lease, bucket.local
        # Size and time of a file when it was last sent; None for what is there and was not.
        self._sent: dict[str, tuple[int, int] | None] = {}
        self._ended = threading.Event()
        self._failing: tuple[float, Exception] | None = None  # since when, and the newest reason

    def fetch(self) -> None:
        """Makes the local copy what the bucket says, or keeps it where it was the last to write."""
        there = self._bucket.listed()
        self._sent = dict.fromkeys(there)
        held = self._folder / _HELD
        if not self._lease.before or _text(held) != str(self._lease.before):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            names = _finished(there)
            self._bucket.get(self._folder, names)
            here = self._here()
            self._sent |= {name: here[name] for name in names if name in here}
        else:
            # A finished checkpoint never changes: one of the same sizes is the same.
            finished = {*_finished(there)}
            for name, seen in self._here().items():
                if name in finished and _step(name) and there[name] == seen[0]:
                    self._sent[name] = seen
        held.write_text(str(self._lease.number))

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Sends what changes, until all of it is in the bucket."""
        thread = threading.Thread(target=self._keep_sending, name="bucket", daemon=True)
        thread.start()
        broken = None
        try:
            yield
        except BaseException as error:
            broken = error
            raise
        finally:
            self._ended.set()
            thread.join()
            self._send_rest(broken)

    def _send_rest(self, broken: BaseException | None) -> None:
        try:
            for wait in (1, 5, None):
                try:
                    self.send()
                    return
                except Lost:
                    raise
                except Exception:
                    if wait is None:
                        raise
                    time.sleep(wait)
        except Exception as error:
            message = (
                f"{self._bucket.translated(error)}; what is not sent is in {self._folder}: the "
                "next --resume on this machine sends it"
            )
            if broken is None or isinstance(error, Lost):
                raise RunError(message) from error
            print(f"warning: {message}", file=sys.stderr)

    def _keep_sending(self) -> None:
        # Those of a copy that was kept may not have been sent.
        last, steps = time.monotonic(), frozenset()
        while not self._ended.wait(_LOOK_EVERY):
            now = self._steps()
            if now == steps and time.monotonic() - last < SMALL_EVERY:
                continue
            try:
                self.send()
                self._failing, last, steps = None, time.monotonic(), now
            except Lost:
                return  # `_renewed` ends the process
            except Exception as error:
                since = self._failing[0] if self._failing else time.monotonic()
                if not self._failing:
                    reason = self._bucket.translated(error)
                    print(f"warning: not sent yet: {reason}", file=sys.stderr)
                self._failing = since, error
                last = time.monotonic()  # again in half a minute
                steps = now
                if time.monotonic() - since > _GIVE_UP_AFTER:
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

    def send(self) -> None:
        """Makes the bucket what the local copy is; raises Lost where another one writes there."""
        self._lease.check()
        if _text(self._folder / _HELD) != str(self._lease.number):
            raise RunError(f"{self._folder}, the copy of {self._bucket.url}, has been removed")
        here = self._here()
        changed = [name for name, seen in here.items() if self._sent.get(name) != seen]
        gone = [name for name in self._sent if name not in here]
        for name in sorted(gone, key=_order, reverse=True):  # a manifest before what it lists
            self._bucket.remove([name])
            del self._sent[name]
        for group in range(4):
            names = [name for name in changed if _order(name) == group]
            if group == 2:
                self._lease.check()
            names = [name for name in names if (self._folder / name).exists()]
            if names:
                self._bucket.put(self._folder, names)
            self._sent |= {name: here[name] for name in names}

    def _steps(self) -> frozenset[str]:
        with suppress(OSError):
            return frozenset(filter(is_step, os.listdir(self._folder / CHECKPOINTS)))
        return frozenset()

    def _here(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file of the local copy that belongs into the bucket."""
        return dict(_files(self._folder, "", _belongs))


def _files(
    folder: Path, prefix: str, belongs: Callable[[str], bool]
) -> Iterator[tuple[str, tuple[int, int]]]:
    with suppress(FileNotFoundError, NotADirectoryError):  # it may be removed at any moment
        for entry in list(os.scandir(folder)):
            name = prefix + entry.name
            if not belongs(name):
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    yield from _files(folder / entry.name, f"{name}/", belongs)
                elif stat.S_ISREG(status.st_mode):
                    yield name, (status.st_size, status.st_mtime_ns)


def _belongs(name: str) -> bool:
    """Hidden entries are under way; so is a checkpoint without the name of a step."""
    parts = PurePosixPath(name).parts
    if any(part.startswith(".") for part in parts) or name == LOCK_FILE:
        return False
    return parts[0] != CHECKPOINTS or len(parts) == 1 or is_step(parts[1])


def _step(name: str) -> str | None:
    """The folder of the checkpoint to which a file belongs; None for none."""
    parts = PurePosixPath(name).parts
    return parts[1] if len(parts) > 2 and parts[0] == CHECKPOINTS else None


def _finished(names: dict[str, int]) -> list[str]:
    """Those of the names that are no part of a checkpoint without a manifest."""
    return [name for name in names if not (step := _step(name)) or _manifest_of(step) in names]


def _manifest_of(step: str) -> str:
    return f"{CHECKPOINTS}/{step}/{MANIFEST}"


def _order(name: str) -> int:
    """When a file is sent: metrics, arrays, manifests, and last what says that the run is over."""
    if step := _step(name):
        return 2 if name == _manifest_of(step) else 1
    return 3 if name == FINAL_FILE else 0


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""
