"""What `import_backbone` accepts, refuses and writes.

model/test_swin_parity.py tests that the values are right.
"""

import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch
from transformers import SwinConfig, SwinForImageClassification

from vlfau_jax.cli.main import main
from vlfau_jax.data.read.batch import spec
from vlfau_jax.errors import UserError, line
from vlfau_jax.model.layouts import unstack_blocks
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.swin import Swin
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD, VLFAU
from vlfau_jax.train.huggingface import Preprocessing, import_backbone
from vlfau_jax.train.state import abstract_params
from vlfau_jax.train.warm_start import load_warm_start

CONFIG = {
    "embed_dim": 4,
    "depths": (1, 4, 1, 1),
    "num_heads": (1, 2, 2, 4),
    "window_size": 3,
    "image_size": 96,
}
QUERY = "swin.encoder.layers.1.blocks.1.attention.self.query.weight"


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return SwinForImageClassification(SwinConfig(**CONFIG, num_labels=5))


@pytest.fixture
def source(classifier, tmp_path):
    classifier.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "backbone.safetensors"


def change(source, edit):
    change_file(source / "model.safetensors", edit)


def change_file(path, edit):
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def test_the_verb_prints_what_it_ignored_and_what_it_wrote(source, out, capsys):
    assert main(["import_backbone", f"--source={source}", f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "ignored the classifier: classifier.bias, classifier.weight\n" in printed
    assert "--config.model.backbone_width=4 '--config.model.depths=(1,4,1,1)'" in printed
    assert "buffers" not in printed
    theirs, ours = load_file(source / "model.safetensors"), load_file(out)
    assert len(ours) == len(theirs) - 2
    assert all(name.startswith("backbone/") for name in ours)
    np.testing.assert_array_equal(
        ours["backbone/stage1_block1/attention/query/kernel"], theirs[QUERY].T
    )
    with safe_open(out, "numpy") as file:
        assert file.metadata()["window"] == "3" and file.metadata()["source"] == "source"
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("scan", [False, True])
def test_the_file_fits_the_whole_network(source, out, capsys, scan):
    import_backbone(source, out)
    query = load_file(source / "model.safetensors")[QUERY].T
    options = ModelOptions(
        backbone_width=4, depths=(1, 4, 1, 1), heads=(1, 2, 2, 4), window=3, scan_blocks=scan
    )
    for image_size, message in ((96, ""), (64, "interpolated, window 3 to 2 in 1 blocks")):
        batch = spec(
            batch_size=1, image_size=image_size, units=2, max_local_tokens=4, max_global_tokens=4
        )
        params = nn.meta.unbox(abstract_params(VLFAU(options, 2, 9), batch))
        capsys.readouterr()
        wanted = {"backbone": params["backbone"]}
        found = load_warm_start(out, wanted, "model.backbone_weights")
        assert message in capsys.readouterr().out
        assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: leaf.shape, wanted)
        block = unstack_blocks(found["backbone"])["stage1_block1"]
        np.testing.assert_array_equal(block["attention"]["query"]["kernel"], query)


def test_faults_of_a_file_for_a_scanned_backbone_are_named_as_the_file_names_them(source, out):
    import_backbone(source, out)
    change_file(out, lambda tensors: tensors.pop("backbone/stage1_block3/mlp_in/bias"))
    swin = Swin(4, (1, 4, 1, 1), (1, 2, 2, 4), window=3, scan_blocks=True)
    image = np.zeros((1, 96, 96, 3), np.float32)
    abstract = nn.meta.unbox(jax.eval_shape(swin.init, jax.random.key(0), image)["params"])
    with pytest.raises(
        UserError, match=r"parameters\): backbone/stage1_block3/mlp_in/bias is missing$"
    ):
        load_warm_start(out, {"backbone": abstract})


def variants(classifier, folder):
    """Saves the same Swin without prefix, in shards, in bfloat16, and as old code wrote it."""
    classifier.swin.save_pretrained(folder / "bare")
    classifier.save_pretrained(folder / "shards", max_shard_size="8KB")
    classifier.save_pretrained(folder / "half")
    classifier.save_pretrained(folder / "old")
    weights = load_torch(folder / "half" / "model.safetensors")
    halves = {name: value.to(torch.bfloat16) for name, value in weights.items()}
    save_torch(halves, folder / "half" / "model.safetensors")
    index = QUERY.replace("query.weight", "relative_position_index")
    change(folder / "old", lambda tensors: tensors.update({index: np.zeros((9, 9), np.int64)}))


@pytest.mark.parametrize(
    ("name", "tolerance", "ignores"),
    [
        ("bare", 0, ()),
        ("shards", 0, ("the classifier",)),
        ("half", 2**-8, ("the classifier",)),
        ("old", 0, ("the classifier", "buffers")),
    ],
)
def test_other_forms_of_the_same(classifier, source, out, capsys, name, tolerance, ignores):
    variants(classifier, source.parent)
    assert len(list((source.parent / "shards").glob("*.safetensors"))) > 2
    import_backbone(source, out)
    capsys.readouterr()
    import_backbone(source.parent / name, out.with_name("other"))
    printed = capsys.readouterr().out
    assert printed.count("ignored") == len(ignores)
    assert all(word in printed for word in ignores)
    expected, found = load_file(out), load_file(out.with_name("other"))
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[key], rtol=tolerance)


