import dataclasses
import errno
import hashlib
import json
import re
import shutil

import jax
import numpy as np
import pytest
from jax import export as jax_export
from safetensors.numpy import load_file

import vlfau_jax.inference.export as exporting
from vlfau_jax.data.text.vocabulary import PAD
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.files import replaced_folder
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.model_card import model_card
from vlfau_jax.inference.outputs import OUTPUTS
from vlfau_jax.inference.trained import load_trained


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def outputs(model_folder, images):
    """What the folder gives with no library but jax and safetensors."""
    weights = load_file(model_folder / "model.safetensors")
    program = jax_export.deserialize(bytearray((model_folder / "model.stablehlo").read_bytes()))
    return jax.device_get(jax.jit(program.call)(weights, images))


def test_the_folder_is_self_contained(model_folder):
    names = {path.name for path in model_folder.iterdir()}
    wanted = {"config.json", "model.safetensors", "model.stablehlo", "tokenizer.json", "README.md"}
    assert wanted <= names
    config = json.loads((model_folder / "config.json").read_text())
    assert [unit["number"] for unit in config["aus"]] == list(BP4D_AUS)
    assert {unit["threshold"] for unit in config["aus"]} == {0.5}
    assert config["crop_rule"]["name"] == "cascade" and config["crop_rule"]["size"] == 64
    assert config["image_size"] == 32
    assert config["synthetic"] is True
    assert config["trained_on"]["subjects"] == ["F001", "M002"]
    assert config["trained_on"]["checkpoint"] == "last"
    assert set(config["program"]["outputs"]) == set(OUTPUTS)
    assert set(config["files_sha256"]) == names - {"config.json"}
    for name, digest in config["files_sha256"].items():
        assert hashlib.sha256((model_folder / name).read_bytes()).hexdigest() == digest
    assert "synthetic" in (model_folder / "README.md").read_text()


def test_units_nobody_taught_are_in_config_and_card(workdir):
    trained = dataclasses.replace(load_trained(workdir), untaught={12: "never active"})
    assert exporting._config(trained)["trained_on"]["untaught"] == {"12": "never active"}
    assert "**Not learned**, for want of training labels" in model_card(trained)
    assert "AU12 (never active)." in model_card(trained)
    taught = dataclasses.replace(trained, untaught={})
    assert "Not learned" not in model_card(taught)


def test_the_card_says_rendered_alone_only_of_rendered_faces_alone(workdir):
    trained = load_trained(workdir)
    assert "synthetic (rendered) faces alone.**" in model_card(trained)
    mixed = dataclasses.replace(
        trained, data=dataclasses.replace(trained.data, name="bp4d+disfa", mixture_weights=())
    )
    record = {
        "fold": 1,
        "step": 7,
        "checkpoint": "last",
        "config_digest": "0",
        "params_digest": "1",
    }
    runs = tuple(record | {"dataset": "bp4d", "synthetic": rendered} for rendered in (True, False))
    for some in (mixed, dataclasses.replace(trained, averaged=runs)):
        card = model_card(some)
        assert "synthetic (rendered) faces, among others.**" in card and "faces alone" not in card


def test_the_card_asks_for_the_file_that_the_crop_rule_reads(workdir, model_folder):
    trained = load_trained(workdir)
    cards = {
        name: model_card(dataclasses.replace(trained, crop_rule={"name": name}))
        for name in ("cascade", "yunet")
    }
    assert cards["cascade"] == (model_folder / "README.md").read_text()
    assert "--out=DIR --crop_file=FILE\n" in cards["yunet"]


def test_the_files_give_the_live_models_outputs(workdir, images, outputs):
    trained = load_trained(workdir)
    live = jax.jit(trained.describe)
    expected = jax.device_get(live(trained.params, images))
    assert set(outputs) == set(OUTPUTS)
    assert outputs["au_probabilities"].shape == (5, 12)
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, atol=1e-5, err_msg=name)


def test_attention_is_a_distribution_over_places_until_the_sentence_ends(outputs):
    total = outputs["local_attention"].sum((-1, -2))
    words = outputs["local_tokens"] != PAD
    np.testing.assert_allclose(total[words], 1, atol=1e-5)
    assert np.isclose(total, 0, atol=1e-5)[np.cumsum(~words, -1) > 1].all()


