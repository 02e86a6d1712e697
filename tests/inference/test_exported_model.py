"""The exported model as an object, and what is refused as a model folder."""

import inspect
import json
import re
import shutil
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import vlfau_jax
from tests.inference.folders import copied, cropped_by, edit
from vlfau_jax import shipped
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.raw.frames import read_image
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.outputs import OUTPUTS

# Fields that ModelOptions did not have when the first model folders were written.
LATER = {
    *("scan_blocks", "taps", "pooling", "refinement", "channel_mlp", "local_captions"),
    *("global_captions", "local_captioner", "au_embedding", "global_context", "backbone_weights"),
}


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(1).integers(0, 256, (7, 32, 32, 3), np.uint8)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, vlfau_jax; print({'jax', 'numpy', 'cv2', 'absl'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_loading_imports_no_training_library():
    code = (
        "import sys, vlfau_jax.inference.exported_model\n"
        "print({'orbax', 'grain', 'tensorflow_datasets', 'transformers'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_the_example_in_the_docstring_runs(
    model_folder, pictures, tmp_path, monkeypatch, capsys, model
):
    monkeypatch.setattr(shipped, "MODEL", model_folder)
    shutil.copy(pictures / "1.jpg", tmp_path / "face.jpg")
    monkeypatch.chdir(tmp_path)
    doc = inspect.getdoc(vlfau_jax.load)
    example = doc[doc.index("    import vlfau_jax") : doc.index("Args:")]
    exec(compile(textwrap.dedent(example), "docstring", "exec"), {})
    sentence, *units = capsys.readouterr().out.splitlines()
    (result,) = model.predict([read_image(pictures / "1.jpg")])
    assert sentence == result.prediction.sentence
    assert [line.split()[0] for line in units] == [f"AU{au:02d}" for au in BP4D_AUS]
    found = [float(line.split()[1]) for line in units]
    np.testing.assert_allclose(found, result.prediction.probabilities, atol=0.006)


def test_attributes_describe_the_model(model, model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    assert model.aus == BP4D_AUS
    assert model.thresholds == (0.5,) * 12
    assert (model.image_size, model.batch_size) == (32, 3)
    assert model.captions == ("local", "global")
    assert model.crop_rule.describe() == config["crop_rule"]
    assert model.synthetic is True
    assert model.trained_on["subjects"] == ["F001", "M002"]
    assert model.config == config


def test_any_number_of_faces_is_described_by_one_program(model, faces, monkeypatch):
    shapes, program = set(), model._compiled()

    def recorded(weights, faces):
        shapes.add(faces.shape)
        return program(weights, faces)

    monkeypatch.setitem(model._programs, (), recorded)
    together = model.describe(faces)
    assert model.describe(faces[:0]) == []
    for k in (0, 6):
        (alone,) = model.describe(faces[k : k + 1])
        np.testing.assert_allclose(alone.probabilities, together[k].probabilities, atol=1e-6)
        assert (alone.sentence, alone.sentences) == (together[k].sentence, together[k].sentences)
    assert len(together) == 7 and shapes == {(3, 32, 32, 3)}
    assert np.abs(together[0].probabilities - together[6].probabilities).max() > 1e-4


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), r"float32 \[2, 32, 32, 3\]"),
        (np.zeros((32, 32, 3), np.uint8), r"uint8 \[32, 32, 3\]"),
        (np.zeros((1, 64, 64, 3), np.uint8), r"uint8 \[1, 64, 64, 3\]"),
        (np.zeros((1, 32, 32), np.uint8), r"uint8 \[1, 32, 32\]"),
        (np.uint8(3), r"uint8 \[\]"),
    ],
)
def test_other_arrays_than_faces_are_refused(model, wrong, given):
    with pytest.raises(ValueError, match=rf"are {given}; expected .*\[b, 32, 32, 3\]$") as error:
        model.describe(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((90, 120, 3), np.float32),
        np.zeros((90, 120), np.uint8),
        np.zeros((90, 120, 4), np.uint8),
        np.zeros((0, 120, 3), np.uint8),
    ],
)
def test_other_arrays_than_pictures_are_refused(model, wrong):
    with pytest.raises(ValueError, match=re.escape(f"{wrong.dtype} {list(wrong.shape)}; expected")):
        model.predict([wrong])


