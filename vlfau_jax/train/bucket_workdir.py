"""A run's workdir in a bucket: the run works in a copy on the local disk, which is sent there.

The run itself, its checkpoints and their atomic renames are those of any local folder. Beside it a
thread sends what has changed: the small files every half minute, a finished checkpoint at once. The
manifest of a checkpoint goes last, after the metrics of its steps, and is removed first, so that a
checkpoint of the bucket is finished where it has one; what else a kill has left is removed by the
next run. Orbax itself writes to gs:// but refuses s3:// (0.12.8, `build_kvstore_tspec`).

One process at a time holds the bucket's lease (`vlfau_jax.buckets.Lease`). Where the last one to
hold it worked in this machine's copy, the next goes on there, for it may be ahead of the bucket;
anywhere else the bucket is copied anew. Of several processes that train together, the first alone
holds the lease and writes (`Checkpoints`, `shared=False`); the others read copies of their own.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from vlfau_jax.buckets import Bucket, Lease, Lost, is_bucket, open_bucket
from vlfau_jax.distributed.processes import before_exit, is_first_process, run_on_first
from vlfau_jax.errors import InUse, RunError, UserError
from vlfau_jax.files import locked, locked_in_turn
from vlfau_jax.train.manifest import MANIFEST, is_step
from vlfau_jax.train.metrics import METRICS_FILE
from vlfau_jax.train.replaced import REPLACED_FOLDER
from vlfau_jax.train.workdir import CHECKPOINTS, CONFIG_FILE, FINAL_FILE, LOCK_FILE

SMALL_EVERY = 30.0  # seconds between two sendings of metrics
_LOOK_EVERY = 0.5  # seconds between two looks for a finished checkpoint
_GIVE_UP_AFTER = 600.0  # seconds for which nothing could be sent
_HELD = ".bucket_lease"  # in the copy: the number of the lease under which it was written
_RECORDS = (CONFIG_FILE, METRICS_FILE, FINAL_FILE)


@contextmanager
def local_workdir(url: str, *, writes: bool, lease: float = 120.0) -> Iterator[Path]:
    """The folder of a run: `url` itself, or a local copy of one in a bucket.

    Every process of a run calls it. What the first one changes in its copy is sent to the bucket,
    at the latest at the end, and also where the end of another process ends it.

    Args:
        url: a folder, or `gs://...` or `s3://...`.
        writes: whether what changes in the folder belongs into the bucket; then the bucket's lease
            is held until the end.
        lease: seconds after which a holder of the lease that is not heard of is dead.

    Raises:
        UserError: the bucket cannot be used; InUse where another process writes there.
        RunError: what was written could not be sent to the bucket.
    """
    if not is_bucket(url):
        yield Path(url)
        return
    bucket = open_bucket("--workdir", url)
    with ExitStack() as stack:
        if writes:
            run_on_first("bucket", lambda: stack.enter_context(_working_copy(bucket, lease)))
        if writes and is_first_process():
            yield bucket.local
        else:
            yield stack.enter_context(_copied(bucket, lambda name: True, may_be_empty=writes))


@contextmanager
def copied_records(url: str) -> Iterator[tuple[Path, str | None]]:
    """A run's folder, of a bucket a copy without arrays, and who is writing there.

    Of a local folder the second is None: its lock says it.
    """
    if not is_bucket(url):
        yield Path(url), None
        return
    bucket = open_bucket("--workdir", url)
    with _copied(bucket, lambda name: name in _RECORDS or _order(name) == 2) as folder:
        with bucket.told():
            writer = Lease(bucket, 0).holder()
        yield folder, writer


@contextmanager
def _copied(
    bucket: Bucket, wanted: Callable[[str], bool], *, may_be_empty: bool = False
) -> Iterator[Path]:
    """The bucket's finished content, copied for this process alone and removed at the end."""
    local = bucket.local
    with ExitStack() as stack:
        with locked_in_turn(local.parent):
            for left in local.parent.glob(f"{local.name}.copy.*"):  # by a process that was killed
                with suppress(InUse, OSError), locked(left):
                    shutil.rmtree(left)
            folder = Path(tempfile.mkdtemp(prefix=f"{local.name}.copy.", dir=local.parent))
            stack.enter_context(locked(folder))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with bucket.told():
            while True:
                names = [name for name in _finished(bucket.listed()) if wanted(name)]
                if not (names or may_be_empty):
                    raise UserError(f"--workdir={bucket.url} is empty; expected a run's folder")
                try:
                    bucket.get(folder, names)
                    break
                except FileNotFoundError:  # the run has gone on, and removed a checkpoint
                    if {*names} <= bucket.listed().keys():
                        raise
                    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        yield folder


