"""`--help` knows every config key: its type, its default and what its dataclass says of it."""

import dataclasses
import re
from dataclasses import dataclass

import pytest

from vlfau_jax.cli.keys import key_lines
from vlfau_jax.cli.main import main
from vlfau_jax.cli.settings import Settings


@dataclass(frozen=True)
class _Inner:
    """Words.

    Attributes:
        first: what it is, over
            two lines: with a colon.
        second_with_a_name_that_needs_a_line: another.

    More words: not of a field.
    """

    first: int = 3
    second_with_a_name_that_needs_a_line: tuple[float, ...] = (0.5,)


@dataclass(frozen=True)
class _Outer:
    """Nothing said of its fields."""

    name: str = "x"
    inner: _Inner = dataclasses.field(default_factory=_Inner)


def test_types_defaults_and_descriptions():
    lines = list(key_lines(_Outer))
    assert [line.split(None, 1)[0] for line in lines if line.startswith("  --")] == [
        "--config.name",
        "--config.inner.first",
        "--config.inner.second_with_a_name_that_needs_a_line",
    ]
    assert [" ".join(line.split()) for line in lines] == [
        "--config.name (str, 'x')",
        "--config.inner.first what it is, over two lines: with a colon. (int, 3)",
        "--config.inner.second_with_a_name_that_needs_a_line",
        "another. (tuple[float, ...], (0.5,))",
    ]


@pytest.mark.parametrize("verb", ["train", "inspect", "benchmark"])
def test_help_lists_every_key(capsys, verb):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    out = capsys.readouterr().out
    listed = re.findall(r"^  --config\.(\S+)", out, re.MULTILINE)
    expected = ["seed"]
    for section in dataclasses.fields(Settings)[1:]:
        options = section.default_factory
        expected += [f"{section.name}.{field.name}" for field in dataclasses.fields(options)]
    assert listed == expected
    assert max(map(len, out[out.index("keys of the config") :].splitlines())) <= 100


def test_every_key_of_a_described_section_is_described():
    text = " ".join(" ".join(key_lines()).split())
    bare = re.findall(r"--config\.(\S+) \(", text)
    assert all(key == "seed" or key.startswith("mesh.") for key in bare), bare
