"""Import a Swin that people have as parameters that training can start from.

Its tensors may have transformers' names, timm's (before 0.8 and since) or Microsoft's own.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from pydantic import Field

from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import new_file
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.swin import NORM_EPSILON, Swin
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD
from vlfau_jax.records import Record, parse_record, read_record
from vlfau_jax.train.swin_names import HUGGING_FACE, NAMINGS, TOLD_BY, Naming, configuration
from vlfau_jax.train.tensor_files import listed, naming, opened
from vlfau_jax.train.warm_start import save_warm_start

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PREPROCESSOR = "preprocessor_config.json"
PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".pickle")

# Where the published Swins are as safetensors.
_DOWNLOAD = (
    "Microsoft's published ones are there in that form: hf download "
    "microsoft/swin-base-patch4-window7-224 --local-dir FOLDER (or swin-tiny, -small, -large)"
)


class HuggingFaceSwin(Record, extra="ignore"):
    """config.json of a Hugging Face Swin: what we read of it, and the values when it is absent."""

    model_type: Literal["swin"]
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    patch_size: int = 4
    mlp_ratio: float = 4.0
    num_channels: int = 3
    qkv_bias: bool = True
    hidden_act: str = "gelu"
    use_absolute_embeddings: bool = False
    layer_norm_eps: float = 1e-5


_Channels = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]
_Deviation = Annotated[float, Field(ge=1e-3, le=1000)]


class Preprocessing(Record, extra="ignore"):
    """preprocessor_config.json: (pixel 0-255 * rescale_factor - image_mean) / image_std."""

    do_rescale: bool = True
    rescale_factor: Annotated[float, Field(gt=0, le=1)] = 1 / 255
    do_normalize: bool = True
    image_mean: _Channels = IMAGE_MEAN
    image_std: Annotated[tuple[_Deviation, ...], Field(min_length=3, max_length=3)] = IMAGE_STD

    def relative_to_ours(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift by channel, float64 [3]: theirs = our normalised picture * a + b."""
        factor = 255 * self.rescale_factor if self.do_rescale else 255.0
        mean = np.asarray(self.image_mean if self.do_normalize else (0.0,) * 3)
        std = np.asarray(self.image_std if self.do_normalize else (1.0,) * 3)
        return np.asarray(IMAGE_STD) * factor / std, (np.asarray(IMAGE_MEAN) * factor - mean) / std


class _TimmNormalisation(Record, extra="ignore"):
    """How a model of timm wants its pictures: (value 0-1 - mean) / std."""

    mean: _Channels = IMAGE_MEAN
    std: Annotated[tuple[_Deviation, ...], Field(min_length=3, max_length=3)] = IMAGE_STD


class _TimmConfig(Record, extra="ignore"):
    """config.json of a folder of timm: what we read of it."""

    pretrained_cfg: _TimmNormalisation | None = None


class _Index(Record, extra="ignore"):
    """model.safetensors.index.json: the file of each tensor, in the same folder."""

    weight_map: dict[str, Annotated[str, Field(pattern=r"^[\w.-]{1,200}\.safetensors$")]]


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

_CONVERT = (
    "python -c \"import torch, safetensors.torch as s; d = torch.load({!r}, 'cpu', "
    "weights_only=True); d = d.get('model', d); "
    "s.save_file({{k: v.clone() for k, v in d.items()}}, 'NEW.safetensors')\""
)


def import_backbone(source: str | Path, out: str | Path) -> None:
    """Writes a Swin's parameters for `model.backbone_weights`, as float32.

    Args:
        source: a folder with config.json and model.safetensors, or shards and their index; where
            the names are timm's or Microsoft's, a safetensors file alone, too.
        out: the safetensors file to create; its tensors are named "backbone/...".

    Raises:
        UserError: `out` exists; the folder holds no Swin, or one that `model.swin` cannot be, or
            one in another project's naming; or tensors are missing, unknown or of another shape,
            of which it lists ten.
    """
    out, source = new_file("--out", out), Path(source)
    files, names = _tensor_files(source)
    folder = source.parent if source.is_file() else source
    config = _swin_config(folder / CONFIG) if names is HUGGING_FACE else _from_shapes(files, names)
    params, ignored = _read_backbone(files, config, source, names)
    message = _take_normalisation_along(params, *_preprocessing(folder, names))
    fields = {name: str(value).replace(" ", "") for name, value in _fields(config).items()}
    metadata = {"source": source.resolve().name, **fields}
    save_warm_start({"backbone": params}, out, metadata, "float32")
    for group, names in ignored.items():
        print(f"ignored {group}: {listed(names, ', ')}")
    print(message)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; it fits a model of these values:")
    print(shlex.join(f"--config.model.{name}={value}" for name, value in fields.items()))


