"""All crop rules by name. A new rule is added here; no other module names a rule."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlfau_jax.data.crop.box import BoxTable
from vlfau_jax.data.crop.cascade import Cascade
from vlfau_jax.data.crop.landmarks import LandmarkTables
from vlfau_jax.data.crop.mediapipe import MediaPipe
from vlfau_jax.data.crop.mtcnn import MTCNN
from vlfau_jax.data.crop.none import CentreSquare
from vlfau_jax.data.crop.rule import CropRule, unknown_rule
from vlfau_jax.data.crop.yunet import PackagedYuNet, YuNet
from vlfau_jax.errors import UserError

_CLASSES = (
    Cascade,
    YuNet,
    PackagedYuNet,
    MTCNN,
    MediaPipe,
    LandmarkTables,
    BoxTable,
    CentreSquare,
)
RULES: dict[str, type[CropRule]] = {rule.name: rule for rule in _CLASSES}
_RECORD = {"name": str, "version": int, "parameters": dict, "size": int, "digest": str}


def crop_rule(name: str, size: int, file: str = "") -> CropRule:
    """The rule called `name` for crops of `size` pixels.

    Args:
        name: a key of `RULES`.
        size: pixels of the crop's side.
        file: the model or table that the rule reads, see CropRule.FILE.

    Raises:
        UserError: no such rule or size; a file that is missing, or given to a rule without one.
    """
    if name not in RULES:
        raise UserError(f"--crop={name!r} is not a crop rule; expected one of {', '.join(RULES)}")
    return RULES[name].create(size, file)


def rule_from_record(record: Mapping[str, Any], file: str, source: str | Path) -> CropRule:
    """The rule that a prepared set, checkpoint or model folder records, see CropRule.from_record.

    Args:
        record: what `CropRule.describe` gave.
        file: the file that the rule reads; "" if it reads none.
        source: the file that holds the record, for messages.

    Raises:
        UserError: a record that is damaged, or whose rule this version cannot rebuild exactly; a
            file that is missing or not the one that the rule read.
    """
    for key, kind in _RECORD.items():
        if type(record.get(key)) is not kind:
            raise UserError(
                f"{source}: the crop rule is damaged: its {key} is {record.get(key)!r:.40}, "
                f"expected {kind.__name__}"
            )
    if record["name"] not in RULES:
        raise unknown_rule(record, source)
    return RULES[record["name"]].from_record(record, file, source)


# Finds the most faces of all rules that need no file; see the README.
STRONGEST = PackagedYuNet.name


def finders() -> list[str]:
    """The names of the rules that find faces and their eyes by themselves, without a file."""
    return [
        name
        for name, rule in RULES.items()
        if not rule.FILE and not rule.READS_TABLE and "eye_distance" in rule.PARAMETERS
    ]


def finder_for(rule: CropRule, name: str = "auto") -> CropRule:
    """The rule by which faces are found that are then aligned as `rule` does.

    Args:
        rule: by which the training faces were cropped.
        name: one of `finders()`; "training" for `rule` itself; "auto" for the strongest finder
            where `rule` finds eyes by itself, and for `rule` where it reads a table or finds none.

    Raises:
        UserError: no such finder, one that `rule` cannot align the faces of, or one that is not
            installed.
    """
    if name == "auto":
        own = rule.READS_TABLE or rule.puts_eyes is None
        name = "training" if own or rule.name == STRONGEST else STRONGEST
    if name == "training":
        finder = rule
    elif name not in finders():
        raise UserError(
            f"--finder={name!r}: expected auto, training or one of {', '.join(finders())}"
        )
    else:
        finder = RULES[name].create(rule.size)
        if finder.puts_eyes != rule.puts_eyes:
            raise UserError(
                f"--finder={name}: the model's crop rule {rule.name} does not put the eyes where "
                f"{name} does, and faces cropped another way would be scored wrongly; expected "
                "training"
            )
    finder.check_installed()
    return finder


def finder_help() -> str:
    """The help of --finder."""
    return (
        "how faces are found: auto (the strongest that the model's crop rule can align), training "
        f"(as its training faces were), {', '.join(finders())}"
    )


def reads_file(name: str) -> bool:
    """Whether the rule called `name` needs a --crop_file; False for an unknown rule."""
    return name in RULES and bool(RULES[name].FILE)


def table_rules() -> list[str]:
    """The names, sorted, of the rules that look pictures up in a table."""
    return sorted(name for name, rule in RULES.items() if rule.READS_TABLE)


def crop_help() -> str:
    """The help of --crop: every rule with the first line of its docstring."""
    rules = (f"{name}: {inspect.getdoc(rule).splitlines()[0]}" for name, rule in RULES.items())
    return " ".join(("how faces are found and cropped.", *rules))


def crop_file_help() -> str:
    """The help of --crop_file: what it is for every rule that reads a file."""
    files = (f"{name}: {rule.FILE}" for name, rule in RULES.items() if rule.FILE)
    return f"the file that a crop rule reads ({'; '.join(files)})"