def test_all_faults_of_the_tensors_in_one_line(source, out):
    def edit(tensors):
        tensors["swin.surplus"] = tensors.pop("swin.layernorm.weight")
        tensors["swin.embeddings.mask_token"] = np.zeros((1, 1, 4), np.float32)
        tensors[QUERY] = tensors[QUERY][1:]
        tensors["swin.layernorm.bias"] = tensors["swin.layernorm.bias"] * np.float32(np.nan)

    change(source, edit)
    with pytest.raises(UserError) as error:
        import_backbone(source, out)
    message = str(error.value)
    assert "\n" not in message
    for fault in (
        "swin.layernorm.weight is missing",
        "swin.surplus is unknown",
        "swin.embeddings.mask_token is unknown",
        f"{QUERY} is (7, 8), not (8, 8)",
        "swin.layernorm.bias is not finite",
    ):
        assert fault in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "swinv2"}, "model_type is 'swinv2'; should be 'swin'"),
        (
            {"hidden_act": "relu", "qkv_bias": False},
            "qkv_bias=False.*hidden_act='relu', not 'gelu'",
        ),
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings=True"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps"),
        ({"depths": [1, 2, 1]}, r"model\.depths=\(1, 2, 1\): give 4 values"),
        ({"num_heads": [1, 2, 2]}, r"model\.heads=\(1, 2, 2\)"),
        ({"num_heads": [1, 2, 3, 4]}, r"model\.heads=\(1, 2, 3, 4\): 3 does not divide"),
        ({"window_size": 0}, r"model\.window=0"),
        ({"window_size": 4}, r"relative_position_bias_table is \(25, 1\), not \(49, 1\)"),
        ({"patch_size": [4, 4]}, "patch_size"),
        ({"embed_dim": "four"}, "embed_dim"),
        ({"depths": None}, "depths"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio"),
    ],
)
def test_a_configuration_that_is_no_such_swin(source, out, fields, message):
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(UserError, match=message) as error:
        import_backbone(source, out)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "holds a list of 0; should be"), (None, "cannot be")],
)
def test_a_configuration_that_cannot_be_read(source, out, text, message):
    path = source / "config.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=message):
        import_backbone(source, out)


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("../outside.safetensors", r"weight_map\.swin\..* should "),
        ("/outside.safetensors", r"weight_map\.swin\..* should "),
        ("pytorch_model.bin", r"weight_map\.swin\..* should "),
        (["a"], r"weight_map\.swin\..* should "),
        ("absent.safetensors", "absent.safetensors: cannot be read"),
        ("other.safetensors", f"not in the shards that it names: {QUERY}"),
    ],
)
def test_an_index_that_names_unusable_shards(source, out, shard, message):
    weights = source / "model.safetensors"
    for place in (source.parent / "outside.safetensors", source / "here.safetensors"):
        place.write_bytes(weights.read_bytes())
    save_file({"x": np.zeros(1)}, source / "other.safetensors")
    names = dict.fromkeys(load_file(weights), "here.safetensors") | {QUERY: shard}
    weights.unlink()
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(UserError, match=message):
        import_backbone(source, out)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "swin.pth"])