def backbone(config: HuggingFaceSwin) -> Swin:
    """The network that a Hugging Face configuration describes."""
    fields = _fields(config)
    return Swin(fields.pop("backbone_width"), **fields)


def _fields(config: HuggingFaceSwin) -> dict[str, Any]:
    found = {ours: getattr(config, theirs) for ours, theirs in _FIELDS.items()}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}


def hugging_face_name(name: str) -> str:
    """The on-disk name of one of our parameters, "stage0_block1/attention/query/kernel"."""
    return HUGGING_FACE.name(name)


def _to_theirs(name: str, shape: tuple[int, ...], parts: int = 1) -> tuple[int, ...]:
    """The shape of our tensor in PyTorch's order of axes, which puts outputs first.

    `parts` of our tensors are one of theirs.
    """
    if parts > 1:
        return (parts * shape[-1], *shape[:-1])
    if not name.endswith("kernel"):
        return shape
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _to_ours(name: str, value: np.ndarray) -> np.ndarray:
    if not name.endswith("kernel"):
        return value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _swin_config(path: Path) -> HuggingFaceSwin:
    """config.json, or UserError listing all that our Swin does differently."""
    return _checked(read_record(path, HuggingFaceSwin), path)


def _checked(config: HuggingFaceSwin, path: Path) -> HuggingFaceSwin:
    faults = [
        f"{key}={getattr(config, key)!r}, not {value!r}"
        for key, value in _FIXED.items()
        if getattr(config, key) != value
    ]
    if faults:
        raise FileError(path, f"describes a Swin that this one cannot be: {'; '.join(faults)}")
    try:
        ModelOptions(**_fields(config))
    except UserError as error:
        raise FileError(path, str(error)) from error
    return config


def _from_shapes(files: Mapping[str, Path], names: Naming) -> HuggingFaceSwin:
    """The Swin that the shapes of tensors describe, or UserError where they describe none."""
    shapes = {}
    prefix = names.prefix(files)
    for path in sorted(set(files.values())):
        with opened(path) as file:
            for name in file.keys():  # noqa: SIM118
                shapes[name.removeprefix(prefix)] = tuple(file.get_slice(name).get_shape())
    path = min(files.values())
    if "absolute_pos_embed" in shapes:
        raise FileError(path, "describes a Swin that this one cannot be: absolute_pos_embed")
    found = configuration(shapes)
    for field, tensor in TOLD_BY.items():
        if field not in found:
            raise FileError(path, f"tells no Swin's sizes: {tensor} is missing or of another shape")
    record = json.dumps({"model_type": "swin", **found})
    return _checked(parse_record(record, HuggingFaceSwin, path), path)


def _preprocessing(folder: Path, names: Naming) -> tuple[Preprocessing | None, str]:
    """How the model's own pictures are normalised, and in which file that is; None if unstated."""
    if (folder / PREPROCESSOR).exists():
        return read_record(folder / PREPROCESSOR, Preprocessing), PREPROCESSOR
    if names is not HUGGING_FACE and (folder / CONFIG).exists():
        own = read_record(folder / CONFIG, _TimmConfig).pretrained_cfg
        if own is not None:
            return Preprocessing(image_mean=own.mean, image_std=own.std), CONFIG
    return None, PREPROCESSOR


def _take_normalisation_along(
    params: dict[str, Any], theirs: Preprocessing | None, file: str
) -> str:
    """Makes the parameters take pictures as this network normalises them; returns what was done.

    Theirs are ours, scaled and shifted by channel, and the first layer is linear: a scale goes into
    its kernel, a shift into its bias. Only where an image size is no multiple of the patch do the
    zeros at the border stand for another grey.
    """
    if theirs is None:
        return f"no {file}: ImageNet's mean and deviation are assumed"
    scale, shift = theirs.relative_to_ours()
    if np.allclose(scale, 1, rtol=0, atol=1e-6) and np.allclose(shift, 0, atol=1e-6):
        return f"{file}: pictures are normalised as this network does"
    layer = params["embedding"]["project"]
    kernel = layer["kernel"].astype(np.float64)  # [rows, columns, channels, outputs]
    layer["bias"] = (layer["bias"] + np.einsum("hwco,c->o", kernel, shift)).astype(np.float32)
    layer["kernel"] = (kernel * scale[:, None]).astype(np.float32)
    return f"{file}: its normalisation is taken along, in the first layer's parameters"


