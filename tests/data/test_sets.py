"""The records of the data sets, and that the rooms of data/ import downwards only."""

import ast
from pathlib import Path

import pytest

import vlfau_jax.data
from vlfau_jax.data.prepare.builders import BUILDERS
from vlfau_jax.data.sets import SETS, data_set
from vlfau_jax.errors import UserError

ROOT = Path(vlfau_jax.data.__file__).parent
FLOORS = (
    ("workers",),
    ("raw",),
    ("crop",),
    ("text",),
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