def test_pictures_of_any_size_are_described_or_dropped_in_their_order(model, pictures):
    first, second = (read_image(pictures / name) for name in ("1.jpg", "deep/8.png"))
    plain = np.full((50, 70, 3), 127, np.uint8)
    results = model.predict(picture for picture in (first, plain, first[:, ::-1], plain, second))
    assert [result.drop_reason for result in results] == [None, "no face", None, "no face", None]
    assert [result.prediction is None for result in results] == [False, True, False, True, False]
    faces = np.stack([model.find_face(picture) for picture in (first, second)])
    for result, expected in zip(results[::4], model.describe(faces), strict=True):
        np.testing.assert_allclose(
            result.prediction.probabilities, expected.probabilities, atol=1e-6
        )
    assert model.predict([]) == []


def test_a_batch_is_described_before_the_next_faces_are_read(model, faces):
    read = []
    results = model.results(read.append(k) or face for k, face in enumerate(faces))
    next(results)
    assert read == [0, 1, 2]
    assert len(list(results)) == 6


def test_rules_that_read_tables_need_the_paths_of_the_pictures(model_folder, pictures, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text(f"source,left,top,width,height\n{pictures / '1.jpg'},20,20,50,50\n")
    model = vlfau_jax.load(
        cropped_by(model_folder, tmp_path, "box", table), crop_file=table, batch_size=1
    )
    paths = [pictures / "1.jpg", pictures / "2.jpg"]
    found = [read_image(path) for path in paths]
    assert [r.drop_reason for r in model.predict(found, paths)] == [None, "not in the table"]
    with pytest.raises(ValueError, match=r"crop rule box .*; give the paths"):
        model.predict(found)
    with pytest.raises(ValueError, match="1 paths for 2 pictures"):
        model.predict(found, paths[:1])
    shutil.rmtree(tmp_path / "model")
    model = vlfau_jax.load(cropped_by(model_folder, tmp_path, "landmarks"), batch_size=1)
    with pytest.raises(ValueError, match=r"crop rule landmarks .*; give the paths"):
        model.predict(found)


def test_a_batch_size_without_faces_is_refused(model_folder):
    with pytest.raises(ValueError, match="batch_size=0; expected 1 to 4096"):
        vlfau_jax.load(model_folder, batch_size=0)


@pytest.mark.parametrize("name", ["model.safetensors", "model.stablehlo", "tokenizer.json"])
def test_a_changed_file_is_refused(model_folder, tmp_path, name):
    folder = copied(model_folder, tmp_path)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: changed since"):
        ExportedModel(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["crop_rule"].update(digest="0" * 16), "cropped another way"),
        (lambda c: c["crop_rule"].update(name="mtcnn"), "cropped another way"),
        (lambda c: c.update(format_version=99), "this version reads"),
        (lambda c: c.pop("aus"), "config.json: aus is missing"),
        (lambda c: c["model"].update(rotary=True), "holds 'rotary', which this version"),
        (lambda c: c["model"].update(pooling="median"), "model.pooling='median'"),
        (lambda c: c["model"].update(width="wide"), "config.json: holds no valid ModelOptions"),
        (lambda c: c.update(model=3), "config.json: model is 3; should be an object"),
        (lambda c: c["model"].update(local_captions=False), "captions is .*, but the model has"),
        (lambda c: c["files_sha256"].pop("model.safetensors"), "lacks model.safetensors"),
        (lambda c: c["files_sha256"].update({"../secret": "0" * 64}), "files_sha256.../secret"),
        (lambda c: c["files_sha256"].update({"gone.bin": "0" * 64}), "not a file of this folder"),
        (lambda c: c["aus"][0].update(number=3), "aus.0 .*, not AU 3 'inner brow raiser'"),
        (
            lambda c: c["aus"][0].update(name="brow lowerer"),
            "a unit of facs.py, not AU 1",
        ),
        (lambda c: c["aus"].append(c["aus"][0]), r"aus should name every unit once, not AU \[1, 2"),
        (lambda c: c["aus"].pop(), "the weights are not of the network"),
        (lambda c: c.update(aus=[]), "aus is a list of 0"),
        (
            lambda c: c["aus"][0].update(threshold=1.5),
            "aus.0.threshold is 1.5; should be less",
        ),
        (lambda c: c["aus"][0].update(threshold="0.5"), "aus.0.threshold is '0.5'; should be"),
        (lambda c: c["aus"][0].update(threshold=None), "aus.0.threshold is None"),
        (lambda c: c.update(image_size=10**9), "image_size is 1000000000; should be less"),
        (lambda c: c.update(image_size=64), r"takes images uint8 \[b, 32, 32, 3\], expected"),
        (lambda c: c.update(synthetic=1), "synthetic is 1"),
        (lambda c: c.update(captions=["local"]), "captions is .'local',., but the model has"),
        (lambda c: c.update(vocabulary_size=99), "vocabulary_size is 99, but the model has"),
        (lambda c: c.update(beams=99), "beams is 99; should be less"),
        (lambda c: c["sentence_lengths"].update(local=9), "gives local_"),
        (lambda c: c["sentence_lengths"].pop("local"), "should have local and global"),
        (lambda c: c.update(crop_rule=[]), "crop_rule is a list of 0"),
        (lambda c: c.update(later=1), "later is no key"),
        (
            lambda c: c["model"].update(width=8.0),
            "holds no valid ModelOptions .model.width=8.0: give a whole number",
        ),
        (
            lambda c: c["model"].update(depths=[0, 0, 0, True]),
            r"model.depths=\(0, 0, 0, True\): give 4 values",
        ),
        (
            lambda c: c["model"].update(depths=[0, 0, 0, "1"]),
            r"model.depths=\(0, 0, 0, '1'\): give 4 values",
        ),
        (lambda c: c["model"].update(hidden=8), "the weights are not of the network"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(model_folder, tmp_path, change, message):
    folder = copied(model_folder, tmp_path)
    (tmp_path / "secret").write_text("")
    edit(folder, change)
    with pytest.raises(UserError, match=message):
        ExportedModel(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("local_tokens", 166, "local_tokens of 166, expected 0 to 165"),
        ("global_tokens", -1, "global_tokens of -1, expected"),
        ("au_probabilities", 1.5, "au_probabilities of 1.5"),
        ("au_probabilities", -0.5, "au_probabilities of -0.5"),
        ("local_scores", 0.5, "local_scores of 0.5"),
    ],
)
def test_results_out_of_range_are_no_answers(model, faces, monkeypatch, name, value, message):
    program = model._compiled()

    def wrong(weights, faces):
        found = {k: np.array(v) for k, v in program(weights, faces).items()}
        found[name].flat[0] = value
        return found

    monkeypatch.setitem(model._programs, (), wrong)
    with pytest.raises(RunError, match=f"the model gives {re.escape(message)}"):
        model.describe(faces[:1])


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
            ExportedModel(folder, str(file))
        assert "\n" not in str(error.value)
    moved = mine.rename(tmp_path / "renamed.onnx")
    assert ExportedModel(folder, str(moved)).crop_rule.file == str(moved)


def test_a_folder_without_the_model_options_of_later_versions_loads(model_folder, tmp_path):
    folder = copied(model_folder, tmp_path)

    def older(config):
        config["model"] = {k: v for k, v in config["model"].items() if k not in LATER}
        assert len(config["model"]) > 10
        del config["captions"], config["beams"]

    edit(folder, older)
    assert ExportedModel(folder).outputs == ExportedModel(model_folder).outputs == tuple(OUTPUTS)


def test_the_folder_of_a_training_run_is_refused(workdir):
    with pytest.raises(UserError, match=rf"export --workdir={re.escape(str(workdir))} --out=") as e:
        ExportedModel(workdir)
    assert "\n" not in str(e.value) and "training run's folder" in str(e.value)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json"):
        ExportedModel(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not a model's config"):
        ExportedModel(tmp_path)


def test_devices_share_the_faces_of_a_run(model_folder, rng):
    """To the bit what one device gives for as many faces as each of them has."""
    count = len(jax.local_devices())
    faces = rng.integers(0, 256, (2 * count, 32, 32, 3), np.uint8)
    alone = ExportedModel(model_folder, batch_size=1)
    together = ExportedModel(model_folder, batch_size=count)
    assert count > 1 and len(alone.devices) == 1 and together.devices == jax.local_devices()
    for one, other in zip(alone.describe(faces), together.describe(faces), strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert (one.sentence, one.sentences) == (other.sentence, other.sentences)
        assert np.array_equal(one.sentence_probabilities, other.sentence_probabilities)
    outputs = jax.tree.leaves(together._compiled()(together._weights, faces[:count]))
    assert all(len(array.sharding.device_set) == count for array in outputs)
    assert len(ExportedModel(model_folder, batch_size=count + 1).devices) == 1


def test_one_path_is_no_list_of_pictures(model_folder):
    with pytest.raises(ValueError, match=r"is one path; give a list of pictures"):
        ExportedModel(model_folder).predict("face.jpg")