def test_pickles_are_not_opened(tmp_path, out, name):
    path = tmp_path / name
    path.write_bytes(b"not even a pickle")
    for source in (tmp_path, path):
        with pytest.raises(UserError, match=rf"{name} is a pickle.*hf download") as error:
            import_backbone(source, out)
        assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=rf"{name} is a pickle.*from_pretrained.*save_pretrained"):
        import_backbone(tmp_path, out)


def test_the_advice_for_a_pickle_works_when_followed(classifier, source, out):
    weights = load_torch(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save(weights, source / "pytorch_model.bin")
    with pytest.raises(UserError) as error:
        import_backbone(source, out)
    code = str(error.value).partition("(with torch): ")[2]
    assert code.startswith("transformers.SwinModel.from_pretrained(")
    code = code.replace("NEW_FOLDER", str(source.parent / "new"))
    eval(code, {"transformers": transformers})
    import_backbone(source.parent / "new", out)
    np.testing.assert_array_equal(
        load_file(out)["backbone/stage1_block1/attention/query/kernel"],
        weights[QUERY].numpy().T,
    )


def test_a_backbones_own_normalisation_is_taken_along(classifier, source, out, capsys):
    def picture_of(mean, std, pixels):
        return ((pixels / 255 - mean) / std).astype(np.float32)

    def first_layer(tensors, x):  # of a patch of 4 x 4 pixels
        layer = "backbone/embedding/project/"
        return np.einsum("hwc,hwco->o", x, tensors[layer + "kernel"]) + tensors[layer + "bias"]

    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3))
    import_backbone(source, out)
    assert "ImageNet's mean and deviation are assumed" in capsys.readouterr().out
    plain = load_file(out)
    own = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "more": {"auto_map": "x"}}
    (source / "preprocessor_config.json").write_text(json.dumps(own))
    import_backbone(source, out.with_name("own"))
    assert "its normalisation is taken along" in capsys.readouterr().out
    found = load_file(out.with_name("own"))
    theirs = picture_of(np.array([0.5, 0.4, 0.3]), np.array([0.5, 0.25, 0.2]), pixels)
    ours = picture_of(np.array(IMAGE_MEAN), np.array(IMAGE_STD), pixels)
    np.testing.assert_allclose(
        first_layer(found, ours), first_layer(plain, theirs), rtol=1e-4, atol=1e-5
    )
    changed = {name for name in plain if not np.array_equal(plain[name], found[name])}
    assert changed == {"backbone/embedding/project/kernel", "backbone/embedding/project/bias"}

    (source / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": IMAGE_MEAN, "image_std": IMAGE_STD, "rescale_factor": 1 / 255})
    )
    import_backbone(source, out.with_name("same"))
    assert "as this network does" in capsys.readouterr().out
    same = load_file(out.with_name("same"))
    assert not [name for name in plain if not np.array_equal(plain[name], same[name])]


