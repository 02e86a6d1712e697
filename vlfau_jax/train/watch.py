"""Metrics of a run sent elsewhere as well: Weights & Biases, MLflow, or a webhook.

They are sent in a thread, so that a service that is slow or away stops no step: what it does not
take is told once on stderr, and lost there. metrics.jsonl has all of it. The name of the run there
is kept in watch.json: a run that is resumed goes on under it, and one that replaces it has another.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from vlfau_jax.errors import UserError
from vlfau_jax.files import written_whole
from vlfau_jax.records import Record, Text, read_record

KINDS = "wandb:PROJECT, mlflow:EXPERIMENT, or the URL of a webhook, https://..."
WATCH_FILE = "watch.json"
_WAITING = 1000  # lines that may wait for a service; beyond, the newest are lost there
_LAST_SECONDS = 30.0  # for what still waits at the end
_ANSWER_SECONDS = 10.0


class WatchRecord(Record):
    """watch.json: what services call the run."""

    run: Text


class Watcher(Protocol):
    """Takes a run's metrics; all methods are called in one thread and may raise anything."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Plain numbers by name for a step, all of them finite."""

    def close(self, failed: bool) -> None:
        """The run has ended; `failed` where it was stopped before its last step."""


class _WandB:
    """https://docs.wandb.ai/ref/python: the run of a workdir is one run there, also resumed."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=project, id=name, name=name, resume="allow", config=dict(config)
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _MLflow:
    """https://mlflow.org/docs/latest: the run of a workdir is found again by its name."""

    def __init__(self, experiment: str, name: str, config: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        runs = self._client.search_runs([number], f"attributes.run_name = '{name}'")
        if runs:
            self._id = runs[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        self._id = self._client.create_run(number, run_name=name).info.run_id
        values = [Param(key, str(value)[:500]) for key, value in _flat(config)]
        for start in range(0, len(values), 100):  # as many as it takes at once
            self._client.log_batch(self._id, params=values[start : start + 100])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


class _Webhook:
    """POSTs `{"run": NAME, "step": STEP, "metrics": {...}}`, at last `"ended"` and `"failed"`."""

    def __init__(self, url: str, name: str, _: Mapping[str, Any]) -> None:
        self._url, self._name = url, name

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._post({"step": step, "metrics": dict(values)})

    def close(self, failed: bool) -> None:
        self._post({"ended": True, "failed": failed})

    def _post(self, content: Mapping[str, Any]) -> None:
        request = urllib.request.Request(
            self._url,
            data=json.dumps({"run": self._name, **content}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS):
            pass


_SERVICES: dict[str, tuple[Callable[..., Watcher], str]] = {
    "wandb": (_WandB, "wandb"),
    "mlflow": (_MLflow, "mlflow"),
}


class Watchers(AbstractContextManager):
    """What --watch names; gives each line to a thread for each service."""

    def __init__(self, asked: Sequence[str], workdir: Path, config: Mapping[str, Any]) -> None:
        """Opens all; `workdir`, which exists, gets the name of the run.

        Raises:
            UserError: an unknown kind, a package that is missing, or a service that refuses the
                run at its start.
        """
        self._threads: list[_Sender] = []
        try:
            for one in asked:
                opened = _opened(one, _name(workdir), config)
                self._threads.append(_Sender(_shown(one), opened))
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Hands over a line; what is undefined is left out."""
        for thread in self._threads:
            thread.put((step, {k: v for k, v in values.items() if v is not None}))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for thread in self._threads:
            thread.finish(failed=kind is not None)


class _Sender:
    def __init__(self, name: str, watcher: Watcher) -> None:
        self._name, self._watcher, self._told = name, watcher, False
        self._failed = False
        self._lines: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._send, name="watch", daemon=True)
        self._thread.start()

    def put(self, line: tuple[int, dict[str, float]]) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._tell("it takes them too slowly")

    def finish(self, failed: bool) -> None:
        """Waits for what is under way, but not for ever."""
        self._failed = failed
        end = time.monotonic() + _LAST_SECONDS
        try:
            self._lines.put(None, timeout=_LAST_SECONDS)
        except queue.Full:
            self._tell("it takes them too slowly")
        self._thread.join(max(0.0, end - time.monotonic()))

    def _send(self) -> None:
        while (line := self._lines.get()) is not None:
            self._try(lambda line=line: self._watcher.write(*line))
        self._try(lambda: self._watcher.close(self._failed))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # of any library
            self._tell(f"{type(error).__name__}: {error}".splitlines()[0][:200])

    def _tell(self, why: str) -> None:
        if not self._told:
            print(f"warning: --watch={self._name}: metrics are lost there: {why}", file=sys.stderr)
        self._told = True


def _shown(asked: str) -> str:
    """Without what may be a secret: the path of a webhook often is."""
    parts = urlsplit(asked)
    return f"{parts.scheme}://{parts.hostname}/..." if parts.netloc else asked


def _opened(asked: str, name: str, config: Mapping[str, Any]) -> Watcher:
    if asked.startswith(("https://", "http://")):
        if not urlsplit(asked).hostname:
            raise UserError(f"--watch={_shown(asked)}: give {KINDS}")
        return _Webhook(asked, name, config)
    kind, _, place = asked.partition(":")
    if kind not in _SERVICES or not place:
        raise UserError(f"--watch={asked}: give {KINDS}")
    service, extra = _SERVICES[kind]
    try:
        return service(place, name, config)
    except ImportError as error:
        raise UserError(
            f"--watch={asked}: {kind} is not installed; pip install 'vlfau_jax[{extra}]'"
        ) from error
    except Exception as error:  # such as no key, or no server
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserError(f"--watch={asked}: {kind} does not take the run ({reason})") from error


def _name(workdir: Path) -> str:
    """Of the run, the same when it is resumed: letters and digits that every service takes."""
    if (workdir / WATCH_FILE).exists():
        return read_record(workdir / WATCH_FILE, WatchRecord).run
    text = "-".join(Path(os.path.abspath(workdir)).parts[-2:])
    text = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text)[-100:]
    name = f"{text}-{secrets.token_hex(4)}"
    with written_whole(workdir / WATCH_FILE) as partial:
        partial.write_text(WatchRecord(run=name).model_dump_json())
    return name


def _flat(config: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{key}.")
        else:
            found.append((f"{before}{key}", value))
    return found
