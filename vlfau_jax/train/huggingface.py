"""Import the Swin of a Hugging Face folder as parameters that training can start from."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import SwinConfig

from vlfau_jax.errors import UserError
from vlfau_jax.files import new_file
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.swin import NORM_EPSILON, Swin
from vlfau_jax.train.warm_start import save_warm_start

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"

# Our field of ModelOptions -> its name in Hugging Face's configuration, and what is fixed there.
_FIELDS = {
    "backbone_width": "embed_dim",
    "depths": "depths",
    "heads": "num_heads",
    "window": "window_size",
    "patch": "patch_size",
    "mlp_ratio": "mlp_ratio",
}
_FIXED = {
    "num_channels": 3,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "use_absolute_embeddings": False,
    "layer_norm_eps": NORM_EPSILON,
}

# Our module -> its name in Hugging Face's Swin files ({} stands for numbers), and leaf -> leaf.
_MODULES = {
    r"embedding/project": "embeddings.patch_embeddings.projection",
    r"embedding/norm": "embeddings.norm",
    r"stage(\d+)_block(\d+)/norm_attention": "encoder.layers.{}.blocks.{}.layernorm_before",
    r"stage(\d+)_block(\d+)/attention/(query|key|value)": (
        "encoder.layers.{}.blocks.{}.attention.self.{}"
    ),
    r"stage(\d+)_block(\d+)/attention/output": "encoder.layers.{}.blocks.{}.attention.output.dense",
    r"stage(\d+)_block(\d+)/attention": "encoder.layers.{}.blocks.{}.attention.self",
    r"stage(\d+)_block(\d+)/norm_mlp": "encoder.layers.{}.blocks.{}.layernorm_after",
    r"stage(\d+)_block(\d+)/mlp_in": "encoder.layers.{}.blocks.{}.intermediate.dense",
    r"stage(\d+)_block(\d+)/mlp_out": "encoder.layers.{}.blocks.{}.output.dense",
    r"merge(\d+)/norm": "encoder.layers.{}.downsample.norm",
    r"merge(\d+)/reduce": "encoder.layers.{}.downsample.reduction",
    r"norm": "layernorm",
}
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "relative_position_bias": "relative_position_bias_table",
}


def import_backbone(source: str | Path, out: str | Path) -> None:
    """Writes the Swin of a Hugging Face folder for `model.backbone_weights`, as float32.

    Args:
        source: a folder with config.json and model.safetensors, or shards and their index.
        out: the safetensors file to create; its tensors are named "backbone/...".

    Raises:
        UserError: `out` exists; the folder holds no Swin, or one that `model.swin` cannot be; or
            tensors are missing, unknown or of another shape, which it lists.
    """
    out, source = new_file("--out", out), Path(source)
    files = _tensor_files(source)
    config = _swin_config(source / CONFIG)
    params, ignored = _read_backbone(files, config, source)
    fields = {name: str(value).replace(" ", "") for name, value in _fields(config).items()}
    metadata = {"source": source.resolve().name, **fields}
    save_warm_start({"backbone": params}, out, metadata, "float32")
    for group, names in ignored.items():
        print(f"ignored {group}: {', '.join(names)}")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; it fits a model of these values:")
    print(shlex.join(f"--config.model.{name}={value}" for name, value in fields.items()))


def backbone(config: SwinConfig) -> Swin:
    """The network that a Hugging Face configuration describes."""
    fields = _fields(config)
    return Swin(fields.pop("backbone_width"), **fields)


def _fields(config: SwinConfig) -> dict[str, Any]:
    found = {ours: getattr(config, theirs) for ours, theirs in _FIELDS.items()}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}


def hugging_face_name(name: str) -> str:
    """The on-disk name of one of our parameters, "stage0_block1/attention/query/kernel"."""
    module, _, leaf = name.rpartition("/")
    for pattern, theirs in _MODULES.items():
        if match := re.fullmatch(pattern, module):
            groups = list(match.groups())
            if module.startswith("merge"):  # theirs belongs to the stage before
                groups[0] = str(int(groups[0]) - 1)
            return f"{theirs.format(*groups)}.{_LEAVES[leaf]}"
    raise ValueError(f"{name} has no counterpart in Hugging Face's Swin")


def _to_theirs(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of our tensor in PyTorch's order of axes, which puts outputs first."""
    if not name.endswith("kernel"):
        return shape
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _to_ours(name: str, value: np.ndarray) -> np.ndarray:
    if not name.endswith("kernel"):
        return value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: an object was expected, not {type(content).__name__}")
    return content


