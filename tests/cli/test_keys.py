"""`--help` has every config key: its type, its default and its description."""

import dataclasses
import re
from dataclasses import dataclass

import pytest

from vlfau_jax.cli.keys import config_keys, key_lines, key_table
from vlfau_jax.cli.main import main
from vlfau_jax.cli.settings import Settings


@dataclass(frozen=True)
class _Inner:
    """Options.

    Attributes:
        first: what it is, over
            two lines: with a colon.
        second_with_a_name_that_needs_a_line: another.

    More text: not of a field.
    """

    first: int = 3
    second_with_a_name_that_needs_a_line: tuple[float, ...] = (0.5,)


@dataclass(frozen=True)
class _Outer:
    """Describes none of its fields."""

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


def test_every_key_is_described():
    assert not [key.name for key in config_keys() if not key.description]


def test_the_table_has_the_keys_of_the_help():
    assert list(key_table(_Inner, "inner.")) == [
        "| key | default | |",
        "|---|---|---|",
        "| `inner.first` | `3` | what it is, over two lines: with a colon. |",
        "| `inner.second_with_a_name_that_needs_a_line` | `(0.5,)` | another. |",
    ]
