"""Answers of an interrupted `evaluate`: kept, gone on with; files of one result stay together."""

import errno
import json
import os
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from vlfau_jax.cli.main import main
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.evaluation import evaluate as evaluating
from vlfau_jax.evaluation.kept_answers import NAMES
from vlfau_jax.files import written_together
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.report import render

HIDDEN = ".scores.json.partial"
OF_THE_PAGE = 2  # batches of 8: the page's faces, more than 8, are described again


def results(run):
    return {name: (run / name).read_bytes() for name in NAMES if (run / name).exists()}


def evaluate(run, **how):
    return evaluating.evaluate(run, batch_size=8, render=how.pop("render", render), **how)


@pytest.fixture(scope="module")
def whole(silent_workdir, tmp_path_factory):
    """The files of an evaluation that nothing interrupted: four batches of 8 faces or more."""
    run = shutil.copytree(silent_workdir, tmp_path_factory.mktemp("whole") / "run")
    evaluate(run)
    return results(run)


@pytest.fixture
def run(silent_workdir, tmp_path):
    return shutil.copytree(silent_workdir, tmp_path / "run")


def interrupted(run, error=KeyboardInterrupt, at=3, **how):
    """An evaluation that ends when batch `at` is described; returns its message and the calls."""
    compile_describe = evaluating.compile_describe

    def failing(*given):
        describe, calls = compile_describe(*given), []

        def raising(image):
            calls.append(image)
            if len(calls) == at:
                raise error
            return describe(image)

        return raising

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises((KeyboardInterrupt, RunError)) as end,
    ):
        patch.setattr(evaluating, "compile_describe", failing)
        evaluate(run, **how)
    return str(end.value)


def counting(monkeypatch):
    """Counts the batches that are described from here on."""
    compile_describe, calls = evaluating.compile_describe, []

    def watched(*given):
        describe = compile_describe(*given)
        return lambda image: calls.append(image) or describe(image)

    monkeypatch.setattr(evaluating, "compile_describe", watched)
    return calls


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RunError("lost")],
    ids=["ctrl-c", "full disk", "failure"],
)
def test_answers_are_kept_and_gone_on_with(run, whole, monkeypatch, error):
    text = interrupted(run, error)
    assert f"the answers to 2 of 4 batches of faces are kept in {run}; evaluate with" in text
    assert results(run) == {}
    calls = counting(monkeypatch)
    evaluate(run, resume=True)
    assert len(calls) == 2 + OF_THE_PAGE
    assert results(run) == whole
    assert not (run / HIDDEN).exists()


def test_what_ends_before_an_answer_leaves_nothing(run):
    assert interrupted(run, at=1) == "nothing is kept"
    assert not (run / HIDDEN).exists()


def test_without_resume_it_begins_anew_and_says_so(run, whole, capsys, monkeypatch):
    interrupted(run)
    calls = counting(monkeypatch)
    evaluate(run)
    assert "answers of an interrupted evaluation are removed" in capsys.readouterr().err
    assert len(calls) == 4 + OF_THE_PAGE and results(run) == whole


def test_a_page_that_fails_changes_no_file_and_costs_no_answer(run, whole, monkeypatch):
    evaluate(run)
    (run / "predictions.jsonl").write_text("of an earlier step\n")
    before = results(run)

    def fails(*_):
        raise ValueError("no such template")

    with pytest.raises(ValueError, match="no such template"):
        evaluate(run, render=fails)
    assert results(run) == before
    calls = counting(monkeypatch)
    evaluate(run, resume=True)
    assert len(calls) == OF_THE_PAGE and results(run) == whole


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


def swap(file):
    shutil.copy(file.with_name("answers-000000.safetensors"), file)


def pipe(file):
    file.unlink()
    os.mkfifo(file)


def text(file):
    file.write_text("{}")


