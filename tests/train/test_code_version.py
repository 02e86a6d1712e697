"""final.json says which code trained a run: another source that decides scores is other code."""

import re
import shutil
from pathlib import Path

import vlfau_jax
from vlfau_jax.train import code_version as module


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