@contextmanager
def _working_copy(bucket: Bucket, seconds: float) -> Iterator[None]:
    """Holds the lease, fills the local copy, and sends what changes in it, all of it at the end."""
    lease = Lease(bucket, seconds)
    with bucket.told():
        lease.claim()
        mirror = _Mirror(bucket, lease)
        mirror.fetch()
        mirror.send()  # what a kill has kept here: other processes copy the bucket
    print(f"{bucket.url}: working copy in {bucket.local}", file=sys.stderr)
    with _renewed(bucket, lease, seconds / 4), before_exit(mirror.finish), mirror.sending():
        yield


@contextmanager
def _renewed(bucket: Bucket, lease: Lease, every: float) -> Iterator[None]:
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
                reason = bucket.translated(error)
                print(f"warning: the lease is not renewed: {reason}", file=sys.stderr)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Mirror:
    """The local copy, and what of it is in the bucket."""

    def __init__(self, bucket: Bucket, lease: Lease) -> None:
        self._bucket, self._lease, self._folder = bucket, lease, bucket.local
        # Size and time of a file when it was last sent; None for what is there and was not.
        self._sent: dict[str, tuple[int, int] | None] = {}
        self._ended = threading.Event()
        self._sending = threading.RLock()
        self._finished = False
        self._failing_since: float | None = None

    def fetch(self) -> None:
        """Makes the local copy what the bucket says, or keeps it where it was the last to write."""
        there = self._bucket.listed()
        self._sent = dict.fromkeys(filter(_belongs, there))  # what else lies there is left alone
        held = self._folder / _HELD
        if not self._lease.before or _text(held) != str(self._lease.before):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            names = [name for name in _finished(there) if _belongs(name)]
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
        """Sends what changes, until all of it is in the bucket; then gives the lease back."""
        thread = threading.Thread(target=self._keep_sending, name="bucket", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._ended.set()
            thread.join()
            try:
                self.finish()
            except Lost:  # more important than what followed from it
                raise
            except RunError as unsent:
                print(f"warning: {unsent}", file=sys.stderr)
            raise
        self._ended.set()
        thread.join()
        self.finish()

    def finish(self) -> None:
        """Sends the rest and gives the lease back; does nothing when it is called again.

        Raises:
            Lost: another process has taken over.
            RunError: what is not sent, and where it is.
        """
        with self._sending:
            if self._finished:
                return
            self._finished = True
            try:
                self._send_rest()
            finally:
                with suppress(Exception):  # the next one waits then until it is over
                    self._lease.release()

    def _send_rest(self) -> None:
        for wait in (1, 5, None):
            try:
                self.send()
                return
            except Lost:
                raise
            except Exception as error:
                if wait is None:
                    raise RunError(
                        f"{self._bucket.translated(error)}; what is not sent is in {self._folder}: "
                        "the next --resume on this machine sends it"
                    ) from error
                time.sleep(wait)

    def _keep_sending(self) -> None:
        # Those of a copy that was kept may not have been sent.
        last, steps = time.monotonic(), frozenset()
        while not self._ended.wait(_LOOK_EVERY):
            now = self._steps()
            if now == steps and time.monotonic() - last < SMALL_EVERY:
                continue
            try:
                self.send()
                self._failing_since, last, steps = None, time.monotonic(), now
            except Lost:
                return  # `_renewed` ends the process
            except Exception as error:
                last, steps = time.monotonic(), now  # again in half a minute
                if self._failing_since is None:
                    self._failing_since = last
                    reason = self._bucket.translated(error)
                    print(f"warning: not sent yet: {reason}", file=sys.stderr)
                if last - self._failing_since > _GIVE_UP_AFTER:
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

    def send(self) -> None:
        """Makes the bucket what the local copy is; raises Lost where another one writes there.

        While the run that --overwrite replaces still lies aside, the bucket keeps that one.
        """
        with self._sending:
            self._lease.check()
            if _text(self._folder / _HELD) != str(self._lease.number):
                raise RunError(f"{self._folder}, the copy of {self._bucket.url}, has been removed")
            while not ((self._folder / REPLACED_FOLDER).exists() or self._send_all()):
                pass

    def _send_all(self) -> bool:
        """Whether all that was there is sent; false where the run has removed some meanwhile."""
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
            self._sent |= dict.fromkeys(names)  # some arrive even where it fails
            try:
                self._bucket.put(self._folder, names)
            except FileNotFoundError as error:
                if error.filename is None:  # of the store
                    raise
                return False
            self._sent |= {name: here[name] for name in names}
        return True

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
