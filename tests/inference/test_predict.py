import csv
import json
import os
import re
import shutil

import cv2
import numpy as np
import pytest

import vlfau_jax.inference.export as exporting
import vlfau_jax.inference.trained as trained
from vlfau_jax.__main__ import main
from vlfau_jax.data.crop.cropping import find_and_crop
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.raw.frames import read_image
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.inference.predict import Exported, find_pictures, predict


@pytest.fixture(scope="module")
def pictures(raw_faces, tmp_path_factory):
    """Five faces in folders, a picture without a face, a broken one, and a file to be ignored."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deep").mkdir()
    rule = crop_rule("cascade", 64)
    whole = (p for p in sorted(raw_faces.rglob("*.jpg")) if read_image(p) is not None)
    faces = [p for p in whole if find_and_crop(read_image(p), rule) is not None]
    names = ("2.jpg", "10.jpg", "1.jpg", "deep/7.jpg", "deep/8.png")
    for name, source in zip(names, faces[:45:9], strict=True):
        cv2.imwrite(str(folder / name), cv2.imread(str(source)))
    cv2.imwrite(str(folder / "3.png"), np.full((90, 120, 3), 127, np.uint8))
    (folder / "4.jpg").write_bytes(faces[0].read_bytes()[:900])
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def results(model_folder, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new"
    summary = predict(model_folder, [pictures], out, batch_size=3)
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
    assert dict(summary.losses) == {"no face": 1, "unreadable": 1}


def test_a_name_that_is_no_utf8_is_written_back_as_it_is(model_folder, pictures, tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(odd, "wb") as file:
        file.write((pictures / "1.jpg").read_bytes())
    predict(model_folder, [os.fsdecode(odd)], tmp_path / "out", batch_size=3)
    assert b"caf\xe9.jpg" in (tmp_path / "out" / "predictions.csv").read_bytes()


def test_columns_are_openfaces_and_each_is_explained(results):
    _, out = results
    with (out / "predictions.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header[:5] == ["frame", "face_id", "timestamp", "confidence", "success"]
    assert header[5:17] == [f"AU{au:02d}_c" for au in BP4D_AUS]
    assert header[17:] == [*(f"AU{au:02d}_p" for au in BP4D_AUS), "source"]
    notes = json.loads((out / "predictions.columns.json").read_text())
    assert list(notes["predictions.csv"]) == header
    keys = {key.strip() for line in notes["predictions.jsonl"] for key in line.split(",")}
    for record in records(out):
        said = {f"per_au.N.{key}" for unit in (record["per_au"] or {}).values() for key in unit}
        assert keys >= said | set(record) - {"per_au"}


def test_csv_and_jsonl_say_the_same_and_a_lost_face_says_nothing(results):
    _, out = results
    notes = json.loads((out / "predictions.columns.json").read_text())
    reasons = notes["predictions.jsonl"]["reason"]
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


def test_each_row_is_the_answer_to_its_own_picture(results, model_folder):
    _, out = results
    model = Exported(model_folder)
    found = [row for row in rows(out) if row["success"] == "1"]
    crops = [find_and_crop(read_image(row["source"]), model.rule) for row in found]
    faces = np.stack([resize(crop, 32) for crop in crops])
    values = [[float(row[f"AU{au:02d}_p"]) for au in BP4D_AUS] for row in found]
    expected = np.stack([p.probabilities for p in model.describe(faces)])
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4  # or the order would not be tested
    said = [record for record in records(out) if record["success"]]
    for record, prediction in zip(said, model.describe(faces), strict=True):
        sure = [record["per_au"][str(au)]["sentence_probability"] for au in BP4D_AUS]
        np.testing.assert_allclose(sure, prediction.sentence_probabilities, atol=1e-5)
        assert record["sentence_probability"] == pytest.approx(
            prediction.sentence_probability, abs=1e-5
        )
        assert 0 < min(*sure, record["sentence_probability"]) <= 1


def test_a_model_without_sentences_predicts_and_says_so(silent_folder, pictures, tmp_path, capsys):
    predict(silent_folder, [pictures / "1.jpg", pictures / "3.png"], tmp_path, batch_size=3)
    found, lost = records(tmp_path)
    assert found["success"] == 1 and found["sentence"] is None
    assert {unit["sentence"] for unit in found["per_au"].values()} == {None}
    assert {unit["sentence_probability"] for unit in found["per_au"].values()} == {None}
    assert 0 < float(rows(tmp_path)[0]["AU01_p"]) < 1
    assert lost["success"] == 0 and lost["per_au"] is None
    notes = json.loads((tmp_path / "predictions.columns.json").read_text())["predictions.jsonl"]
    sentences = ("sentence", "per_au.N.sentence")
    for key in (*sentences, *(f"{key}_probability" for key in sentences)):
        assert notes[key].startswith("null: this model was trained without")
    assert "None" not in capsys.readouterr().out


def test_when_nothing_can_be_described_the_run_has_failed(model_folder, pictures, tmp_path):
    with pytest.raises(RunError, match="0 described, 1 no face, 1 unreadable") as error:
        predict(model_folder, [pictures / "3.png", pictures / "4.jpg"], tmp_path)
    assert "\n" not in str(error.value)
    assert [record["reason"] for record in records(tmp_path)] == ["no face", "unreadable"]


def test_outputs_in_the_way_are_refused_before_any_work(results, pictures):
    _, out = results
    before = (out / "predictions.csv").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        predict("no model is looked for", [pictures], out)
    assert (out / "predictions.csv").read_bytes() == before


def test_a_run_that_dies_leaves_nothing_that_looks_finished(
    model_folder, pictures, tmp_path, monkeypatch
):
    def die(self, faces):
        raise RuntimeError("lost")

    monkeypatch.setattr(Exported, "describe", die)
    with pytest.raises(RuntimeError, match="lost"):
        predict(model_folder, [pictures], tmp_path)
    assert not {"predictions.csv", "predictions.jsonl"} & {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.jpg", "no such file"), ("clip.mp4", "not a picture"), ("empty", "no picture below")],
)
def test_inputs_that_cannot_be_looked_at(tmp_path, name, message):
    (tmp_path / "clip.mp4").write_bytes(b"0")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_pictures([tmp_path / name])


def test_no_input_at_all():
    with pytest.raises(UserError, match="INPUT"):
        find_pictures([])


def test_frames_count_within_each_input(pictures):
    found = find_pictures([pictures / "2.jpg", pictures / "deep"])
    assert [picture.frame for picture in found] == [1, 1, 2]


# What ModelOptions did not have when the first model folders were written.
LATER = {
    *("scan_blocks", "taps", "pooling", "refinement", "channel_mlp", "local_captions"),
    *("global_captions", "local_captioner", "au_embedding", "global_context", "backbone_weights"),
}


def changed(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.mark.parametrize("name", ["model.safetensors", "model.stablehlo", "tokenizer.json"])
def test_a_changed_file_is_refused(model_folder, tmp_path, name):
    folder = changed(model_folder, tmp_path)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: changed since"):
        Exported(folder)


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["crop_rule"].update(digest="0" * 16), "cropped another way"),
        (lambda c: c["crop_rule"].update(name="mtcnn"), "cropped another way"),
        (lambda c: c.update(format_version=99), "this version reads"),
        (lambda c: c.pop("aus"), "not a model's config"),
        (lambda c: c["model"].update(rotary=True), "holds 'rotary', which this version"),
        (lambda c: c["model"].update(pooling="median"), "model.pooling='median'"),
        (lambda c: c["model"].update(width="wide"), "config.json: holds no ModelOptions"),
        (lambda c: c.update(model=3), "config.json: holds no ModelOptions"),
        (lambda c: c["model"].update(local_captions=False), "export the model again"),
        (lambda c: c["files_sha256"].pop("model.safetensors"), "lacks model.safetensors"),
        (lambda c: c["files_sha256"].update({"../secret": "0"}), "not a file of this folder"),
        (lambda c: c["files_sha256"].update({"gone.bin": "0"}), "not a file of this folder"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(model_folder, tmp_path, change, message):
    folder = changed(model_folder, tmp_path)
    (tmp_path / "secret").write_text("")
    edit(folder, change)
    with pytest.raises(UserError, match=message):
        Exported(folder)


def cropped_by(model_folder, tmp_path, name, file=""):
    """The model folder as if its training faces had been cropped by another rule."""
    folder = changed(model_folder, tmp_path)
    rule = crop_rule(name, 64, str(file))
    edit(folder, lambda config: config.update(crop_rule=rule.describe()))
    return folder


def test_a_rules_model_file_must_be_the_one_of_the_training(model_folder, tmp_path, monkeypatch):
    mine, other = tmp_path / "mine.onnx", tmp_path / "other.onnx"
    mine.write_bytes(b"1")
    other.write_bytes(b"2")
    folder = cropped_by(model_folder, tmp_path, "yunet", mine)
    digest = crop_rule("yunet", 64, str(mine)).parameters["file_sha256"]
    for file, message in (
        ("", f"YuNet's ONNX model of SHA-256 {digest}; give that file as --crop_file"),
        (other, f"other.onnx is not the file that .*expected {digest}"),
        (tmp_path / "gone.onnx", "gone.onnx is no file; expected YuNet"),
    ):
        with pytest.raises(UserError, match=message) as error:
            Exported(folder, str(file))
        assert "\n" not in str(error.value)
    moved = mine.rename(tmp_path / "renamed.onnx")
    assert Exported(folder, str(moved)).rule.file == str(moved)


def test_a_file_for_a_rule_that_reads_none_is_refused(model_folder, pictures, tmp_path, capsys):
    flags = [f"--model={model_folder}", f"--out={tmp_path}", "--crop_file=x.onnx"]
    assert main(["predict", *flags, str(pictures)]) == 2
    assert "--crop_file=x.onnx: the crop rule cascade reads no file" in capsys.readouterr().err


def test_faces_are_found_by_tables_where_the_model_was_trained_so(model_folder, pictures, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text(f"source,left,top,width,height\n{pictures / '1.jpg'},20,20,50,50\n")
    folder = cropped_by(model_folder, tmp_path, "box", table)
    with pytest.raises(UserError, match="--crop=box needs a --crop_file"):
        Exported(folder)
    inputs, out = [pictures / "1.jpg", pictures / "2.jpg"], tmp_path / "out"
    summary = predict(folder, inputs, out, batch_size=3, crop_file=str(table))
    assert (summary.described, dict(summary.losses)) == (1, {"not in the table": 1})
    notes = json.loads((out / "predictions.columns.json").read_text())
    assert '"not in the table", the table of' in notes["predictions.jsonl"]["reason"]
    # As a set was prepared with: sources below the folder that is read.
    table.write_text("source,left,top,width,height\ndeep/7.jpg,20,20,50,50\n")
    summary = predict(folder, [pictures], out, batch_size=3, crop_file=str(table), overwrite=True)
    assert [path.name for path, _ in summary.first] == ["7.jpg"]
    assert summary.losses["not in the table"] == 5 and summary.losses["unreadable"] == 1
    (table.with_name("landmarks.csv")).write_text(
        "frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n1,35,40,60,41\n"
    )
    shutil.rmtree(folder)
    folder = cropped_by(model_folder, tmp_path, "landmarks")
    for name in ("1.jpg", "2.jpg"):
        shutil.copy(pictures / name, tmp_path)
    inputs = [tmp_path / "1.jpg", tmp_path / "2.jpg"]
    summary = predict(folder, inputs, out, batch_size=3, overwrite=True)
    assert (summary.described, dict(summary.losses)) == (1, {"not in the table": 1})
    (table.with_name("landmarks.csv")).write_text("frame,left_eye_x\n")
    with pytest.raises(UserError, match=r"landmarks\.csv:1: expected a header"):
        predict(folder, inputs, out, batch_size=3, overwrite=True)


def test_a_folder_from_before_the_switches_still_opens(model_folder, tmp_path):
    folder = changed(model_folder, tmp_path)

    def older(config):
        config["model"] = {k: v for k, v in config["model"].items() if k not in LATER}
        assert len(config["model"]) > 10
        del config["captions"], config["beams"]

    edit(folder, older)
    assert Exported(folder).outputs == Exported(model_folder).outputs == tuple(trained.OUTPUTS)


def test_a_folder_whose_program_gives_no_scores_still_predicts(
    workdir, pictures, tmp_path, monkeypatch
):
    with monkeypatch.context() as then:
        then.setattr(exporting, "_compare", lambda *_: None)  # slow, and not this test's
        for name in ("local_scores", "global_scores"):
            then.delitem(trained.OUTPUTS, name)
        exporting.export(workdir, tmp_path / "model")
    predict(tmp_path / "model", [pictures / "1.jpg"], tmp_path / "out", batch_size=3)
    (record,) = records(tmp_path / "out")
    for told in (record, *record["per_au"].values()):
        assert isinstance(told["sentence"], str) and told["sentence_probability"] is None
    notes = json.loads((tmp_path / "out" / "predictions.columns.json").read_text())
    for key in ("sentence_probability", "per_au.N.sentence_probability"):
        assert notes["predictions.jsonl"][key].startswith(
            "null: this model was exported by a version"
        )


def test_a_training_runs_folder_is_no_model(workdir, pictures, tmp_path):
    with pytest.raises(UserError, match=rf"export --workdir={re.escape(str(workdir))} --out=") as e:
        predict(workdir, [pictures / "1.jpg"], tmp_path / "out")
    assert "\n" not in str(e.value) and "training run's folder" in str(e.value)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json"):
        Exported(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not a model's config"):
        Exported(tmp_path)