def _swin_config(path: Path) -> SwinConfig:
    """config.json, or UserError listing all that our Swin does differently."""
    content = _read_json(path)
    if content.get("model_type") != "swin":
        raise UserError(f"{path}: model_type is {content.get('model_type')!r}, not 'swin'")
    try:
        config = SwinConfig.from_dict(content)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    faults = [
        f"{key}={getattr(config, key)!r}, not {value!r}"
        for key, value in _FIXED.items()
        if getattr(config, key) != value
    ]
    if not isinstance(config.patch_size, int):
        faults.append(f"patch_size={config.patch_size}, not one number")
    if faults:
        raise UserError(f"{path} describes a Swin that this one cannot be: {'; '.join(faults)}")
    try:
        ModelOptions(**_fields(config))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config


def _tensor_files(source: Path) -> dict[str, Path]:
    """The file that holds each tensor of a folder, by the tensor's on-disk name."""
    if (source / WEIGHTS).is_file():
        return dict.fromkeys(_tensor_names(source / WEIGHTS), source / WEIGHTS)
    if (source / INDEX).is_file():
        return _sharded(source / INDEX)
    pickles = [source] if source.is_file() else sorted(source.glob("*"))
    pickles = [path for path in pickles if path.suffix in (".bin", ".pth", ".pt", ".ckpt")]
    if pickles:
        raise UserError(
            f"{pickles[0]} is a pickle, which can run code, and is not read; convert it where you "
            f"trust it (with torch): transformers.SwinModel.from_pretrained({str(source)!r})"
            ".save_pretrained('NEW_FOLDER')"
        )
    raise UserError(
        f"--source={source} is no folder with {WEIGHTS} or {INDEX}; a model of the Hugging Face "
        "Hub is downloaded first: hf download NAME --local-dir FOLDER"
    )


def _sharded(index: Path) -> dict[str, Path]:
    shards = _read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise UserError(f"{index}: weight_map is missing")
    for shard in shards.values():
        # A bare name cannot leave the folder.
        if not isinstance(shard, str) or not re.fullmatch(r"[\w.-]+\.safetensors", shard):
            raise UserError(f"{index}: shard {shard!r} is not the name of a safetensors file here")
    held = {shard: set(_tensor_names(index.parent / shard)) for shard in set(shards.values())}
    absent = sorted(name for name, shard in shards.items() if name not in held[shard])
    if absent:
        raise UserError(f"{index}: not in the shards that it names: {', '.join(absent)}")
    return {name: index.parent / shard for name, shard in shards.items()}


def _tensor_names(path: Path) -> list[str]:
    try:
        with safe_open(path, "flax") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from error


def _read_backbone(
    files: Mapping[str, Path], config: SwinConfig, source: Path
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Our parameters, float32, and the names of the tensors that were ignored, by group."""
    prefix = "swin." if any(name.startswith("swin.") for name in files) else ""
    ignored = {
        "the classifier": [name for name in files if name.startswith("classifier.")],
        "buffers that follow from the window": [
            name for name in files if name.endswith(".relative_position_index")
        ],
    }
    left = files.keys() - {name for names in ignored.values() for name in names}
    wanted = {
        name: (prefix + hugging_face_name(name), _to_theirs(name, shape))
        for name, shape in _shapes(config).items()
    }
    theirs = {their_name for their_name, _ in wanted.values()}
    faults = [f"{name} is missing" for name in sorted(theirs - left)]
    faults += [f"{name} is unknown" for name in sorted(left - theirs)]
    params = {}
    for name, (their_name, shape) in wanted.items():
        if their_name not in left:
            continue
        with safe_open(files[their_name], "flax") as file:  # NumPy's reader has no bfloat16
            found = tuple(file.get_slice(their_name).get_shape())
            if found != shape:
                faults.append(f"{their_name} is {found}, not {shape}")
            else:
                value = np.asarray(file.get_tensor(their_name), np.float32)
                params[name] = np.ascontiguousarray(_to_ours(name, value))
                if not np.isfinite(value).all():
                    faults.append(f"{their_name} is not finite")
    if faults:
        raise UserError(f"--source={source} does not fit its {CONFIG}: {'; '.join(faults)}")
    return unflatten_dict(params, sep="/"), {
        group: names for group, names in ignored.items() if names
    }


def _shapes(config: SwinConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of our parameters of the network, traced without computing values."""
    # At this size the last map is one full window, so that no stage's table is cut down.
    size = config.patch_size * config.window_size * 8
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    tree = jax.eval_shape(backbone(config).init, jax.random.key(0), image)["params"]
    return {name: leaf.shape for name, leaf in flatten_dict(nn.meta.unbox(tree), sep="/").items()}
