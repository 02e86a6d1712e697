import json
import os
import struct

import jax
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from vlfau_jax.errors import UserError
from vlfau_jax.train.provenance import check_provenance, provenance
from vlfau_jax.train.warm_start import load_warm_start, save_warm_start

PARAMS = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": np.float32([0.1])}
ABSTRACT = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0), ("float16", 5e-4)])
def test_there_and_back(tmp_path, dtype, tolerance):
    path = tmp_path / "w.safetensors"
    save_warm_start(PARAMS, path, {"config": "configs/x.py"}, dtype)
    back = load_warm_start(path, ABSTRACT)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance), PARAMS, back)
    assert {leaf.dtype for leaf in jax.tree.leaves(back)} == {np.dtype("float32")}
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"config": "configs/x.py"}
        assert str(file.get_tensor("a/kernel").dtype) == dtype
    assert [found.name for found in tmp_path.iterdir()] == ["w.safetensors"]


def test_all_faults_in_one_line(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a/kernel": np.zeros((3, 2), np.float32), "c": np.zeros(1, np.float32)}, path)
    words = r"b is missing; c is unknown; a/kernel is \(3, 2\), not \(2, 3\)"
    with pytest.raises(UserError, match=words):
        load_warm_start(path, ABSTRACT)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 3), np.nan, np.float32), "a/kernel is not finite"),
        (np.float32([[1, 2, 3], [4, -np.inf, 6]]), "a/kernel is not finite"),
        (np.full((2, 3), 1e300), "a/kernel is not finite"),
        (np.zeros((2, 3), np.int32), "a/kernel is int32, not floating point"),
        (np.full((3, 2), np.nan, np.float32), r"a/kernel is \(3, 2\), .*a/kernel is not finite"),
    ],
)
def test_values_that_are_not_finite_floats_are_faults_too(tmp_path, values, message):
    path = tmp_path / "w.safetensors"
    save_file({"a/kernel": values}, path)
    with pytest.raises(UserError, match=f"b is missing; {message}$"):
        load_warm_start(path, ABSTRACT)


def test_a_table_of_integers_is_not_interpolated_into_floating_point(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"relative_position_bias": np.zeros((9, 3), np.int32)}, path)
    wanted = {"relative_position_bias": jax.ShapeDtypeStruct((25, 3), np.float32)}
    with pytest.raises(UserError, match="relative_position_bias is int32, not floating point"):
        load_warm_start(path, wanted)


def test_no_file_and_no_safetensors(tmp_path):
    with pytest.raises(UserError, match="none: cannot be read"):
        load_warm_start(tmp_path / "none", ABSTRACT)
    (tmp_path / "junk").write_bytes(b"junk" * 10)
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_warm_start(tmp_path / "junk", ABSTRACT)


def test_values_beyond_float16_are_not_stored_as_infinity(tmp_path):
    with pytest.raises(ValueError, match="b is not finite as float16"):
        save_warm_start({"b": np.float32([1e6])}, tmp_path / "w", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("old", "new"), [(7, 12), (12, 7), (7, 4), (2, 1)])
def test_tables_of_another_window_are_interpolated_as_pytorch_does(tmp_path, capsys, rng, old, new):
    table = rng.normal(size=((2 * old - 1) ** 2, 3)).astype(np.float32)
    path = tmp_path / "w.safetensors"
    save_warm_start({"a": {"relative_position_bias": table}, "b": PARAMS["b"]}, path, {}, "float32")
    shape = ((2 * new - 1) ** 2, 3)
    wanted = {
        "a": {"relative_position_bias": jax.ShapeDtypeStruct(shape, np.float32)},
        "b": ABSTRACT["b"],
    }
    found = load_warm_start(path, wanted)["a"]["relative_position_bias"]

    grid = torch.from_numpy(table.T.reshape(1, 3, 2 * old - 1, 2 * old - 1).copy())
    size = (2 * new - 1, 2 * new - 1)
    expected = torch.nn.functional.interpolate(grid, size=size, mode="bicubic")
    np.testing.assert_allclose(found, expected[0].numpy().reshape(3, -1).T, atol=2e-5)
    message = capsys.readouterr().out.splitlines()
    assert len(message) == 1 and f"window {old} to {new} in 1 blocks" in message[0]

    same = {"relative_position_bias": jax.ShapeDtypeStruct(table.shape, np.float32)}
    load_warm_start(path, {**wanted, "a": same})
    assert not capsys.readouterr().out


