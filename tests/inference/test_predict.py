import csv
import importlib.util
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import vlfau_jax.inference.export as exporting
import vlfau_jax.inference.outputs as outputs
import vlfau_jax.inference.shots as shots
from tests.inference.drawings import cartoon
from tests.inference.folders import cropped_by
from tests.processes import TIMEOUT
from vlfau_jax.cli.main import main
from vlfau_jax.data.crop.registry import finder_for
from vlfau_jax.data.raw.frames import read_image
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import Limits
from vlfau_jax.inference.predict import predict
from vlfau_jax.inference.predict_options import PredictOptions
from vlfau_jax.inference.prediction_files import BOX_COLUMNS, read_path, written_path

THREES = PredictOptions(batch_size=3)


@pytest.fixture(scope="module")
def results(model_folder, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new"
    summary = predict(model_folder, [pictures], out, options=THREES)
    return summary, out


def rows(out):
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def records(out):
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def test_every_picture_has_a_row_in_natural_order(results, pictures):
    summary, out = results
    names = ["1.jpg", "2.jpg", "3.png", "4.jpg", "10.jpg", "deep/7.jpg", "deep/8.png"]
    assert [row["source"] for row in rows(out)] == [str(pictures / name) for name in names]
    assert [row["frame"] for row in rows(out)] == list("1234567")
    assert [row["success"] for row in rows(out)] == list("1100111")
    assert summary.described == 5
    assert dict(summary.dropped) == {"no face": 1, "unreadable": 1}


def test_odd_names_are_utf8_and_no_formula_in_both_files(
    model_folder, pictures, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = (
        b"caf\xe9.jpg",
        b"=1+2.jpg",
        b"@x.jpg",
        b"-1.jpg",
        b" +a.jpg",
        b"a\\xe9.jpg",
        b"\t.jpg",
    )
    for name in names:
        shutil.copy(pictures / "1.jpg", os.fsdecode(name))
    predict(
        model_folder,
        list(map(os.fsdecode, names)),
        tmp_path / "out",
        options=THREES,
    )
    texts = [row["source"] for row in rows(tmp_path / "out")]
    assert texts == [record["source"] for record in records(tmp_path / "out")]
    assert texts[0] == "caf\\xe9.jpg" and texts[5] == "a\\\\xe9.jpg"
    assert texts[1:5] == ["./=1+2.jpg", "./@x.jpg", "./-1.jpg", "./ +a.jpg"]
    assert [os.fsencode(read_path(text)) for text in texts] == list(names)
    b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir()).decode("utf-8")


NAMES = st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"x"))
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@given(NAMES.map(os.fsdecode))
@example("\r=x")
@example("\uff1dx")
@example("\\\\xe9\udce9")
def test_a_written_path_is_harmless_and_read_back(name):
    text = written_path(Path(name))
    assert read_path(text) == Path(name)
    assert not text.encode("utf-8").decode().lstrip(" ").startswith(FORMULAS)
    plain = name.isascii() and name.isalnum()
    assert not plain or text == name  # most names are what they were