@pytest.mark.parametrize(
    ("changes", "scale", "shift"),
    [
        ({"do_normalize": False}, [0.229, 0.224, 0.225], [0.485, 0.456, 0.406]),
        (
            {"do_normalize": False, "do_rescale": False},
            [58.395, 57.12, 57.375],
            [123.675, 116.28, 103.53],
        ),
    ],
)
def test_what_a_preprocessor_leaves_out(changes, scale, shift):
    found = Preprocessing(**changes).relative_to_ours()
    np.testing.assert_allclose(found, (scale, shift), rtol=1e-6)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"image_mean": [0.5]}, "image_mean is a list of 1; "),
        ({"image_std": [0.5, 0.0, 0.5]}, r"image_std\.1 is 0\.0; should be"),
        ({"image_mean": "imagenet"}, "image_mean is 'imagenet'; should be"),
        ({"rescale_factor": -1}, "rescale_factor is -1"),
        ([], "holds a list of 0; should be"),
    ],
)
def test_a_normalisation_that_is_none(source, out, own, message):
    (source / "preprocessor_config.json").write_text(json.dumps(own))
    with pytest.raises(UserError, match=f"preprocessor_config.json: {message}"):
        import_backbone(source, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("whose", "name"),
    [
        ("transformers in memory", "encoder.layers.0.blocks.0.attention.q_proj.weight"),
        ("torchvision", "features.7.0.attn.relative_position_bias_table"),
    ],
)
def test_another_naming_is_told_apart_in_one_line(source, out, whose, name):
    block = {"torchvision": "features.1.0", "transformers in memory": "encoder"}[whose]
    names = [f"{block}.attn.qkv.weight", name, *(f"{block}.n{k}" for k in range(300))]
    save_file(dict.fromkeys(names, np.zeros(1, np.float32)), source / "model.safetensors")
    with pytest.raises(UserError, match=f"named as by {whose}.*hf download") as error:
        import_backbone(source, out)
    assert len(str(error.value)) < 500
    with pytest.raises(UserError, match=r"model\.backbone_weights=.*named as by .*import_backbone"):
        load_warm_start(source / "model.safetensors", {}, "model.backbone_weights")


def test_lists_of_faults_are_cut_at_ten(source, out):
    change(source, lambda tensors: tensors.update({f"x{k:03}": np.zeros(1) for k in range(300)}))
    with pytest.raises(UserError, match=r"x000 is unknown; .* x009 is unknown and 290 more$"):
        import_backbone(source, out)


def a_fifo(path):
    os.mkfifo(path)


def a_sparse_file(path):
    with path.open("wb") as file:
        file.truncate(17 << 30)


def a_huge_header(path):
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize("make", [Path.mkdir, a_fifo, a_sparse_file, a_huge_header])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_special_and_huge_files_are_one_line(source, out, name, make):
    (source / name).unlink(missing_ok=True)
    make(source / name)
    with pytest.raises(UserError) as error:
        import_backbone(source, out)
    assert str(source / name) in str(error.value)
    if name == "model.safetensors":
        with pytest.raises(UserError, match=r"^model\.backbone_weights="):
            load_warm_start(source / name, {}, "model.backbone_weights")


NAMES = ("model.safetensors", "config.json", "preprocessor_config.json")


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NAMES), st.integers(0, 2999), st.none() | st.binary(max_size=4))
def test_a_cut_or_changed_file_never_ends_in_a_traceback(fuzzed, name, place, put):
    source, whole = fuzzed, fuzzed.with_name("whole")
    content = bytearray((whole / name).read_bytes())
    place %= len(content)  # most of what can go wrong is in the header and in JSON
    content[place : place + 1 if put else None] = put or b""
    (source / name).write_bytes(content)
    out = source.parent / "fuzzed.safetensors"
    out.unlink(missing_ok=True)
    try:
        import_backbone(source, out)
    except UserError as error:
        assert len(line(str(error))) <= 500
    finally:
        shutil.copy(whole / name, source / name)


@pytest.fixture(scope="module")
def fuzzed(classifier, tmp_path_factory):
    """A folder with all three files; beside it the same as "whole"."""
    whole = tmp_path_factory.mktemp("fuzz") / "whole"
    classifier.save_pretrained(whole)
    (whole / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3}))
    return shutil.copytree(whole, whole.with_name("source"))


def test_no_source_an_unreadable_source_and_no_overwriting(source, out, capsys):
    with pytest.raises(UserError, match=r"is no folder with model\.safetensors"):
        import_backbone(source.parent / "nowhere", out)
    out.parent.mkdir()
    out.write_text("mine")
    assert main(["import_backbone", f"--source={source}", f"--out={out}"]) == 2
    assert "exists" in capsys.readouterr().err and out.read_text() == "mine"
    (source / "model.safetensors").write_bytes(b"junk" * 10)
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        import_backbone(source, out.with_name("new"))