@pytest.mark.parametrize("shape", [(16, 3), (10, 3), (26, 3), (9, 2), (9,), ()])
def test_what_is_no_table_is_not_interpolated(tmp_path, shape):
    path = tmp_path / "w.safetensors"
    save_file({"relative_position_bias": np.zeros(shape, np.float32)}, path)
    wanted = {"relative_position_bias": jax.ShapeDtypeStruct((25, 3), np.float32)}
    with pytest.raises(UserError, match=r"relative_position_bias is \(.*\), not \(25, 3\)"):
        load_warm_start(path, wanted)


def with_header(path, header, data=b""):
    """A safetensors file made by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def sparse(path):
    path.touch()
    os.truncate(path, 10 << 30)


BAD_FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "pickle": lambda path: path.write_bytes(b"\x80\x04\x95" + b"a" * 100),
    "huge header": lambda path: path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}"),
    "nested": lambda path: with_header(path, b"[" * 100_000),
    "no UTF-8": lambda path: with_header(path, b'{"\xff": 1}'),
    "overlapping": lambda path: with_header(
        path, {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, b"\0" * 4
    ),
    "outside": lambda path: with_header(
        path, {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    ),
    "overflowing": lambda path: with_header(
        path, {"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 0]}}
    ),
    "fifo": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "sparse": sparse,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("harm", BAD_FILES)
def test_a_file_that_is_none_is_one_line(tmp_path, harm):
    path = tmp_path / "w.safetensors"
    save_warm_start(PARAMS, path, {"people": "[]"})
    BAD_FILES[harm](path)
    for read in (
        lambda: load_warm_start(path, ABSTRACT),
        lambda: check_provenance(path, (), ()),
    ):
        with pytest.raises(UserError, match=r"train\.warm_start=.*") as error:
            read()
        assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "BOOL", "U8", "I64"])
def test_other_types_are_named(tmp_path, dtype):
    path, size = tmp_path / "w.safetensors", 8 if dtype == "I64" else 1
    tensor = {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}
    with_header(path, {"b": tensor}, b"\0" * size)
    with pytest.raises(UserError, match=r"a/kernel is missing; b is \w+, not floating point"):
        load_warm_start(path, ABSTRACT)


def test_bfloat16_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    save_warm_start(PARAMS, path, {}, "bfloat16")
    found = load_warm_start(path, ABSTRACT)
    np.testing.assert_allclose(found["b"], PARAMS["b"], rtol=1e-2)


def test_at_most_ten_faults_are_listed(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({f"layer{k}": np.zeros(1, np.float32) for k in range(1000)}, path)
    with pytest.raises(UserError, match=r" and 992 more$") as error:
        load_warm_start(path, ABSTRACT)
    assert str(error.value).count(";") == 9


def test_what_cannot_fit_is_not_read(tmp_path):
    """A header of a few bytes may name a tensor as large as a disk."""
    path, size = tmp_path / "w.safetensors", 8 << 30
    with_header(path, {"b": {"dtype": "F64", "shape": [1 << 30], "data_offsets": [0, size]}})
    os.truncate(path, path.stat().st_size + size)
    with pytest.raises(UserError, match=r"b is \(1073741824,\), not \(1,\)"):
        load_warm_start(path, ABSTRACT)


def test_a_file_that_came_meanwhile_stays(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_text("another's")
    with pytest.raises(UserError, match="exists"):
        save_warm_start(PARAMS, path, {}, new=True)
    assert path.read_text() == "another's"
    assert list(tmp_path.iterdir()) == [path]


def test_the_metadata_of_people_have_bounds(tmp_path):
    path = tmp_path / "w.safetensors"
    for people in ("", "[" * 100_000, '{"F001": 3}', '[["bp4d", "F001"]]', '"F001"', "\0"):
        note = provenance((), (1,), ("a",)) | {"people": people}
        save_warm_start(PARAMS, path, note)
        with pytest.raises(UserError, match="its list of people is damaged") as error:
            check_provenance(path, (), ("a",))
        assert len(str(error.value)) < 500