def _tensor_files(source: Path) -> tuple[dict[str, Path], Naming]:
    """The file of each tensor of a folder, by its on-disk name, and whose names they are."""
    single = source if source.suffix == ".safetensors" and source.is_file() else source / WEIGHTS
    if single.exists():
        files = dict.fromkeys(_tensor_names(single), single)
    elif (source / INDEX).exists():
        files = _sharded(source / INDEX)
    else:
        raise _no_weights(source)
    whose = naming(files) or HUGGING_FACE.whose
    if whose not in NAMINGS:
        raise UserError(
            f"--source={source}: its tensors are named as by {whose} ({min(files)}, ...); read are "
            f"the names of Hugging Face's Swin files, timm's and Microsoft's own; {_DOWNLOAD}"
        )
    return files, NAMINGS[whose]


def _no_weights(source: Path) -> UserError:
    """Says what the place holds instead of safetensors, and what would be right."""
    there = [source] if source.is_file() else sorted(source.glob("*"))
    pickles = [path for path in there if path.suffix in PICKLES]
    if not pickles:
        return UserError(
            f"--source={source} is no folder with {WEIGHTS} or {INDEX}; a model of the Hugging "
            "Face Hub is downloaded first: hf download NAME --local-dir FOLDER"
        )
    text = f"{pickles[0]} is a pickle, which can run code, and is not read; "
    if (source / CONFIG).is_file():
        return UserError(
            f"{text}convert it where you trust it (with torch): transformers.SwinModel"
            f".from_pretrained({str(source)!r}).save_pretrained('NEW_FOLDER')"
        )
    convert = _CONVERT.format(str(pickles[0]))
    return UserError(f"{text}convert it (with torch): {convert}; or {_DOWNLOAD}")


def _sharded(index: Path) -> dict[str, Path]:
    shards = read_record(index, _Index).weight_map
    held = {shard: set(_tensor_names(index.parent / shard)) for shard in set(shards.values())}
    absent = sorted(name for name, shard in shards.items() if name not in held[shard])
    if absent:
        raise FileError(index, f"not in the shards that it names: {listed(absent, ', ')}")
    return {name: index.parent / shard for name, shard in shards.items()}


def _tensor_names(path: Path) -> list[str]:
    with opened(path) as file:
        return list(file.keys())


def _read_backbone(
    files: Mapping[str, Path], config: HuggingFaceSwin, source: Path, names: Naming
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Our parameters, float32, and the names of the tensors that were ignored, by group."""
    prefix = names.prefix(files)
    ignored = {
        group: [name for name in files if re.fullmatch(pattern, name)]
        for group, pattern in names.ignored.items()
    }
    left = files.keys() - {name for some in ignored.values() for name in some}
    wanted = {}
    for name, shape in _shapes(config).items():
        part = names.part(name)
        shape = _to_theirs(name, shape, 1 if part is None else 3)
        wanted[name] = (prefix + names.name(name), part, shape)
    theirs = {their_name for their_name, _, _ in wanted.values()}
    faults = [f"{name} is missing" for name in sorted(theirs - left)]
    faults += [f"{name} is unknown" for name in sorted(left - theirs)]
    params = {}
    for name, (their_name, part, shape) in wanted.items():
        if their_name not in left:
            continue
        with opened(files[their_name], "flax") as file:  # NumPy's reader has no bfloat16
            found = tuple(file.get_slice(their_name).get_shape())
            if found != shape:
                fault = f"{their_name} is {found}, not {shape}"
            else:
                value = np.asarray(file.get_tensor(their_name), np.float32)
                value = value if part is None else np.split(value, 3)[part]
                params[name] = np.ascontiguousarray(_to_ours(name, value))
                fault = "" if np.isfinite(value).all() else f"{their_name} is not finite"
        if fault and fault not in faults:  # three of ours may be one of theirs
            faults.append(fault)
    if faults:
        said = f"its {CONFIG}" if names is HUGGING_FACE else f"a Swin in the names of {names.whose}"
        raise UserError(f"--source={source} does not fit {said}: {listed(faults)}")
    return unflatten_dict(params, sep="/"), {group: some for group, some in ignored.items() if some}


def _shapes(config: HuggingFaceSwin) -> dict[str, tuple[int, ...]]:
    """Shapes of our parameters of the network, traced without computing values."""
    # At this size the last map is one full window, so that no stage's table is cut down.
    size = config.patch_size * config.window_size * 8
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    tree = jax.eval_shape(backbone(config).init, jax.random.key(0), image)["params"]
    return {name: leaf.shape for name, leaf in flatten_dict(nn.meta.unbox(tree), sep="/").items()}