def test_columns_are_openfaces_and_each_is_explained(results):
    _, out = results
    with (out / "predictions.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header[:5] == ["frame", "face_id", "timestamp", "confidence", "success"]
    assert header[5:17] == [f"AU{au:02d}_c" for au in BP4D_AUS]
    assert header[17:] == [*(f"AU{au:02d}_p" for au in BP4D_AUS), "source", *BOX_COLUMNS]
    columns = json.loads((out / "predictions.columns.json").read_text())
    assert list(columns["predictions.csv"]) == header
    keys = {key.strip() for line in columns["predictions.jsonl"] for key in line.split(",")}
    for record in records(out):
        found = {f"per_au.N.{key}" for unit in (record["per_au"] or {}).values() for key in unit}
        assert keys >= found | set(record) - {"per_au"}


def test_csv_and_jsonl_agree_and_a_dropped_picture_has_no_values(results):
    _, out = results
    columns = json.loads((out / "predictions.columns.json").read_text())
    reasons = columns["predictions.jsonl"]["reason"]
    for row, record in zip(rows(out), records(out), strict=True):
        cells = [row[f"AU{au:02d}_p"] for au in BP4D_AUS]
        if row["success"] == "0":
            assert set(cells) == {""} and record["per_au"] is None and record["sentence"] is None
            assert record["sentence_probability"] is None
            assert record["reason"] in ("no face", "unreadable")
            assert f'"{record["reason"]}", ' in reasons
            continue
        assert "reason" not in record
        for au, cell in zip(BP4D_AUS, cells, strict=True):
            unit = record["per_au"][str(au)]
            assert float(cell) == pytest.approx(unit["probability"], abs=1e-6)
            assert row[f"AU{au:02d}_c"] == str(int(unit["active"]))
            assert unit["active"] == (unit["probability"] > 0.5)
            assert isinstance(unit["sentence"], str)


def test_each_row_belongs_to_its_own_picture(results, model):
    _, out = results
    found = [row for row in rows(out) if row["success"] == "1"]
    finder = finder_for(model.crop_rule)
    pictures = (read_image(row["source"]) for row in found)
    faces = np.stack([model.look_all(picture, finder=finder)[0].crop for picture in pictures])
    values = [[float(row[f"AU{au:02d}_p"]) for au in BP4D_AUS] for row in found]
    expected = np.stack([p.probabilities for p in model.describe(faces)])
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4  # or the order would not be tested
    described = [record for record in records(out) if record["success"]]
    for record, prediction in zip(described, model.describe(faces), strict=True):
        means = [record["per_au"][str(au)]["sentence_probability"] for au in BP4D_AUS]
        np.testing.assert_allclose(means, prediction.sentence_probabilities, atol=1e-5)
        assert record["sentence_probability"] == pytest.approx(
            prediction.sentence_probability, abs=1e-5
        )
        assert 0 < min(*means, record["sentence_probability"]) <= 1


def test_a_model_without_sentences_predicts(silent_folder, pictures, tmp_path, capsys):
    predict(
        silent_folder,
        [pictures / "1.jpg", pictures / "3.png"],
        tmp_path,
        options=THREES,
    )
    found, dropped = records(tmp_path)
    assert found["success"] == 1 and found["sentence"] is None
    assert {unit["sentence"] for unit in found["per_au"].values()} == {None}
    assert {unit["sentence_probability"] for unit in found["per_au"].values()} == {None}
    assert 0 < float(rows(tmp_path)[0]["AU01_p"]) < 1
    assert dropped["success"] == 0 and dropped["per_au"] is None
    columns = json.loads((tmp_path / "predictions.columns.json").read_text())["predictions.jsonl"]
    sentences = ("sentence", "per_au.N.sentence")
    for key in (*sentences, *(f"{key}_probability" for key in sentences)):
        assert columns[key].startswith("null: this model was trained without")
    assert "None" not in capsys.readouterr().out


def test_when_nothing_can_be_described_the_run_has_failed(model_folder, pictures, tmp_path):
    with pytest.raises(
        RunError, match="no face could be described: 0 described, 1 no face, 1 unreadable"
    ) as error:
        predict(model_folder, [pictures / "3.png", pictures / "4.jpg"], tmp_path)
    assert "\n" not in str(error.value)
    assert [record["reason"] for record in records(tmp_path)] == ["no face", "unreadable"]


def test_existing_outputs_are_refused_before_any_work(results, pictures):
    _, out = results
    before = (out / "predictions.csv").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        predict("no model is read", [pictures], out)
    assert (out / "predictions.csv").read_bytes() == before


def test_a_run_that_fails_leaves_no_finished_files(model_folder, pictures, tmp_path, monkeypatch):
    def fail(self, faces):
        raise RuntimeError("killed")

    monkeypatch.setattr(ExportedModel, "describe", fail)
    with pytest.raises(RuntimeError, match="killed"):
        predict(model_folder, [pictures], tmp_path)
    assert not {"predictions.csv", "predictions.jsonl"} & {p.name for p in tmp_path.iterdir()}


def test_a_file_for_a_rule_that_reads_none_is_refused(model_folder, pictures, tmp_path, capsys):
    flags = [f"--model={model_folder}", f"--out={tmp_path}", "--crop_file=x.onnx"]
    assert main(["predict", *flags, str(pictures)]) == 2
    assert "--crop_file=x.onnx: the crop rule cascade reads no file" in capsys.readouterr().err


def test_faces_are_found_by_tables_where_the_training_faces_were(model_folder, pictures, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text(f"source,left,top,width,height\n{pictures / '1.jpg'},20,20,50,50\n")
    folder = cropped_by(model_folder, tmp_path, "box", table)
    with pytest.raises(UserError, match="--crop=box needs a --crop_file"):
        ExportedModel(folder)
    inputs, out = [pictures / "1.jpg", pictures / "2.jpg"], tmp_path / "out"
    summary = predict(folder, inputs, out, options=THREES, crop_file=str(table))
    assert (summary.described, dict(summary.dropped)) == (1, {"not in the table": 1})
    columns = json.loads((out / "predictions.columns.json").read_text())
    assert '"not in the table", the table of' in columns["predictions.jsonl"]["reason"]
    # As a set was prepared with: sources below the folder that is read.
    table.write_text("source,left,top,width,height\ndeep/7.jpg,20,20,50,50\n")
    summary = predict(
        folder,
        [pictures],
        out,
        options=THREES,
        crop_file=str(table),
        overwrite=True,
    )
    assert [record["source"] for record in summary.first] == [str(pictures / "deep/7.jpg")]
    assert summary.dropped["not in the table"] == 5 and summary.dropped["unreadable"] == 1
    (table.with_name("landmarks.csv")).write_text(
        "frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n1,35,40,60,41\n"
    )
    shutil.rmtree(folder)
    folder = cropped_by(model_folder, tmp_path, "landmarks")
    for name in ("1.jpg", "2.jpg"):
        shutil.copy(pictures / name, tmp_path)
    inputs = [tmp_path / "1.jpg", tmp_path / "2.jpg"]
    summary = predict(folder, inputs, out, options=THREES, overwrite=True)
    assert (summary.described, dict(summary.dropped)) == (1, {"not in the table": 1})
    (table.with_name("landmarks.csv")).write_text("frame,left_eye_x\n")
    with pytest.raises(UserError, match=r"landmarks\.csv:1: expected a header"):
        predict(folder, inputs, out, options=THREES, overwrite=True)


def test_a_folder_whose_program_gives_no_scores_still_predicts(
    workdir, pictures, tmp_path, monkeypatch
):
    with monkeypatch.context() as then:
        then.setattr(exporting, "_compare", lambda *_: None)  # slow, and tested in test_export.py
        for name in ("local_scores", "global_scores"):
            then.delitem(outputs.OUTPUTS, name)
        exporting.export(workdir, tmp_path / "model")
    predict(
        tmp_path / "model",
        [pictures / "1.jpg"],
        tmp_path / "out",
        options=THREES,
    )
    (record,) = records(tmp_path / "out")
    for described in (record, *record["per_au"].values()):
        assert isinstance(described["sentence"], str)
        assert described["sentence_probability"] is None
    columns = json.loads((tmp_path / "out" / "predictions.columns.json").read_text())
    for key in ("sentence_probability", "per_au.N.sentence_probability"):
        assert columns["predictions.jsonl"][key].startswith(
            "null: this model was exported by a version"
        )


def test_confidence_is_the_finders_own_and_empty_where_there_is_none(results, model):
    _, out = results
    finder = finder_for(model.crop_rule)
    for row, record in zip(rows(out), records(out), strict=True):
        picture = read_image(row["source"]) if row["success"] == "1" else None
        found = None if picture is None else model.look_all(picture, finder=finder)[0]
        expected = round(found.confidence, 4) if found else 0.0
        assert float(row["confidence"]) == record["confidence"] == expected
        assert record["faces"] == int(found is not None)
    assert len({row["confidence"] for row in rows(out)}) > 2


def test_a_table_without_confidences_gives_none(model_folder, pictures, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text(f"source,left,top,width,height\n{pictures / '1.jpg'},20,20,50,50\n")
    folder = cropped_by(model_folder, tmp_path, "box", table)
    predict(
        folder,
        [pictures / "1.jpg"],
        tmp_path / "out",
        options=THREES,
        crop_file=str(table),
    )
    (row,), (record,) = rows(tmp_path / "out"), records(tmp_path / "out")
    assert (row["success"], row["confidence"], record["confidence"]) == ("1", "", None)


def test_doubtful_faces_are_dropped_for_a_reason_or_described_with_it(
    model_folder, pictures, tmp_path, capsys
):
    folder = tmp_path / "phone"
    folder.mkdir()
    upright = cv2.imread(str(pictures / "1.jpg"))
    cv2.imwrite(str(folder / "1.png"), upright)
    cv2.imwrite(str(folder / "2.png"), cv2.GaussianBlur(upright, (0, 0), 2))
    summary = predict(model_folder, [folder], tmp_path / "out", options=THREES)
    good, doubtful = records(tmp_path / "out")
    assert good["success"] == 1 and "reason" not in good
    assert (doubtful["success"], doubtful["reason"], doubtful["faces"]) == (0, "blurred", 1)
    assert doubtful["per_au"] is None and "at least 0.015" in doubtful["detail"]
    assert 0 < doubtful["confidence"] < 1
    assert (summary.described, dict(summary.dropped)) == (1, {"blurred": 1})
    kept = predict(
        model_folder,
        [folder],
        tmp_path / "all",
        options=replace(THREES, keep_doubtful=True),
    )
    assert "described though doubtful: 1 blurred" in capsys.readouterr().out
    assert (kept.described, dict(kept.doubtful)) == (2, {"blurred": 1})
    _, described = records(tmp_path / "all")
    assert described["success"] == 1 and described["per_au"]
    assert described["reason"] == "blurred"


def test_a_drawing_and_what_is_no_person_are_counted_and_not_described(
    model_folder, astronaut, tmp_path, capsys
):
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), astronaut[..., ::-1])
    cv2.imwrite(str(folder / "2.jpg"), cartoon(0)[..., ::-1])
    data = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    for number, name in enumerate(("chelsea.png", "coffee.png"), 3):  # a cat and a cup
        (folder / f"{number}.png").write_bytes((data / name).read_bytes())
    summary = predict(model_folder, [folder], tmp_path / "out", options=THREES)
    found = records(tmp_path / "out")
    assert [record.get("reason") for record in found] == [None, "drawn", "no face", "no face"]
    assert [record["success"] for record in found] == [1, 0, 0, 0]
    assert found[1]["per_au"] is None and found[1]["detail"].endswith("flat; at most 0.2")
    assert (summary.described, dict(summary.dropped)) == (1, {"drawn": 1, "no face": 2})
    assert "1 drawn" in capsys.readouterr().out
    options = replace(THREES, keep_doubtful=True)
    kept = predict(model_folder, [folder], tmp_path / "all", options=options)
    assert (kept.described, dict(kept.doubtful)) == (2, {"drawn": 1})
    described = records(tmp_path / "all")[1]
    assert (described["success"], described["reason"]) == (1, "drawn") and described["per_au"]
    predict(model_folder, [folder], tmp_path / "off", options=THREES, limits=Limits(max_flat=1))
    assert "reason" not in records(tmp_path / "off")[1]


def test_the_limits_are_flags(model_folder, pictures, tmp_path, capsys, monkeypatch):
    asked, limits = [], []
    monkeypatch.setattr(
        "vlfau_jax.inference.predict.predict",
        lambda *a, **o: asked.append(a[3]) or limits.append(o["limits"]),
    )
    flags = [f"--model={model_folder}", f"--out={tmp_path}", str(pictures)]
    assert main(["predict", *flags]) == 0
    assert limits[0] == Limits() and not asked[0].keep_doubtful
    assert asked[0].batch_size == 32
    others = [
        "--min_confidence=0.5",
        "--min_face_pixels=0",
        "--min_sharpness=0",
        "--min_contrast=3",
        "--max_flat=0.4",
    ]
    assert (
        main(
            [
                "predict",
                *flags,
                *others,
                "--keep_doubtful",
                "--batch_size=7",
            ]
        )
        == 0
    )
    assert limits[1] == Limits(0.5, 0, 0, 3, 0.4) and asked[1].keep_doubtful
    assert asked[1].batch_size == 7
    assert main(["predict", *flags, "--min_confidence=2"]) == 2
    assert "--min_confidence=2.0: out of range; expected 0" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, -1, 4097])