def test_a_model_without_sentences_and_maps_exports_its_probabilities(silent_folder, images):
    config = json.loads((silent_folder / "config.json").read_text())
    weights = load_file(silent_folder / "model.safetensors")
    program = jax_export.deserialize(bytearray((silent_folder / "model.stablehlo").read_bytes()))
    found = jax.jit(program.call)(weights, images)
    assert set(found) == set(config["program"]["outputs"]) == {"au_probabilities"}
    assert config["captions"] == []
    assert not [name for name in weights if "captioner" in name or "spatial" in name]
    card = (silent_folder / "README.md").read_text()
    assert not {"sentence", "maps", "tokens", "transformers"} & set(re.findall(r"\w+", card))
    assert "the probability of each of 12 facial action units" in card


@pytest.mark.slow
def test_beams_are_in_the_program_and_stated_in_config_and_card(
    half_workdir, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(exporting, "_compare", lambda *_: None)  # compared below, and slow
    folder = exporting.export(half_workdir, tmp_path / "model", beams=3)
    config = json.loads((folder / "config.json").read_text())
    assert (config["beams"], config["captions"]) == (3, ["global"])
    assert "spatial_maps" in config["program"]["outputs"]
    card = (folder / "README.md").read_text()
    assert "the whole face (the best of a search with 3 beams)" in card
    assert "about each" not in card and '"global_tokens"' in card
    program = jax_export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    found = jax.jit(program.call)(load_file(folder / "model.safetensors"), images)
    trained = load_trained(half_workdir)
    greedy, searched = (
        jax.jit(load_trained(half_workdir, k).describe)(trained.params, images)["global_tokens"]
        for k in (1, 3)
    )
    np.testing.assert_array_equal(found["global_tokens"], searched)
    assert np.any(np.asarray(greedy) != searched)


def test_too_many_beams_leave_nothing(workdir, tmp_path):
    with pytest.raises(UserError, match="--beams=17: give 1"):
        exporting.export(workdir, tmp_path / "model", beams=17)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(workdir, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match="--overwrite"):
        exporting.export(workdir, tmp_path)
    with pytest.raises(UserError, match=r"holds mine\.txt, which is not ours"):
        exporting.export(workdir, tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def quick(monkeypatch):
    """Exports then write what the folder had; what is tested is how it gets its place."""
    monkeypatch.setattr(exporting, "load_trained", lambda *_: None)
    monkeypatch.setattr(exporting, "_compare", lambda *_: None)


def write_copy(source):
    def write(_, new):
        for path in source.iterdir():
            shutil.copy(path, new)

    return write


def test_an_older_model_is_replaced_only_when_asked_and_leaves_nothing(
    model_folder, workdir, tmp_path, monkeypatch
):
    quick(monkeypatch)
    monkeypatch.setattr(exporting, "_write", write_copy(model_folder))
    out = shutil.copytree(model_folder, tmp_path / "model")
    (out / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="--overwrite"):
        exporting.export(workdir, out)
    assert (out / "model.safetensors").read_bytes() == b"damaged"
    exporting.export(workdir, out, overwrite=True)
    assert ExportedModel(out).aus == BP4D_AUS
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def run_itself(folder, _):
    return folder


def foreign_file(folder, model_folder):
    shutil.copytree(model_folder, folder / "model")
    (folder / "model" / "notes.txt").write_text("mine")
    return folder / "model"


def foreign_link(folder, model_folder):
    shutil.copytree(model_folder, folder / "model")
    (folder / "model" / "model.safetensors").unlink()
    (folder / "model" / "model.safetensors").symlink_to(model_folder / "model.safetensors")
    return folder / "model"


def foreign_folder(folder, model_folder):
    shutil.copytree(model_folder, folder / "model")
    (folder / "model" / "tokenizer.json").unlink()
    (folder / "model" / "tokenizer.json").mkdir()
    return folder / "model"


def other_model(folder, _):
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"model_type": "swin"}')
    return folder / "model"


def other_list(folder, _):
    """A config that lists what an attacker wants to be removed."""
    (folder / "model").mkdir()
    config = {"format": "vlfau_jax.model", "files_sha256": {"checkpoints": "0", "..": "0"}}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    (folder / "model" / "checkpoints").mkdir()
    return folder / "model"


def edited_card(folder, model_folder):
    shutil.copytree(model_folder, folder / "model")
    with (folder / "model" / "README.md").open("a") as file:
        file.write("my own words")
    return folder / "model"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (run_itself, "checkpoints"),
        (lambda folder, _: folder.parent, "run"),
        (lambda folder, _: linked(folder), "checkpoints"),
        (foreign_file, "notes.txt"),
        (foreign_link, "model.safetensors"),
        (foreign_folder, "tokenizer.json"),
        (other_model, "config.json"),
        (other_list, "checkpoints"),
        (edited_card, r"README\.md, edited"),
    ],
)
def test_overwriting_removes_nothing_but_what_an_export_wrote(
    workdir, model_folder, tmp_path, make, named
):
    run = shutil.copytree(workdir, tmp_path / "run")
    out = make(run, model_folder)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=rf"holds {named}"):
        exporting.export(run, out, overwrite=True)
    assert contents(tmp_path) == before


