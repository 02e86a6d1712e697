"""`import_backbone` of a Swin in transformers', timm's and Microsoft's names: the same network."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file
from safetensors.torch import save_file

from tests.model.test_swin_parity import on_disk, picture, reference, their_outputs
from vlfau_jax.errors import UserError
from vlfau_jax.model.swin import Swin
from vlfau_jax.train.huggingface import import_backbone

CONFIG = {"embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 4), "window_size": 3}
# Of transformers' names on disk -> Microsoft's, spelt out independently of `swin_names`.
RENAMED = (
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.norm", "patch_embed.norm"),
    ("encoder.layers", "layers"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.self.relative_position_bias_table", "attn.relative_position_bias_table"),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("layernorm.", "norm."),
)


def microsoft(model, classes=5):
    """The state of transformers' Swin as Microsoft's code and timm until 0.6 name and keep it."""
    state = {on_disk(name): value for name, value in model.state_dict().items()}
    state = {name: value for name, value in state.items() if "relative_position_index" not in name}
    found = {}
    for name, value in state.items():
        if match := re.search(r"attention\.self\.(query|key|value)\.(weight|bias)", name):
            if match[1] == "query":
                parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
                own = name[: match.start()] + f"attn.qkv.{match[2]}"
                found[own.replace("encoder.", "")] = torch.cat(parts)
            continue
        for theirs, own in RENAMED:
            name = name.replace(theirs, own)
        found[name] = value
    width = found["norm.weight"].shape[0]
    return found | {"head.weight": torch.ones(classes, width), "head.bias": torch.ones(classes)}


def buffers():
    return {
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(9, 9, dtype=torch.int64),
        "layers.1.blocks.1.attn_mask": torch.zeros(16, 9, 9),
    }


def timm(model):
    """As timm names it since 0.8: a merging begins the next stage."""
    found = {}
    for name, value in microsoft(model).items():
        name = re.sub(
            r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name
        )
        found[name.replace("head.", "head.fc.")] = value
    return found


@pytest.fixture(scope="module")
def model():
    return reference(0, image_size=96, **CONFIG)


def test_the_renaming_here_is_timms(model):
    """The list is that of timm 1.0.31's swin_tiny_patch4_window7_224 at these sizes."""
    lines = Path(__file__).with_name("timm_names.txt").read_text().splitlines()
    assert {f"{name} {tuple(value.shape)}" for name, value in timm(model).items()} == {*lines}


@pytest.mark.parametrize(
    ("state", "dtype", "ignored"),
    [
        (
            lambda model: microsoft(model, 21841) | buffers(),
            torch.float32,
            {"classifier", "buffer"},
        ),
        (
            lambda model: {f"model.{name}": x for name, x in microsoft(model).items()},
            torch.float16,
            {"classifier"},
        ),
        (timm, torch.bfloat16, {"classifier"}),
        (
            lambda model: {k: x for k, x in timm(model).items() if "head" not in k},
            torch.float32,
            set(),
        ),
    ],
    ids=["microsoft", "prefixed", "timm", "headless"],
)
def test_the_same_network_whatever_its_names(model, tmp_path, capsys, state, dtype, ignored):
    file, out = tmp_path / "swin.safetensors", tmp_path / "ours.safetensors"
    tensors = state(model)
    halves = {k: x.to(dtype) if x.is_floating_point() else x for k, x in tensors.items()}
    save_file({k: x.contiguous() for k, x in halves.items()}, file)
    import_backbone(file, out)
    printed = capsys.readouterr().out
    assert {word for word in ("classifier", "buffer") if f"ignored the {word}" in printed} | {
        word for word in ("buffer",) if f"ignored {word}s" in printed
    } == ignored
    assert "'--config.model.depths=(1,2,1,1)'" in printed and "window=3" in printed
    image = picture(1, 2, 96, 96)
    params = unflatten_dict(load_file(out), sep="/")["backbone"]
    found = Swin(8, (1, 2, 1, 1), (1, 2, 2, 4), window=3).apply({"params": params}, image)
    expected = their_outputs(model, image)[-1].detach().numpy()
    tolerance = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-1}[dtype]
    assert np.abs(found[3] - expected).max() < tolerance * np.abs(expected).max()


def test_timms_own_normalisation_is_taken_along(model, tmp_path, capsys):
    folder = tmp_path / "timm"
    folder.mkdir()
    save_file({k: x.contiguous() for k, x in timm(model).items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(
        '{"architecture": "x", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}'
    )
    import_backbone(folder, tmp_path / "out")
    assert "config.json: its normalisation is taken along" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("layers.0.blocks.0.norm1.bias"), r"names of timm: .*norm1\.bias is miss"),
        (lambda s: s.pop("patch_embed.proj.weight"), r"proj\.weight is missing"),
        (lambda s: s.update(absolute_pos_embed=torch.ones(1)), "cannot be: absolute_pos_embed"),
        (
            lambda s: s.update({"layers.0.blocks.0.attn.logit_scale": torch.ones(1)}),
            "logit_scale is unknown",  # Swin V2
        ),
        (
            lambda s: s.update({"layers.1.blocks.0.attn.qkv.weight": torch.ones(16, 16)}),
            r"qkv\.weight is \(16, 16\), not \(48, 16\)$",
        ),
        (
            lambda s: s.update(
                {"layers.0.blocks.0.attn.relative_position_bias_table": torch.ones(1)}
            ),
            "sizes: .*position_bias_table is missing or of another shape$",
        ),
    ],
)
def test_faults_are_one_line(model, tmp_path, edit, message):
    tensors = {k: x.contiguous() for k, x in timm(model).items()}
    edit(tensors)
    save_file(tensors, tmp_path / "swin.safetensors")
    with pytest.raises(UserError, match=message) as error:
        import_backbone(tmp_path / "swin.safetensors", tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_the_line_that_converts_a_pickle_works(model, tmp_path):
    pickle, new = tmp_path / "swin_tiny.pth", tmp_path / "new.safetensors"
    torch.save({"model": microsoft(model) | buffers()}, pickle)
    with pytest.raises(UserError, match="is a pickle, which can run code") as error:
        import_backbone(pickle, tmp_path / "out")
    code = re.search(r'python -c "(.*)"; or', str(error.value))[1]
    exec(code.replace("NEW.safetensors", str(new)), {})
    import_backbone(new, tmp_path / "out")
    assert len(load_file(tmp_path / "out")) == len(microsoft(model)) - 2 + 2 * 2 * 5
