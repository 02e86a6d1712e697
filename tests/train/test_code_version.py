"""final.json says which code trained a run: another source that decides scores is other code."""

import ast
import re
import shutil
from pathlib import Path

import vlfau_jax
from vlfau_jax.train import code_version as module

# What these hold decides no number: messages, paths, buckets, how records and options are read,
# where configs lie; what trains and measures on several devices alike; the version.
NEUTRAL = {"__version__", "errors", "files", "buckets", "records", "options", "shipped"}
NEUTRAL |= {"distributed"}


def imported(path):
    """The rooms and modules of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vlfau_jax"):
            _, _, rest = node.module.partition(".")
            yield from [rest.split(".")[0]] if rest else [alias.name for alias in node.names]


def test_all_that_decides_numbers_is_counted():
    package = Path(vlfau_jax.__file__).parent
    used = {
        room
        for name in module.DECIDING
        for path in [package / name, *(package / name).rglob("*.py")]
        if path.is_file()
        for room in imported(path)
    }
    assert used == NEUTRAL | {name.removesuffix(".py") for name in module.DECIDING}


def version_of(package, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(package / "train" / "code_version.py"))
    module.code_version.cache_clear()
    return module.code_version()


def test_it_changes_with_the_sources_that_decide_scores_and_no_others(tmp_path, monkeypatch):
    package = Path(vlfau_jax.__file__).parent
    copy = tmp_path / "vlfau_jax"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert all((package / name).exists() for name in module.DECIDING)
    try:
        first = version_of(package, monkeypatch)
        assert re.fullmatch(r"\S+ \(sources [0-9a-f]{12}\)", first)
        assert version_of(copy, monkeypatch) == first
        for name in ("train/README.md", "report/page.py", "cli/main.py"):
            (copy / name).write_text("changed")
        assert version_of(copy, monkeypatch) == first
        (copy / "model" / "vlfau.py").write_text("changed")
        second = version_of(copy, monkeypatch)
        (copy / "model" / "new.py").touch()
        assert len({first, second, version_of(copy, monkeypatch)}) == 3
    finally:
        module.code_version.cache_clear()
