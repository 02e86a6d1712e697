"""`export --format --weights`: what is in the folder, comparisons that fail, and refusals."""

import importlib.util
import json
import re

import numpy as np
import pytest
from huggingface_hub import ModelCard
from transformers import ViTImageProcessor

import vlfau_jax.inference.export as exporting
from vlfau_jax.cli.main import main
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.inference import formats
from vlfau_jax.inference.checked_faces import Loss
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.model.vlfau import normalise

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


@pytest.fixture(scope="module")
def folder(workdir, tmp_path_factory):
    """Both formats (without onnx: one) and int8 weights, by the verb."""
    out = tmp_path_factory.mktemp("formats") / "model"
    wanted = "pytorch,onnx" if HAS_ONNX else "pytorch"
    options = (f"--workdir={workdir}", f"--out={out}", f"--format={wanted}", "--weights=int8")
    assert main(["export", *options]) == 0
    return out


def test_the_folder_says_what_it_has(folder):
    config = json.loads((folder / "config.json").read_text())
    names = {path.name for path in folder.iterdir()}
    files = {"model.py", "preprocessor_config.json"} | ({"model.onnx"} if HAS_ONNX else set())
    assert files <= names == config["files_sha256"].keys() | {"config.json"}
    assert {one["file"] for one in config["formats"].values()} == files - {
        "preprocessor_config.json"
    }
    assert config["weights"]["dtype"] == "int8"
    loss = Loss(**config["weights"]["loss"])
    assert "rendered (synthetic) faces of the people" in loss.faces
    faces = int(loss.faces.split()[0])
    assert (loss.decisions, loss.sentences) == (12 * faces, 13 * faces)
    assert 0 < loss.largest_probability_change < 0.2
    assert str(loss) in (folder / "README.md").read_text()
    assert not (folder / "__pycache__").exists()


def test_the_hub_reads_the_card(folder):
    text = (folder / "README.md").read_text()
    data = ModelCard(text).data.to_dict()
    assert data["library_name"] == "vlfau_jax" and "synthetic" in data["tags"]
    assert "pytorch" in data["tags"]
    for heading in ("## Use", "## Weights", "## Limits, intended use and misuse"):
        assert heading in text
    assert "--- \n" not in text and not re.search(r"\n{4,}", text)


def test_int8_weights_are_run_by_vlfau_jax_too(folder, model_folder, workdir):
    faces = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found, whole = (
        ExportedModel(one, batch_size=2).describe(faces) for one in (folder, model_folder)
    )
    for a, b in zip(found, whole, strict=True):
        assert 0 < np.abs(a.probabilities - b.probabilities).max() < 0.1
    size = (folder / "model.safetensors").stat().st_size
    assert size < 0.75 * (model_folder / "model.safetensors").stat().st_size


def test_the_preprocessor_is_the_networks_own(folder):
    face = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    processor = ViTImageProcessor.from_pretrained(folder)
    found = processor(face, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), normalise(face[None]), atol=1e-5)


@pytest.mark.parametrize("name", ["stablehlo", "pytorch", "onnx"])
def test_each_format_runs_in_a_process_without_the_others(folder, workdir, name):
    if name == "onnx" and not HAS_ONNX:
        pytest.skip("onnx is not installed")
    faces = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = formats.run_elsewhere(name, folder, faces)
    expected = ExportedModel(folder, batch_size=2).describe(faces)
    for given, one in zip(found["au_probabilities"], expected, strict=True):
        np.testing.assert_allclose(given, one.probabilities, atol=1e-5)


def test_a_format_that_differs_leaves_nothing(workdir, tmp_path, monkeypatch):
    code = formats.write_format

    def altered(name, trained, weights, folder):
        record = code(name, trained, weights, folder)
        text = (folder / "model.py").read_text()
        (folder / "model.py").write_text(text.replace("torch.tanh(g)", "torch.sigmoid(g)"))
        return record

    monkeypatch.setattr(exporting, "write_format", altered)
    with pytest.raises(RunError, match=r"exported pytorch's .*differ.*nothing was exported"):
        exporting.export(workdir, tmp_path / "out", formats="pytorch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": "onx"}, "--format=onx: 'onx' is none; give some of stablehlo, onnx, pytorch"),
        ({"formats": "pytorch", "beams": 2}, "pytorch searches greedily; leave --beams out"),
        ({"weights": "int4"}, "--weights=int4: give float32, bfloat16, int8"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        exporting.export(tmp_path / "nowhere", tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_format_whose_package_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx, .*: pip install 'vlfau_jax\[onnx\]'"):
        formats.wanted_formats("onnx,stablehlo")


def test_only_words_that_are_as_likely_are_a_tie(workdir, monkeypatch):
    trained = exporting.load_trained(workdir)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = formats.live_arrays(trained, images)
    for kind, place in (("local", (1, 3)), ("global", (1,))):
        other = expected[f"{kind}_tokens"].copy()
        other[(*place, 1)] = 4 if other[(*place, 1)] != 4 else 5
        given = (kind, place, other, expected, trained, images)
        monkeypatch.setattr(formats, "_TIE", 1e-6)
        assert not formats._is_tie(*given)
        monkeypatch.setattr(formats, "_TIE", 100.0)
        assert formats._is_tie(*given)


def arrays(*words, score=-1.0):
    tokens = np.array([words], np.int32)
    return {
        "au_probabilities": np.full((1, 2), 0.5, np.float32),
        "global_tokens": tokens,
        "global_scores": np.array([score], np.float32),
    }


def test_an_onnx_file_beyond_protobufs_limit_is_refused(workdir, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(formats, "_MOST_ONNX", 1)
    with pytest.raises(UserError, match=r"--format=onnx: an ONNX file holds 2 GB.*--weights=bfl"):
        exporting.export(workdir, tmp_path / "out", formats="onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_counts_as_the_same(monkeypatch):
    images = np.zeros((1, 4, 4, 3), np.uint8)
    expected = arrays(5, 6, 2)
    formats.compare("x", arrays(5, 6, 2, score=-1.000005), expected, None, images)
    for found in (
        arrays(5, 6, 2, score=-1.1),
        arrays(5, 6, 2) | {"au_probabilities": np.full((1, 2), np.nan, np.float32)},
        arrays(5, 6, 2) | {"au_probabilities": np.full((1, 2), 0.50002, np.float32)},
        {"au_probabilities": expected["au_probabilities"]},
        arrays(5, 6, 7, 2),
    ):
        with pytest.raises(RunError, match="nothing was exported"):
            formats.compare("x", found, expected, None, images)
    maps = [{"spatial_maps": np.full((1, 1, 1, 1), x, np.float32)} for x in (0.5, 0.50005)]
    formats.compare("x", maps[1], maps[0], None, images, formats.MAP_TOLERANCE)
    with pytest.raises(RunError, match="spatial_maps differ"):
        formats.compare("x", maps[1], maps[0], None, images)
    monkeypatch.setattr(formats, "_is_tie", lambda *_: False)
    with pytest.raises(RunError, match="global_tokens differ"):
        formats.compare("x", arrays(5, 7, 2), expected, None, images)
    monkeypatch.setattr(formats, "_is_tie", lambda *_: True)
    formats.compare("x", arrays(5, 7, 2, score=-9.0), expected, None, images)
