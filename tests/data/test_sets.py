"""The records of the data sets, and that the rooms of data/ import downwards only."""

import ast
from pathlib import Path

import pytest

import vlfau_jax.data
from vlfau_jax.data.prepare.builders import BUILDERS
from vlfau_jax.data.sets import (
    SETS,
    camera_help,
    coded_runs_help,
    data_set,
    frames_help,
    layouts,
    with_coded_runs,
)
from vlfau_jax.errors import UserError

ROOT = Path(vlfau_jax.data.__file__).parent
FLOORS = (
    ("workers",),
    ("raw",),
    ("crop",),
    ("text",),
    ("set_record",),
    ("synthetic",),
    ("sets",),
    ("prepare", "read"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


@pytest.mark.parametrize("record", SETS.values(), ids=SETS)
def test_a_record_fits_its_builder_its_layout_and_what_is_published(record):
    assert SETS[record.name] is record is BUILDERS[record.name].DATA_SET
    assert all(BUILDERS[record.name].get_builder_config(name) for name in record.configs)
    published, layout = record.published, record.layout
    assert set(published.rates) <= set(record.aus or ())
    if layout is not None:
        assert layout.name == record.name
        sequences = {(subject, task) for subject in published.subjects for task in layout.tasks}
        assert set(layout.coded_runs) <= sequences


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UserError) as error:
        data_set("ck", "--dataset")
    known = ", ".join(SETS)
    assert str(error.value) == f"--dataset='ck' is not a data set; expected one of {known}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_of_data_import_downwards(path):
    room = path.relative_to(ROOT).with_suffix("").parts[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("vlfau_jax.data."):
            other = node.module.split(".")[2]
            above = FLOOR[other] > FLOOR[room] or (FLOOR[other] == FLOOR[room] and other != room)
            assert not above, f"data/{room} imports data/{other}"


def test_the_command_lines_help_follows_from_the_records():
    assert list(layouts()) == [name for name, one in SETS.items() if one.layout]
    assert with_coded_runs() == "bp4d" and "(bp4d: 146,847 in all " in coded_runs_help()
    assert "bp4d 8, disfa 1, folder 2" in frames_help()
    assert "disfa: left (the default) or right" in camera_help()