def linked(folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    return link


def contents(folder):
    return {
        path: path.read_bytes() if path.is_file() else path.is_symlink()
        for path in sorted(folder.rglob("*"))
    }


def test_a_model_may_lie_in_its_run_but_not_among_the_checkpoints(workdir, tmp_path, monkeypatch):
    run = shutil.copytree(workdir, tmp_path / "run")
    for out in (run / "checkpoints", run / "checkpoints" / "model"):
        with pytest.raises(UserError, match="among the run's checkpoints"):
            exporting.export(run, out)
    assert contents(run).keys() == {run / p.relative_to(workdir) for p in contents(workdir)}


def test_what_a_killed_export_left_is_swept_and_a_living_one_is_waited_for(
    model_folder, workdir, tmp_path, monkeypatch
):
    quick(monkeypatch)
    monkeypatch.setattr(exporting, "_write", write_copy(model_folder))
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "model.safetensors").write_bytes(b"half")
    shutil.copytree(model_folder, tmp_path / ".model.replaced")  # killed between the two renames
    with pytest.raises(UserError, match="not empty; give --overwrite"):
        exporting.export(workdir, tmp_path / "model")
    exporting.export(workdir, tmp_path / "model", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with (
        replaced_folder(tmp_path / "model", lambda _: None),
        pytest.raises(UserError, match="is being written by another process"),
    ):
        exporting.export(workdir, tmp_path / "model", overwrite=True)
    assert contents(tmp_path) == {tmp_path / "model": False}  # the other one's, empty


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    model_folder, workdir, tmp_path, monkeypatch
):
    def full(_, new):
        (new / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    quick(monkeypatch)
    monkeypatch.setattr(exporting, "_write", full)
    out = shutil.copytree(model_folder, tmp_path / "model")
    before = contents(tmp_path)
    with pytest.raises(RunError, match="No space left on device; nothing was exported, and"):
        exporting.export(workdir, out, overwrite=True)
    assert contents(tmp_path) == before
    with pytest.raises(RunError, match="No space left"):
        exporting.export(workdir, tmp_path / "new" / "model")
    assert contents(tmp_path) == before


def test_a_file_where_the_folder_should_be_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a folder"):
        exporting.export(tmp_path / "nowhere", tmp_path / "file" / "model")


def test_no_checkpoint_no_folder(tmp_path):
    with pytest.raises(UserError, match="missing"):
        exporting.export(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_with_other_outputs_is_not_left_behind(workdir, tmp_path, monkeypatch):
    def altered(path):
        weights = load_file(path)
        return {**weights, "classifier/bias": weights["classifier/bias"] + np.float32(0.01)}

    monkeypatch.setattr(exporting, "load_file", altered)
    with pytest.raises(RunError, match="au_probabilities"):
        exporting.export(workdir, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_words_of_another_version_are_refused(workdir, monkeypatch):
    import vlfau_jax.inference.trained as trained

    vocabulary = dataclasses.make_dataclass("Other", [("words", tuple), ("size", int)])
    monkeypatch.setattr(trained.Vocabulary, "build", lambda *_: vocabulary(("<pad>", "x"), 2))
    with pytest.raises(UserError, match="not the 2 of this version"):
        load_trained(workdir)
