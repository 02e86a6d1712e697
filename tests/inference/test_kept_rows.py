"""Rows of an interrupted `predict`: kept, gone on after, never mixed with those of another."""

import errno
import json
import os
import shutil

import numpy as np
import pytest

import vlfau_jax.inference.shots as shots
from tests.inference.folders import copied, edit
from tests.processes import Process
from vlfau_jax.cli.main import main
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.files import written_together
from vlfau_jax.inference.kept_rows import Rows
from vlfau_jax.inference.predict import predict
from vlfau_jax.inference.predict_options import PredictOptions
from vlfau_jax.inference.prediction_files import NAMES

pytestmark = pytest.mark.slow

HIDDEN = ".predictions.csv.partial"


THREES = PredictOptions(batch_size=3)


@pytest.fixture(scope="module")
def whole(model_folder, pictures, tmp_path_factory):
    """The files of a run that nothing interrupted: three batches of at most three pictures."""
    out = tmp_path_factory.mktemp("whole")
    predict(model_folder, [pictures], out, options=THREES)
    return contents(out)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def interrupt(monkeypatch, error, at):
    """Makes the reading of picture number `at` (from 1) raise `error`."""
    look = shots._look

    def raising(shot, *arguments):
        if shot.number == at:
            raise error
        return look(shot, *arguments)

    monkeypatch.setattr(shots, "_look", raising)