@pytest.mark.parametrize("spoil", [cut, swap, pipe, text, os.unlink])
def test_damaged_answers_are_made_anew(run, whole, spoil):
    interrupted(run)
    spoil(run / HIDDEN / "answers-000001.safetensors")
    evaluate(run, resume=True)
    assert results(run) == whole


def other_parameters(trained):
    return replace(trained, params=jax.tree.map(lambda leaf: leaf + 1e-3, trained.params))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (other_parameters, "parameters"),
        (lambda trained: replace(trained, step=8), "step"),
        (lambda trained: replace(trained, config_digest="ab" * 32), "config"),
    ],
)
def test_answers_of_another_model_are_refused(run, monkeypatch, change, key):
    interrupted(run)
    trained = change(load_trained(run))
    monkeypatch.setattr(evaluating, "load_trained", lambda *_: trained)
    with pytest.raises(UserError, match=f"--resume: .* was of another {key}; evaluate without"):
        evaluate(run, resume=True)
    assert len(list((run / HIDDEN).glob("answers-*"))) == 2


def test_perplexity_goes_on_with_what_was_kept(half_workdir, tmp_path):
    run, other = (shutil.copytree(half_workdir, tmp_path / name) for name in ("one", "other"))
    evaluate(run, render=None)
    interrupted(other, render=None)
    evaluate(other, render=None, resume=True)
    assert results(other) == results(run)
    language = json.loads((run / "scores.json").read_text())["language"]
    assert language["global"]["perplexity"] > 1 and language["local"]["perplexity"] is None


def test_a_second_evaluate_of_one_workdir_is_refused(run, capsys):
    with written_together(run, NAMES) as other:
        (other / "scores.json").touch()
        assert main(["evaluate", f"--workdir={run}"]) == 2
        assert "is being written by another process" in capsys.readouterr().err
        assert [path.name for path in other.iterdir()] == ["scores.json"]


def test_numbers_that_are_none_are_no_answer(run, monkeypatch):
    trained = load_trained(run)
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), trained.params)
    monkeypatch.setattr(evaluating, "load_trained", lambda *_: replace(trained, params=params))
    with pytest.raises(RunError, match="no usable au_probabilities for 8 of 8 faces, such as nan"):
        evaluate(run)
    assert results(run) == {} and not (run / HIDDEN).exists()


def test_a_bad_line_of_metrics_is_counted_on_the_page(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "total": NaN}\n[\n')
    evaluate(run)
    assert "2 lines of metrics.jsonl are no lines of metrics" in (run / "report.html").read_text()


def test_units_nobody_taught_are_not_scored(run, monkeypatch, capsys):
    reasons = {12: "never active", 24: "never known", 6: "always active"}
    trained = replace(load_trained(run), untaught=reasons)
    monkeypatch.setattr(evaluating, "load_trained", lambda *_: trained)
    values = evaluate(run).to_json()
    assert json.loads((run / "scores.json").read_text()) == values
    assert values["untaught"] == {str(au): reason for au, reason in reasons.items()}
    f1s = [values["per_au"][str(au)]["f1"] for au in values["aus"] if au not in reasons]
    scored = [f1 for f1 in f1s if f1 is not None]
    assert values["mean_f1"] == pytest.approx(sum(scored) / len(scored))
    assert values["units_scored"] == len(scored) < len(values["aus"])
    for au in map(str, reasons):
        unit = values["per_au"][au]
        counts = {"positives", "frames"}
        assert {name for name, value in unit.items() if value is not None} == counts
        assert values["floors_per_au"]["all_on"][au] is None
    screen = capsys.readouterr().out
    page = (run / "report.html").read_text()
    for shown in (screen, page):
        assert "AU12" in shown and "(never active)" in shown and "(never known)" in shown
    assert "not learned" in page
    lines = (run / "predictions.jsonl").read_text().splitlines()
    for unit in (json.loads(line)["per_au"]["12"] for line in lines):
        assert (unit["probability"], unit["active"], unit["sentence"]) == (None, None, None)
        assert "label" in unit