def test_a_batch_size_out_of_range_is_refused_before_any_work(size, tmp_path, capsys):
    flags = ["--model=none", f"--out={tmp_path / 'out'}", f"--batch_size={size}"]
    assert main(["predict", *flags, str(tmp_path)]) == 2
    assert f"--batch_size={size}: give 1 to 4096" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_file_of_a_folder_is_described_or_counted_with_its_reason(
    model_folder, pictures, tmp_path, capsys
):
    """What phones and careless copying leave behind."""
    folder = tmp_path / "in"
    folder.mkdir()
    whole = (pictures / "1.jpg").read_bytes()
    (folder / "a.jfif").write_bytes(whole)
    (folder / "b.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "c.MOV").write_bytes(b"\0\0\0\x0cftypqt  ")
    (folder / "d.jpg").write_bytes(whole[: len(whole) // 2] + whole[-2:])
    (folder / "e.txt").write_text("words")
    os.mkfifo(folder / "f.jpg")
    with (folder / "g.png").open("wb") as file:
        file.truncate(10 << 30)
    os.symlink(pictures / "deep", folder / "h")
    os.symlink(folder, folder / "i")
    summary = predict(model_folder, [folder], tmp_path / "out", options=THREES)
    assert summary.described == 3  # a, and two behind the link
    assert dict(summary.dropped) == {"unreadable": 3, "incomplete": 1, "too large": 1}
    output = capsys.readouterr()
    assert "passed over: files that are neither pictures nor videos: 1 (e.txt)" in output.out
    assert "passed over: links to a folder that is read anyway: 1 (i)" in output.out
    assert "g.png: more than 256 MB" in output.err
    found = records(tmp_path / "out")
    assert len(found) == summary.described + summary.dropped.total()
    assert all(record["detail"] for record in found if not record["success"])


def test_no_face_says_how_small_it_was_looked_for(results):
    _, out = results
    (none,) = (record for record in records(out) if record.get("reason") == "no face")
    assert none["detail"] == "none of 10 pixels or more"


def test_faces_are_found_while_the_model_describes_those_before(
    model_folder, pictures, tmp_path, monkeypatch
):
    look, describe, begun = shots._look, ExportedModel.describe, threading.Event()

    def looks(shot, *arguments):
        if shot.number == 6:  # of the second batch
            begun.set()
        return look(shot, *arguments)

    def waits(model, faces):
        assert begun.wait(TIMEOUT)
        return describe(model, faces)

    monkeypatch.setattr(shots, "_look", looks)
    monkeypatch.setattr(ExportedModel, "describe", waits)
    assert predict(model_folder, [pictures], tmp_path, options=THREES).described == 5
