"""The settings of an experiment: an ml_collections ConfigDict, validated, as frozen dataclasses.

A config key is a field of an options dataclass, which lives in the room that reads it. This
module only composes them, so a key that nothing reads cannot exist.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.errors import UserError
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.options import Options, Seed
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.loop import TrainOptions
from vlfau_jax.train.optimizer import OptimizerOptions


@dataclasses.dataclass(frozen=True)
class Settings(Options):
    """One experiment, complete.

    Attributes:
        seed: of every random stream: initial parameters, order and augmentation of the data,
            dropout.
        data: what is read of a prepared set.
        model: the network.
        objective: the loss.
        optimizer: the optimizer.
        train: the training run.
        mesh: how devices share the work.
    """

    seed: Seed = 0
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    objective: ObjectiveOptions = dataclasses.field(default_factory=ObjectiveOptions)
    optimizer: OptimizerOptions = dataclasses.field(default_factory=OptimizerOptions)
    train: TrainOptions = dataclasses.field(default_factory=TrainOptions)
    mesh: MeshOptions = dataclasses.field(default_factory=MeshOptions)


def default_config() -> ConfigDict:
    """Every key with its default: what an experiment in configs/ starts from."""
    return ConfigDict(dataclasses.asdict(Settings()))


def resolve(config: ConfigDict | Mapping[str, Any]) -> Settings:
    """ConfigDict (or the plain dict that a workdir keeps) -> Settings.

    Raises:
        UserError: an unknown key (with the nearest known one), or a value of the wrong type.
    """
    plain = config.to_dict() if isinstance(config, ConfigDict) else config
    return _build(Settings, plain, "config")


def check_key(key: str) -> None:
    """Raises UserError, with the nearest known key, unless `config.a.b` names one value."""
    kind: Any = Settings
    parents, _, last = key.rpartition(".")
    for name in [*parents.split(".")[1:], last]:
        if not dataclasses.is_dataclass(kind):
            raise UserError(f"{key}: no such config key; {key.rpartition('.')[0]} is one value")
        kind = _hint(kind, name, key)
    if dataclasses.is_dataclass(kind):
        fields = ", ".join(f"{key}.{field.name}" for field in dataclasses.fields(kind))
        raise UserError(f"{key}: this is a group of keys; set one of {fields}")


def for_device(
    config: ConfigDict, table: ConfigDict, device_kind: str, given: Collection[str] = ()
) -> tuple[ConfigDict, dict[str, Any]]:
    """The experiment with the keys of one row of --hardware, and the keys that were set.

    Args:
        config: the experiment; it is left as it is.
        table: `rows`, each the tree of some of an experiment's keys and `device_kind`, a regular
            expression of the whole name; the first that matches is taken (configs/hardware.py).
        device_kind: the name that JAX gives the device, "TPU v5 lite" or "cpu".
        given: keys, as "train.device_batch", which the user chose: they stay.

    Raises:
        UserError: no row matches, or the table is not one.
    """
    rows = [_device_row(row) for row in table.get("rows", ())]
    found = next((keys for kind, keys in rows if kind.fullmatch(device_kind)), None)
    if found is None:
        patterns = ", ".join(repr(kind.pattern) for kind, _ in rows)
        raise UserError(
            f"--hardware: no row of it is for {device_kind!r}; there are {patterns or 'no rows'}"
        )
    chosen = {key: value for key, value in found.items() if key not in given}
    tree: dict[str, Any] = {}
    for key, value in chosen.items():
        group, _, name = key.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[name] = value
    config = config.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():  # `resolve` reports wrong types
        config.update(tree)
    return config, chosen


def _device_row(row: Mapping[str, Any]) -> tuple[re.Pattern, dict[str, Any]]:
    """The pattern of a row of --hardware, and its keys."""
    keys = dict(_leaves(row))
    pattern = keys.pop("device_kind", None)
    if not isinstance(pattern, str):
        raise UserError(f"--hardware: device_kind={pattern!r} of a row; give a regular expression")
    for key in keys:
        check_key(f"config.{key}")
    try:
        return re.compile(pattern), keys
    except re.error as error:
        raise UserError(f"--hardware: device_kind={pattern!r}: {error}") from None


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, (Mapping, ConfigDict)):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def _hint(kind: type, name: str, key: str) -> Any:
    """The type of a dataclass's field, UserError with the nearest field where it has none."""
    hints = typing.get_type_hints(kind)
    if name not in hints:
        near = difflib.get_close_matches(name, hints, n=1, cutoff=0.0)[0]
        raise UserError(f"{key}: no such config key as {name!r}; the nearest is {near!r}")
    return hints[name]


def _build(kind: type, plain: Mapping[str, Any], path: str) -> Any:
    values = {}
    for name, value in plain.items():
        hint = _hint(kind, name, f"{path}.{name}")
        group = dataclasses.is_dataclass(hint) and isinstance(value, Mapping)
        values[name] = _build(hint, value, f"{path}.{name}") if group else value
    return kind(**values)
