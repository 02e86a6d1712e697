"""A prepared set is data: no name in its files is ever looked up as code."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import untrained
from tests.data.sets import reseal
from vlfau_jax.cli.main import main

pytestmark = pytest.mark.slow

TRAP = "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"


def named(value: object, name: str) -> object:
    """JSON in which every class and module is `name`, which is not ours."""
    if isinstance(value, list):
        return [named(one, name) for one in value]
    if isinstance(value, dict):
        classes = ("pythonClassName", "moduleName", "type", "python_class_name")
        return {key: name if key in classes else named(one, name) for key, one in value.items()}
    return value


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A folder with a set in `prepared/` whose files name modules that lie inside the set.

    A run beside it was trained on it, as far as its record says.
    """
    here = tmp_path_factory.mktemp("trap")
    shutil.copytree(prepared, here / "prepared")
    (old,) = (here / "prepared/bp4d").glob("*/*/")
    folder = old.rename(old.with_name("v2"))  # part of a module's name
    (folder / "trap.py").write_text(TRAP)
    module = ".".join((*folder.relative_to(here).parts, "trap"))
    for file in ("features.json", "dataset_info.json"):
        content = named(json.loads((folder / file).read_text()), f"{module}.Feature")
        (folder / file).write_text(json.dumps(content))
    reseal(folder)
    assert "trap.Feature" in (folder / "features.json").read_text()
    return here


@pytest.fixture
def inside(trap: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the current one, from which `python -m vlfau_jax` can import."""
    monkeypatch.chdir(trap)
    monkeypatch.syspath_prepend(str(trap))
    monkeypatch.setitem(sys.modules, "prepared", None)  # gone afterwards, whatever was imported
    del sys.modules["prepared"]
    importlib.invalidate_caches()
    return trap


ROOT = Path(__file__).resolve().parents[3]
CONFIG = [f"--config={ROOT}/tests/tiny.py", "--config.mesh.data=1"]


@pytest.mark.parametrize("data_dir", ["prepared", "{here}/prepared"])
@pytest.mark.parametrize(
    "verb",
    [
        ["inspect", *CONFIG, "--data", "--out=inspected"],
        ["benchmark", *CONFIG, "--data", "--seconds=0.1"],
        ["train", *CONFIG, "--config.train.steps=1", "--workdir=trained"],
        ["evaluate", "--workdir=run"],
    ],
    ids=lambda verb: verb[0],
)
def test_no_module_that_a_set_names_is_imported(inside, verb, data_dir):
    place = data_dir.format(here=inside)
    if verb[0] == "evaluate":
        shutil.rmtree("run", ignore_errors=True)
        untrained(Path(place), Path("run"))
    else:
        verb = [*verb, f"--config.data.data_dir={place}"]
        shutil.rmtree(verb[-2].partition("=")[2], ignore_errors=True)
    code = main(verb)
    assert not list(inside.rglob("imported"))
    assert not [name for name in sys.modules if name.endswith(".trap")]
    assert code == 0


def test_the_trap_is_one(inside):
    (folder,) = inside.glob("prepared/bp4d/*/v2")
    importlib.import_module(".".join((*folder.relative_to(inside).parts, "trap")))
    assert (folder / "imported").exists()
    (folder / "imported").unlink()
