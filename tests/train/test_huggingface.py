"""What `import_backbone` accepts, refuses and writes.

model/test_swin_parity.py tests that the values are right.
"""

import json

import jax
import numpy as np
import pytest
import torch
from flax import linen as nn
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch
from transformers import SwinConfig, SwinForImageClassification

from vlfau_jax.__main__ import main
from vlfau_jax.data.read.batch import spec
from vlfau_jax.errors import UserError
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.swin import Swin, unstack_blocks
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.train.huggingface import import_backbone
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
        batch = spec(batch_size=1, image_size=image_size, units=2, local_length=4, global_length=4)
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
        ({"model_type": "swinv2"}, "model_type is 'swinv2', not 'swin'"),
        (
            {"hidden_act": "relu", "qkv_bias": False},
            "qkv_bias=False.*hidden_act='relu', not 'gelu'",
        ),
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings=True"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps"),
        ({"depths": [1, 2, 1]}, "stage4"),
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
    [("{", "is not JSON"), ("[]", "an object was expected"), (None, "cannot be")],
)
def test_a_configuration_that_cannot_be_read(source, out, text, message):
    path = source / "config.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=message):
        import_backbone(source, out)


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("../outside.safetensors", "not the name of a safetensors file here"),
        ("/outside.safetensors", "not the name of a safetensors file here"),
        ("pytorch_model.bin", "not the name of a safetensors file here"),
        (["a"], "not the name of a safetensors file here"),
        ("absent.safetensors", "cannot be read as safetensors"),
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
        with pytest.raises(UserError, match=rf"{name} is a pickle.*save_pretrained") as error:
            import_backbone(source, out)
        assert "\n" not in str(error.value)


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
