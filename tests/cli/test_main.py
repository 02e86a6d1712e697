"""The contract of the command line: one line and exit code 2 for a mistake, help everywhere."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from vlfau_jax.cli.main import VERBS, main
from vlfau_jax.errors import Interrupted, RunError


def run(capsys, *argv):
    try:
        code = main(list(argv))
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def test_without_a_verb_the_verbs_are_listed(capsys):
    code, out, _ = run(capsys)
    assert code == 2
    assert all(verb in out for verb in VERBS)
    assert run(capsys, "--help")[0] == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_names_its_flags(capsys, verb):
    code, out, err = run(capsys, verb, "--help")
    assert code == 0
    assert not err
    assert all(f"--{flag}" in out for flag in VERBS[verb].required)
    assert "default )" not in out and "default False" not in out


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "serve"])  # it needs nothing
def test_every_verb_asks_for_what_it_needs(capsys, verb):
    code, _, err = run(capsys, verb)
    assert code == 2
    # inspect takes one of two: an experiment's data, or a run.
    needed = [f"--{flag}" for flag in VERBS[verb].required]
    assert (needed or [VERBS[verb].inputs or "--config"])[0] in err


DEMO = ("train", "--config=configs/demo.py", "--workdir=/nowhere/run")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("trian",), "'trian' is not a verb"),
        (("train", "--config=configs/nope.py", "--workdir=/nowhere"), "configs/nope.py"),
        (
            ("train", "--config=configs/nope.py", "--workdir=/n", "--config.seed=1"),
            "configs/nope.py",
        ),
        (("train", "--config=configs/demo.py:cold", "--workdir=/nowhere"), ":scratch"),
        (("train", "--config=configs/bp4d.py:swin_x", "--workdir=/nowhere"), ":swin_l"),
        (("train", "--config=configs/bp4d.py:swin_b,9", "--workdir=/nowhere"), ",384"),
        (("train", "--config=configs/bp4d.py:swin_b,", "--workdir=/nowhere"), ",384"),
        ((*DEMO, "--config.data.fld=2"), "'fold'"),
        ((*DEMO, "--config.seed=-1"), "seed=-1"),
        ((*DEMO, "--config.data.fold"), "--config.data.fold=value"),
        ((*DEMO, "--config.train.steps=many"), "config.train.steps"),
        ((*DEMO, "--config.model.heads=(3,)"), "model.heads"),
        ((*DEMO, "--config.data.data_dir=/nowhere"), "/nowhere"),
        ((*DEMO, "surplus"), "'surplus'"),
        (("synthesize", "--layout=disfaa", "--out=/nowhere"), "disfaa"),
        (("synthesize", "--layout=bp4d", "--out=/nowhere", "--subjects=x"), "subjects"),
        (("prepare", "--dataset=bp4d", "--raw_dir=/nowhere", "--data_dir=/nowhere/p"), "/nowhere"),
        (("prepare", "--dataset=bp4d", "--raw_dir=/n", "--data_dir="), "--data_dir is empty"),
        (("prepare", "--dataset=bp4d", "--raw_dir=", "--data_dir=/n"), "--raw_dir is empty"),
        (("synthesize", "--layout=bp4d", "--out="), "--out is empty"),
        (("benchmark", "--config=configs/demo.py", "--out="), "--out is empty"),
        ((*DEMO[:2], "--workdir="), "--workdir is empty"),
        (("evaluate", "--workdir=/" + "x" * 300), "File name too long"),
        (("synthesize", "--layout=folder", "--out=/proc/nowhere"), "/proc/nowhere"),
        (("evaluate", "--workdir=/nowhere"), "/nowhere"),
        (("evaluate", "--workdir=/nowhere", "--beams=0"), "--beams=0: give 1"),
        (("evaluate", "--workdir=/nowhere", "--beams=wide"), "beams"),
        (("export", "--workdir=/nowhere", "--out=/nowhere/m"), "/nowhere"),
        (("export", "--workdir=/nowhere", "--out=/tmp/nowhere/m", "--beams=17"), "--beams=17"),
        (("predict", "--model=/nowhere", "--out=/nowhere/o"), "INPUT"),
        (("predict",), "INPUT"),
        (("predict", "--model=", "x.jpg"), "--model is empty"),
        (("predict", "--out=", "x.jpg"), "--out is empty"),
        (("explain", "x.jpg"), "--out must be given"),
        (("explain", "--model=", "--out=o.html", "x.jpg"), "--model is empty"),
        (("serve", "--model="), "--model is empty"),
        (("predict", "--model=/nowhere", "--out=/nowhere/o", "/nowhere/x.jpg"), "/nowhere"),
        (("predict", "--model=/nowhere", "--out=/nowhere/o", "config.png"), "config.png"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, argv, message):
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.fixture
def spoiled(raw_faces, tmp_path):
    """A copy of a raw tree, and the first of its occurrence files."""
    raw = tmp_path / "raw"
    shutil.copytree(raw_faces, raw)
    return raw, min((raw / "AUCoding" / "AU_OCC").glob("*.csv"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[1:], ":1: no header"),
        (lambda lines: [lines[0], lines[1].replace(",0", ",7").replace(",1,", ",7,")], ":2: AU"),
    ],
    ids=["no header", "label 7"],
)
def test_labels_that_cannot_be_trusted_stop_prepare_at_file_and_line(
    capsys, spoiled, tmp_path, spoil, message
):
    raw, codes = spoiled
    codes.write_text("\n".join(spoil(codes.read_text().splitlines())) + "\n")
    out = tmp_path / "prepared"
    code, _, err = run(capsys, "prepare", "--dataset=bp4d", f"--raw_dir={raw}", f"--data_dir={out}")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{codes.name}{message}" in err
    assert not list(tmp_path.rglob("dataset_info.json"))


def test_a_run_that_describes_no_picture_fails_in_one_line(capsys, model_folder, tmp_path):
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((90, 120, 3), 127, np.uint8))
    argv = ("predict", f"--model={model_folder}", f"--out={tmp_path / 'out'}", str(blank))
    code, out, err = run(capsys, *argv)
    assert (code, out) == (1, "")
    (failed,) = [line for line in err.splitlines() if "failed: " in line]
    assert "no face could be described" in failed


def test_an_empty_tree_is_one_line(capsys, tmp_path):
    argv = ("prepare", "--dataset=bp4d", f"--raw_dir={tmp_path}", f"--data_dir={tmp_path}/p")
    code, _, err = run(capsys, *argv)
    assert (code, err.count("\n")) == (2, 1)


def test_a_workdir_in_use_is_refused(capsys, workdir, prepared):
    argv = (
        "train",
        "--config=configs/demo.py:scratch",
        f"--workdir={workdir}",
        f"--config.data.data_dir={prepared}",
    )
    code, _, err = run(capsys, *argv)
    assert (code, err.count("\n")) == (2, 1)
    assert "is in use" in err
    assert "--resume" in err


@pytest.mark.parametrize(("kind", "code"), [(RunError, 1), (Interrupted, 75)])
def test_a_run_that_cannot_go_on_is_one_line_and_its_exit_code(capsys, monkeypatch, kind, code):
    def failed(*_):
        raise kind("the line")

    monkeypatch.setitem(VERBS, "prepare", replace(VERBS["prepare"], flags=(), run=failed))
    assert run(capsys, "prepare") == (code, "", "failed: the line\n")
    assert str(code) in run(capsys, "--help")[1]


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "interrupted\n"), ("2 shards are kept", "interrupted: 2 shards are kept\n")],
)
def test_ctrl_c_is_one_line_and_exit_code_130(capsys, monkeypatch, text, line):
    def stopped(*_):
        raise KeyboardInterrupt(*filter(None, [text]))

    monkeypatch.setitem(VERBS, "prepare", replace(VERBS["prepare"], flags=(), run=stopped))
    assert run(capsys, "prepare") == (130, "", line)
