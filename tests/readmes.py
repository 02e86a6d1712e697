"""Writes the generated parts of the README files: `python -m tests.readmes`.

A part lies between `<!-- begin NAME -->` and `<!-- end NAME -->`. Tables of files come from the
first lines of the files' docstrings, tables of config keys from the docstrings of the options, by
the code that makes --help, and those of verbs, crop rules and metrics from their declarations.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from vlfau_jax.account.flops import Task, flops
from vlfau_jax.account.flops import table as flop_table
from vlfau_jax.cli.keys import config_keys, key_table
from vlfau_jax.cli.main import VERBS
from vlfau_jax.cli.settings import Settings
from vlfau_jax.data.crop.registry import RULES
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.metrics.table import (
    AU_CHOICES,
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    LANGUAGE_METRICS,
    MAP_METRICS,
    MAPS,
    OF_MAPS,
)
from vlfau_jax.model.options import ModelOptions

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python -m tests.readmes"
_PART = re.compile(r"(<!-- begin ([\w ]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def readmes() -> list[Path]:
    """Every README.md of the project."""
    folders = (ROOT / name for name in ("vlfau_jax", "configs", "launch", "tests"))
    return [ROOT / "README.md", *(path for f in folders for path in sorted(f.rglob("README.md")))]


def refreshed(text: str, folder: Path) -> str:
    """The text of a folder's README.md with its generated parts made anew."""

    def part(match: re.Match[str]) -> str:
        lines = _LINES[match[2]](folder)
        return match[1] + "".join(f"{line}\n" for line in lines) + match[3]

    return _PART.sub(part, text)


def _files(folder: Path) -> Iterator[str]:
    """A table of the modules in a folder, and in those below it that have no README.md.

    Tests are left out: their names are enough.
    """
    yield from ("| file | |", "|---|---|")
    for path in sorted(_modules(folder), key=lambda path: (path.parent, path)):
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        yield f"| [{path.relative_to(folder)}]({path.relative_to(folder)}) | {_cell(summary)} |"


def _modules(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and not (path / "README.md").exists():
            yield from _modules(path)
        elif path.suffix == ".py" and path.stem != "__init__" and path.stem[:5] != "test_":
            yield path


def _keys(folder: Path) -> Iterator[str]:
    """A table of the config keys of each group."""
    del folder
    for field in fields(Settings):
        options = field.default_factory
        if isinstance(options, type):
            yield from ("", f"### `{field.name}`", "")
            yield from key_table(options, f"{field.name}.")
    seed = next(key for key in config_keys() if key.name == "seed")
    yield from ("", f"Outside the groups: `seed` (`{seed.default}`), {seed.description}", "")


def _verbs(folder: Path) -> Iterator[str]:
    """A table of the verbs and the flags that each needs."""
    del folder
    yield from ("| verb | does | needs |", "|---|---|---|")
    for verb in VERBS.values():
        needed = " ".join(f"`--{name}`" for name in verb.required)
        yield f"| `{verb.name}` | {_cell(verb.summary)} | {(needed + verb.inputs).strip()} |"


def _crop_rules(folder: Path) -> Iterator[str]:
    """A table of the crop rules and the files that they read."""
    del folder
    yield from ("| `--crop` | | `--crop_file` |", "|---|---|---|")
    for name, rule in RULES.items():
        summary = inspect.getdoc(rule).partition("\n")[0]
        yield f"| `{name}` | {_cell(summary)} | {_cell(rule.FILE)} |"


def _metrics(folder: Path) -> Iterator[str]:
    """A table of the metrics and floors by their keys in scores.json."""
    del folder
    yield from ("| key in scores.json | |", "|---|---|")
    groups = {
        "per_au.AU.": AU_METRICS,
        "choices.": AU_CHOICES,
        "floors.": AU_FLOORS,
        "explanations.": EXPLANATION_METRICS,
        "language.KIND.": LANGUAGE_METRICS,
    }
    for prefix, metrics in groups.items():
        for metric in metrics:
            yield f"| `{prefix}{metric.name}` | {_cell(metric.description)} |"
            if floor := getattr(metric, "floor", None):
                yield f"| `{prefix}{floor.name}` | {_cell(floor.description)} |"
    for metric in MAP_METRICS:
        for whose, prefix in MAPS.items():
            key = f"maps_per_au.AU.{prefix}{metric.name}"
            yield f"| `{key}` | {_cell(metric.description)} {OF_MAPS[whose]} |"
        key = f"maps_per_au.AU.{metric.floor.name}"
        yield f"| `{key}` | {_cell(metric.floor.description)} |"


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")


def _flops(_: Path) -> Iterator[str]:
    """FLOPs of Swin-B with all captions on BP4D's twelve units."""
    words = Vocabulary.build()
    captions = CaptionTables(BP4D_AUS, words)
    task = Task(
        image_size=224,
        au_count=len(BP4D_AUS),
        vocabulary=words.size,
        local_tokens=captions.max_local_tokens,
        global_tokens=captions.max_global_tokens,
    )
    return iter(flop_table(flops(ModelOptions(), task)).splitlines())


_LINES = {
    "files": _files,
    "flops": _flops,
    "keys": _keys,
    "verbs": _verbs,
    "crop rules": _crop_rules,
    "metrics": _metrics,
}


if __name__ == "__main__":
    for readme in readmes():
        text = readme.read_text()
        if (new := refreshed(text, readme.parent)) != text:
            readme.write_text(new)
            print(readme.relative_to(ROOT))
