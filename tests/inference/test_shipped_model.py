"""The model that ships, configs/rendered: what it says of photographs, and what its card says."""

import json
import re

import pytest

import vlfau_jax
from tests.photographs import photograph
from vlfau_jax import shipped
from vlfau_jax.cli.main import main
from vlfau_jax.inference.model_folder import CARD
from vlfau_jax.inference.prediction_files import JSONL

MOST_BYTES = 8_000_000
UPPER_FACE = (1, 2, 4)  # of the portrait's smile the brows are no part
# A row of a table of `transfer`: a unit, its AUC and its F1.
SCORE = re.compile(r"^\| AU(\d\d) [^|]+ \| (0\.\d+) \| (0\.\d+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def model():
    return vlfau_jax.load(batch_size=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The rows of `predict` for three photographs, by the photograph's name."""
    out = tmp_path_factory.mktemp("photographs") / "predicted"
    names = ("astronaut", "coffee", "chelsea")
    assert main(["predict", f"--out={out}", *(str(photograph(name)) for name in names)]) == 0
    rows = list(map(json.loads, (out / JSONL).read_text().splitlines()))
    found = {name: [row for row in rows if name in row["source"]] for name in names}
    assert sum(map(len, found.values())) == len(rows)
    return found


def test_it_loads_and_is_small(model):
    assert model.ships and model.synthetic
    assert sum(path.stat().st_size for path in shipped.MODEL.iterdir()) <= MOST_BYTES
    assert all(path.is_file() for path in shipped.MODEL.iterdir()), (
        "pyproject.toml takes files alone"
    )


def test_it_sees_the_smile_of_a_photograph(model, rows):
    (row,) = rows["astronaut"]
    assert row["success"]
    units = {int(au): unit for au, unit in row["per_au"].items()}
    assert units[12]["probability"] >= 0.9
    assert 12 in model.reader.named(row["sentence"]), row["sentence"]
    assert re.search("lip corner|smile", row["sentence"]), row["sentence"]
    raised = {au: units[au]["probability"] for au in UPPER_FACE}
    assert max(raised.values()) < 0.75, raised


@pytest.mark.parametrize("name", ["coffee", "chelsea"])
def test_where_there_is_no_face_it_says_so(rows, name):
    (row,) = rows[name]
    assert not row["success"] and row["reason"], row
    assert row.get("sentence") is None


def test_its_card_says_what_it_was_trained_on_and_what_was_measured(model):
    card = (shipped.MODEL / CARD).read_text()
    assert "rendered faces alone" in " ".join(card.split())
    own, other = (_section(card, title) for title in ("100 other rendered", "another renderer"))
    for section in (own, other):
        assert "SYNTHETIC FACES" in section, "the numbers are not labelled"
    assert {int(au) for au, *_ in SCORE.findall(own)} == {*model.aus} - {*model.untaught}
    assert len(SCORE.findall(other)) == 12, "BP4D's units"


def _section(card, title):
    """The first section of a card whose heading has the words."""
    return next(part for part in card.split("\n## ") if title in part.partition("\n")[0])
