"""A program is judged by another process before it is read here."""

import flatbuffers
import pytest
from jax import export
from jax._src.export import serialization_generated as format_

from tests.inference.programs import (
    CALLS,
    SWITCHES,
    exported,
    foreign_call,
    forged,
    network,
    stranger,
)
from vlfau_jax.errors import FileError, RunError
from vlfau_jax.inference import program as loading
from vlfau_jax.inference.program import load_program

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def silent():
    return network(**SWITCHES["silent"])


@pytest.mark.slow
def test_another_process_judges_first(silent, tmp_path):
    weights, run, request = silent
    program, path = exported(run, weights), tmp_path / "model.stablehlo"
    assert load_program(path, program, request).platforms == ("cpu", "cuda", "tpu")
    call = stranger(lambda p: foreign_call("xla_ffi_python_cpu_callback", p))
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in CALLS]
    hostile = exported(call, weights, checks=checks)
    for content, message in (
        (hostile, "has unordered_effects"),
        (forged(hostile, unordered_effects=()), "has disabled_safety_checks"),
        (forged(hostile, disabled_safety_checks=(), unordered_effects=()), "custom_call$"),
        (program[: len(program) // 2], "cannot be read"),
        (b"", "cannot be read"),
        (multiplying_trees(), "cannot be read: .* ended by SIGXCPU"),
    ):
        with pytest.raises(FileError, match=message) as error:
            load_program(path, content, request)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def multiplying_trees():
    """A program whose tree of arguments is 40 deep, where both children of a node are one node."""
    builder = flatbuffers.Builder(1024)
    child = None
    for _ in range(40):
        children = [child, child] if child is not None else []
        format_.PyTreeDefStartChildrenVector(builder, len(children))
        for offset in children:
            builder.PrependUOffsetTRelative(offset)
        children = builder.EndVector()
        format_.PyTreeDefStart(builder)
        format_.PyTreeDefAddKind(builder, format_.PyTreeDefKind.tuple)
        format_.PyTreeDefAddChildren(builder, children)
        child = format_.PyTreeDefEnd(builder)
    name = builder.CreateString("run")
    format_.ExportedStart(builder)
    format_.ExportedAddSerializationVersion(builder, 3)
    format_.ExportedAddFunctionName(builder, name)
    format_.ExportedAddInTree(builder, child)
    format_.ExportedAddOutTree(builder, child)
    builder.Finish(format_.ExportedEnd(builder))
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("program", "kind", "message"),
    [
        ("import os; os.abort()", FileError, "the process that tried was ended by SIGABRT"),
        ("raise ImportError('no jax')", RunError, "could not be checked: ImportError: no jax"),
    ],
)
def test_the_end_of_the_other_process_is_one_line(
    silent, tmp_path, monkeypatch, program, kind, message
):
    monkeypatch.setattr(loading, "_CHECK", ("-c", program))
    with pytest.raises(kind, match=message) as error:
        load_program(tmp_path / "model.stablehlo", b"", silent[2])
    assert "\n" not in str(error.value)
