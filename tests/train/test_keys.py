"""Every config key is read by the code that trains: a flag that does nothing is a defect."""

import dataclasses
import sys
import typing

import pytest

from vlfau_jax.cli.settings import Settings
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.loop import train

pytestmark = pytest.mark.slow

# The mesh takes its three sizes together, as a tuple; that they matter is what test_mesh shows.
OPTIONS = [
    kind
    for kind in typing.get_type_hints(Settings).values()
    if dataclasses.is_dataclass(kind) and kind is not MeshOptions
]


@pytest.fixture
def reads(monkeypatch):
    """(class name, field) of every read by the package, checks of the values left out."""
    seen = set()

    def watched(self, name):
        frame = sys._getframe(1)
        inside = frame.f_globals.get("__name__", "").startswith("vlfau_jax")
        if inside and frame.f_code.co_name != "__post_init__":
            seen.add((type(self).__name__, name))
        return object.__getattribute__(self, name)

    for kind in OPTIONS:
        monkeypatch.setattr(kind, "__getattribute__", watched)
    return seen


def test_one_step_of_training_reads_every_key(tiny, tmp_path, reads):
    train(tiny(steps=1), tmp_path / "run")
    fields = {(kind.__name__, field.name) for kind in OPTIONS for field in dataclasses.fields(kind)}
    assert not fields - reads
