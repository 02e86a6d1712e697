"""Modules import downwards only: the floors of the README's picture."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vlfau_jax"
FLOORS = (
    ("facs", "errors", "files", "cache", "buckets", "records", "options", "regions", "shipped"),
    ("data",),
    ("model",),
    ("losses", "metrics"),
    ("sharding", "distributed"),
    ("train",),
    ("inference", "evaluation", "account"),
    ("report", "studies", "serve"),
    ("cli", "__main__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "vlfau_jax" and len(parts) > 1 and parts[1] in FLOOR:
                yield parts[1]
            assert parts[0] != "tensorflow", f"{path} imports tensorflow"
            assert parts[0] not in ("pickle", "dill", "joblib"), f"{path} imports {parts[0]}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = FLOOR[room(path)]
    above = {other for other in imported_rooms(path) if FLOOR[other] > own}
    assert not above, f"{path} (floor {own}) imports from above: {above}"


def test_every_room_has_a_floor_and_every_floor_its_rooms():
    assert {room(path) for path in modules()} == set(FLOOR)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small_and_have_a_subject(path):
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem not in ("utils", "helpers", "common", "misc")
