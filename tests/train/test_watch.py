"""Metrics that are sent elsewhere: each line, in order; a service that fails stops no run."""

import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from vlfau_jax.cli.main import main
from vlfau_jax.errors import UserError
from vlfau_jax.train import watch
from vlfau_jax.train.loop import train
from vlfau_jax.train.watch import Watchers
from vlfau_jax.train.writer import MetricWriter

CONFIG = {"seed": 3, "train": {"steps": 4}}


@contextmanager
def webhook(status=200):
    """A server on this machine; gives its URL and what it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", got
        finally:
            server.shutdown()
            thread.join()


def test_a_run_sends_every_line_that_it_writes(silent, tmp_path):
    settings = silent(steps=2, log_every=1)
    with webhook() as (url, got):
        train(settings, tmp_path / "a" / "run", watch=[url])
    lines = (tmp_path / "a/run/metrics.jsonl").read_text().splitlines()
    *sent, last = got
    name = json.loads((tmp_path / "a/run/watch.json").read_text())["run"]
    assert name.startswith("a-run-")
    assert last == {"run": name, "ended": True, "failed": False}
    assert [one["run"] for one in sent] == [name] * 2
    assert [{"step": one["step"], **one["metrics"]} for one in sent] == [*map(json.loads, lines)]


def test_what_is_undefined_is_left_out(tmp_path):
    with (
        webhook() as (url, got),
        Watchers([url], tmp_path, CONFIG) as watchers,
        MetricWriter(tmp_path, 0, watchers=watchers) as writer,
    ):
        writer.write(1, {"loss": 0.5, "mean_f1": float("nan")})
        watchers.__exit__(None)
        assert got[0]["metrics"] == {"loss": 0.5}


def test_a_service_that_fails_is_told_once_and_the_run_goes_on(tmp_path, capsys):
    with webhook(status=500) as (url, got), Watchers([url], tmp_path, CONFIG) as watchers:
        for step in range(3):
            watchers.write(step, {"loss": 1.0})
    assert len(got) == 4
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--watch=http://127.0.0.1/...: metrics are lost there: HTTPError" in err


def test_a_slow_service_makes_nobody_wait(tmp_path, monkeypatch, capsys):
    go_on = threading.Event()

    class Slow:
        def write(self, step, values):
            go_on.wait()

        def close(self, failed):
            pass

    monkeypatch.setattr(watch, "_WAITING", 2)
    sender = watch._Sender("slow", Slow())
    for step in range(10):
        sender.put((step, {}))
    go_on.set()
    sender.finish(failed=False)
    assert "it takes them too slowly" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["wandb", "wandb:", "ftp://x", "comet:x", "https://", "https:x"])
def test_other_kinds_are_refused(asked, tmp_path):
    with pytest.raises(UserError, match="give wandb:PROJECT, mlflow:EXPERIMENT, or the URL"):
        Watchers([asked], tmp_path, CONFIG)


@pytest.mark.parametrize(("kind", "module"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_with_its_extra(kind, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install 'vlfau_jax\[{kind}\]'"):
        Watchers([f"{kind}:faces"], tmp_path, CONFIG)


def test_the_flag_is_checked_by_the_command_line(prepared, tmp_path, capsys):
    config = ["--config=tests/tiny.py", f"--config.data.data_dir={prepared}"]
    assert main(["train", *config, f"--workdir={tmp_path / 'run'}", "--watch=comet:x"]) == 2
    assert "--watch=comet:x: give" in capsys.readouterr().err


def test_weights_and_biases_takes_it_offline(tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    with Watchers(["wandb:faces"], tmp_path, CONFIG) as watchers:
        watchers.write(7, {"some_loss": 0.5, "f1": None})
    assert "warning" not in capfd.readouterr().err
    name = json.loads((tmp_path / "watch.json").read_text())["run"]
    (kept,) = (tmp_path / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb")
    assert b"some_loss" in kept.read_bytes()


def test_mlflow_keeps_one_run_of_a_workdir(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for step in (1, 2):  # the second resumes the first
        with Watchers(["mlflow:faces"], tmp_path, CONFIG) as watchers:
            watchers.write(step, {"loss": 1.0 / step})
    client = mlflow.MlflowClient()
    number = client.get_experiment_by_name("faces").experiment_id
    (run,) = client.search_runs([number])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5)]
    assert run.data.params == {"seed": "3", "train.steps": "4"}
    assert run.info.status == "FINISHED"


def test_the_service_hears_whether_the_run_failed_and_a_new_run_has_another_name(tmp_path):
    with webhook() as (url, got):
        with pytest.raises(KeyError), Watchers([url], tmp_path, CONFIG):
            raise KeyError
        with Watchers([url], tmp_path, CONFIG):
            pass
        (tmp_path / "watch.json").unlink()  # as --overwrite does
        with Watchers([url], tmp_path, CONFIG):
            pass
    assert [one["failed"] for one in got] == [True, False, False]
    assert got[0]["run"] == got[1]["run"] != got[2]["run"]


def test_a_webhook_s_path_is_shown_nowhere(tmp_path):
    with pytest.raises(UserError) as caught:
        Watchers(["https:///secret"], tmp_path, CONFIG)
    assert watch._shown("https://me:word@hooks.example/secret?key=1") == "https://hooks.example/..."
    assert watch._shown("wandb:faces") == "wandb:faces"
    assert "--watch=" in str(caught.value)
