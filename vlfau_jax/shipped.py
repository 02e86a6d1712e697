"""Files that ship with vlfau_jax: experiments and a model, from a checkout or a wheel."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from vlfau_jax.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
# setup.py puts configs/ into a wheel as this folder; a checkout has configs/ beside the package.
_INSTALLED = _PACKAGE / "shipped_configs"
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"
MODEL = CONFIGS / "rendered"  # trained on rendered faces alone


def find(path: str) -> Path:
    """`path` itself if it is there; else the shipped file of that name, if there is one.

    "demo", "demo.py" and "configs/demo.py" all name configs/demo.py, from any folder.
    """
    name = path.removeprefix("configs/")
    if not Path(path).is_file() and name == Path(name).name:
        for shipped in (CONFIGS / name, CONFIGS / f"{name}.py"):
            if shipped.is_file():
                return shipped
    return Path(path)


def experiment(name: str) -> ModuleType:
    """The module of a shipped experiment, "bp4d": other experiments may begin from it."""
    spec = importlib.util.spec_from_file_location(
        f"vlfau_jax.shipped_configs.{name}", CONFIGS / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def model() -> Path:
    """The folder of the model that ships, which is used where none is named.

    Raises:
        UserError: this installation lacks it.
    """
    if not MODEL.is_dir():
        raise UserError(
            f"{MODEL} is missing: this installation lacks the model that ships; install it again, "
            "or name a folder that `export` wrote, --model=FOLDER"
        )
    return MODEL


def names() -> list[str]:
    """The names of the files of configs/, tables of --hardware included."""
    return sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")