def left(model_folder, pictures, out, at=5, error=KeyboardInterrupt):
    """A run that ends at picture `at`: the rows of the batches before it are kept."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises((KeyboardInterrupt, RunError)) as end:
        interrupt(patch, error, at)
        predict(model_folder, [pictures], out, options=THREES)
    return str(end.value)


@pytest.mark.parametrize(("at", "kept"), [(4, 3), (5, 3), (7, 6)])
def test_rows_after_ctrl_c_are_gone_on_after(
    model_folder, pictures, tmp_path, whole, at, kept, capsys
):
    text = left(model_folder, pictures, tmp_path, at)
    assert text.startswith(f"{kept} rows are kept in {tmp_path}; give the same command with")
    assert set(contents(tmp_path / HIDDEN)) >= {"predictions.jsonl"}
    assert not set(NAMES) & {path.name for path in tmp_path.iterdir()}
    predict(model_folder, [pictures], tmp_path, options=THREES, resume=True)
    assert f"going on after {kept} finished rows" in capsys.readouterr().err
    assert contents(tmp_path) == whole


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENOMEM]
)
def test_a_full_disk_costs_no_finished_row(model_folder, pictures, tmp_path, whole, code):
    add = Rows.add

    def half(self, record):
        if self.count == 4:
            self._records.write('{"frame": 5, "torn')
            raise OSError(code, os.strerror(code))
        add(self, record)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RunError) as end:
        patch.setattr(Rows, "add", half)
        predict(model_folder, [pictures], tmp_path, options=THREES)
    assert str(end.value).startswith(f"{tmp_path}: {os.strerror(code)}; 4 rows are kept in")
    predict(model_folder, [pictures], tmp_path, options=THREES)  # the same command suffices
    assert contents(tmp_path) == whole


def test_what_ends_before_a_row_leaves_nothing(model_folder, pictures, tmp_path):
    assert left(model_folder, pictures, tmp_path / "new", at=1) == "nothing is kept"
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_open_files_is_no_unreadable_picture(model_folder, pictures, tmp_path):
    def refuse(path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RunError, match="Too many open"):
        patch.setattr(shots, "read_picture", refuse)
        predict(model_folder, [pictures], tmp_path, options=THREES)


def cut(rows):
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])


def foreign(rows):
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(lines[0] + lines[2] + b"".join(lines[2:]))


def not_json(rows):
    rows.write_bytes(rows.read_bytes() + b"\xff\xfe\n" + b"[" * 10_000 + b"\n" + b"NaN\n")


@pytest.mark.parametrize("spoil", [cut, foreign, not_json])
def test_rows_that_are_damaged_are_made_anew(model_folder, pictures, tmp_path, whole, spoil):
    left(model_folder, pictures, tmp_path, at=7)
    spoil(tmp_path / HIDDEN / "predictions.jsonl")
    predict(model_folder, [pictures], tmp_path, options=THREES, resume=True)
    assert contents(tmp_path) == whole


def test_rows_of_another_request_are_neither_mixed_nor_removed(
    model_folder, pictures, tmp_path, whole
):
    out, own = tmp_path / "out", shutil.copytree(pictures, tmp_path / "pictures")
    left(model_folder, own, out)
    kept = contents(out / HIDDEN)
    other = copied(model_folder, tmp_path)
    edit(other, lambda config: config["trained_on"].update(step=8))
    touched = own / "1.jpg"
    for differing, model, inputs, size in (
        ("model", other, [own], 3),
        ("inputs", model_folder, [pictures], 3),
        ("inputs", model_folder, [own, own / "1.jpg"], 3),
        ("--batch_size", model_folder, [own], 2),
        ("inputs", model_folder, [own], 3),
    ):
        if (differing, size, inputs) == ("inputs", 3, [own]):
            os.utime(touched, ns=(1, 1))
        with pytest.raises(UserError, match=rf"was asked otherwise \({differing}\)"):
            predict(model, inputs, out, options=PredictOptions(batch_size=size), resume=True)
        assert contents(out / HIDDEN) == kept
    predict(model_folder, [pictures], out, options=THREES, overwrite=True)
    assert contents(out) == whole


def test_resume_replaces_older_files_where_the_interrupted_run_was_to(
    model_folder, pictures, tmp_path, whole
):
    predict(model_folder, [pictures / "1.jpg"], tmp_path)
    old = contents(tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, KeyboardInterrupt, 5)
        predict(model_folder, [pictures], tmp_path, options=THREES, overwrite=True)
    assert old == {name: (tmp_path / name).read_bytes() for name in old}
    with pytest.raises(UserError, match="--resume goes on with an interrupted run"):
        predict(model_folder, [pictures], tmp_path, options=THREES)
    predict(model_folder, [pictures], tmp_path, options=THREES, resume=True)
    assert contents(tmp_path) == whole
    with pytest.raises(UserError, match="exist; give --overwrite"):
        predict(model_folder, [pictures], tmp_path, options=THREES, resume=True)
    with pytest.raises(UserError, match="exclude each other"):
        predict(model_folder, [pictures], tmp_path, resume=True, overwrite=True)


def test_links_in_the_hidden_folder_are_not_followed(model_folder, pictures, tmp_path, whole):
    out, precious = tmp_path / "out", tmp_path / "precious"
    precious.write_text("precious\n")
    (out / HIDDEN).mkdir(parents=True)
    for name in (*NAMES, "request.json", "other"):
        (out / HIDDEN / name).symlink_to(precious)
    predict(model_folder, [pictures], out, options=THREES)
    assert precious.read_text() == "precious\n"
    assert contents(out) == whole


def test_what_an_earlier_version_left_is_swept(model_folder, pictures, tmp_path, whole):
    (tmp_path / HIDDEN).write_text("frame,face_id\n")  # it wrote a file of that name
    predict(model_folder, [pictures], tmp_path, options=THREES)
    assert contents(tmp_path) == whole


def test_a_second_predict_into_one_folder_is_refused(model_folder, pictures, tmp_path, capsys):
    with written_together(tmp_path, NAMES) as other:
        (other / "predictions.csv").touch()
        argv = ["predict", f"--model={model_folder}", f"--out={tmp_path}", str(pictures)]
        assert main(argv) == 2
        assert "is being written by another process" in capsys.readouterr().err
        assert [path.name for path in other.iterdir()] == ["predictions.csv"]


def test_a_unit_nobody_taught_has_no_answer(model_folder, pictures, tmp_path):
    folder = copied(model_folder, tmp_path)
    reasons = {"12": "never active", "24": "never known"}
    edit(folder, lambda config: config["trained_on"].update(untaught=reasons))
    predict(folder, [pictures / "1.jpg"], tmp_path / "out", options=THREES)
    header, row = (
        line.split(",") for line in (tmp_path / "out/predictions.csv").read_text().splitlines()
    )
    cells = dict(zip(header, row, strict=True))
    record = json.loads((tmp_path / "out/predictions.jsonl").read_text())
    columns = json.loads((tmp_path / "out/predictions.columns.json").read_text())
    assert (cells["success"], record["success"]) == ("1", 1)
    for au in BP4D_AUS:
        taught = str(au) not in reasons
        unit = record["per_au"][str(au)]
        for key in ("c", "p"):
            name = f"AU{au:02d}_{key}"
            assert bool(cells[name]) == taught
            described = columns["predictions.csv"][name]
            assert ("always empty" in described) != taught
            assert taught or reasons[str(au)] in described
        assert all((value is None) != taught for value in unit.values())


def not_finite(model_folder, tmp_path, value):
    from safetensors.numpy import load_file, save_file

    from vlfau_jax.files import file_digest

    folder = copied(model_folder, tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({k: np.full_like(v, value) for k, v in weights.items()}, folder / "model.safetensors")
    digest = file_digest(folder / "model.safetensors")
    edit(folder, lambda config: config["files_sha256"].update({"model.safetensors": digest}))
    return folder


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_of_numbers_that_are_none_gives_no_answer(
    model_folder, pictures, tmp_path, value, capsys
):
    folder = not_finite(model_folder, tmp_path, value)
    argv = ["predict", f"--model={folder}", f"--out={tmp_path / 'out'}", str(pictures)]
    assert main(argv) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("failed: ")]
    assert "no usable au_probabilities" in line and "nothing is kept" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_kills_leave_whole_files_or_none(model_folder, pictures, tmp_path):
    many, out = tmp_path / "many", tmp_path / "out"
    many.mkdir()
    for k in range(150):
        os.link(pictures / "1.jpg", many / f"{k}.jpg")
    argv = ["predict", f"--model={model_folder}", f"--out={out}", str(many)]
    rows = out / HIDDEN / "predictions.jsonl"
    for last in (32, 64):
        with Process(argv, 1, tmp_path / "logs") as process:
            process.wait_for(rows, f'"frame": {last},')
        assert {path.name for path in out.iterdir()} in ({HIDDEN}, set(NAMES[:3]))
    with (
        Process(argv, 1, tmp_path / "logs") as first,
        Process(argv, 1, tmp_path / "logs") as second,
    ):
        # The other is refused: while the one writes, or when its files are there.
        assert sorted((first.wait(), second.wait())) == [0, 2]
    assert sorted(contents(out)) == sorted(NAMES[:3])
    assert len((out / "predictions.csv").read_text().splitlines()) == 151
