"""What a user sees of a failure: one bounded line without power over the terminal."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.errors import JaxRuntimeError

from vlfau_jax.errors import (
    LONGEST_LINE,
    DataError,
    RunError,
    UserError,
    line,
    outcome,
    printable,
    saying,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("\x07\x7f\x9b", "\\x07\\x7f\\x9b"),
        ("right\u202eleft", "right\\u202eleft"),
        (os.fsdecode(b"IMG_\xff.jpg"), "IMG_\\xff.jpg"),
        ("Ünïcode 顔 🙂 stays\n\t", "Ünïcode 顔 🙂 stays\n\t"),
    ],
)
def test_names_have_no_power_over_the_terminal(text, shown):
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_every_line_is_one_short_line(text):
    shown = line(text)
    assert "\n" not in shown
    assert len(shown) <= LONGEST_LINE
    shown.encode()


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "EIO"])
def test_what_the_machine_has_no_more_of_is_one_line(number):
    code = getattr(errno, number)
    assert outcome(OSError(code, os.strerror(code))) == (f"failed: {os.strerror(code)}", 1)
    named = OSError(code, os.strerror(code), "runs/x")
    assert outcome(named) == (f"failed: runs/x: {os.strerror(code)}", 1)


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (MemoryError(), "failed: out of memory", 1),
        (
            JaxRuntimeError("RESOURCE_EXHAUSTED: 9 TB\nmore"),
            "failed: out of the device's memory: ",
            1,
        ),
        (JaxRuntimeError("INTERNAL: a bug"), None, None),
        (ValueError("a bug"), None, None),
    ],
)
def test_what_a_library_raises_where_the_machine_has_no_more(error, text, code):
    shown = outcome(error)
    assert shown is None if text is None else shown[0].startswith(text) and shown[1] == code


@pytest.mark.parametrize("name", ["a\0b", "a\udcffb"])
def test_a_name_that_no_file_can_have_is_a_mistake(tmp_path, name):
    with pytest.raises(ValueError) as error:
        (tmp_path / name).open().close() if "\0" in name else name.encode()
    shown, code = outcome(error.value)
    assert shown.startswith("error: ") and code == 2


def test_the_outcome_of_an_error_is_cut():
    assert len(outcome(UserError("x" * 10_000))[0]) == LONGEST_LINE
    assert outcome(RunError("a\nb")) == ("failed: a b", 1)
    assert outcome(OSError("of a library")) is None


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, "3 rows are kept"),
        (RunError("it broke"), RunError, "it broke; 3 rows are kept"),
        (DataError("no picture"), DataError, "no picture; 3 rows are kept"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            RunError,
            "out: No space left on device; 3 rows are kept",
        ),
        (OSError(errno.EINVAL, "Invalid"), OSError, "[Errno 22] Invalid"),
        (UserError("wrong"), UserError, "wrong"),
    ],
)
def test_what_is_kept_is_said_where_work_ends(error, kind, text):
    with pytest.raises(kind) as end, saying(lambda: "3 rows are kept", "out"):
        raise error
    assert type(end.value) is kind and str(end.value) == text
