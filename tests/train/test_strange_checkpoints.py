"""Checkpoints and runs that are damaged, foreign or made by somebody else: one line, bounded."""

import copy
import hashlib
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.train.records import RECORD
from vlfau_jax.errors import LONGEST_LINE, FileError, UserError, outcome
from vlfau_jax.records import parse_record
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.checkpoint import Checkpoints, load_inference
from vlfau_jax.train.checkpoint_record import CheckpointRecord
from vlfau_jax.train.manifest import _digest_of_json, is_step
from vlfau_jax.train.state import TrainState

pytestmark = pytest.mark.slow

SCORED = 0.5


def state(step, values=None):
    everywhere = jax.sharding.NamedSharding(
        make_mesh(MeshOptions(1, 1, 1)), jax.sharding.PartitionSpec()
    )
    values = jnp.arange(12.0).reshape(3, 4) if values is None else values
    return jax.device_put(TrainState(jnp.int32(step), {"w": values}, ()), everywhere)


def record(step):
    return RECORD | {"progress": {"next_batch": step, "seconds": {}}}


def save(run, *steps, values=None):
    with Checkpoints(run, keep=5, keep_best=5) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step, values), record(step), SCORED)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with checkpoints of two steps."""
    run = tmp_path_factory.mktemp("strange") / "run"
    save(run, 2, 4)
    return run


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def restore(run):
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(4)
    )
    with Checkpoints(run, keep=5, keep_best=5) as checkpoints:
        return checkpoints.restore(abstract)


def best(run):
    return load_inference(run, "best")


READERS = (restore, load_inference, best)


def trusted(folder):
    """Makes the manifest right for what lies in the folder, as whoever made that would."""
    path = folder / "manifest.json"
    body = json.loads(path.read_text())["body"]
    for name in list(body["files"]):
        if (folder / name).is_file():
            data = (folder / name).read_bytes()
            body["files"][name] = [len(data), hashlib.sha256(data).hexdigest()]
    write_body(path, body)


def write_body(path, body):
    path.write_text(json.dumps({"body": body, "sha256": _digest_of_json(body)}))


def harmless(run, readers=READERS):
    """Reads a run in all ways: each succeeds or fails with one line; returns those lines."""
    lines = []
    for read in readers:
        try:
            read(run)
        except UserError as error:
            assert "\n" not in str(error)
            line, code = outcome(error)
            assert code == 2 and len(line) <= LONGEST_LINE
            lines.append(line)
    return lines


def parts(run):
    folder = run / "checkpoints" / "4"
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("what", ["fifo", "folder", "device", "sparse", "loop", "dangling"])
@pytest.mark.parametrize(
    "name",
    ["manifest.json", "_CHECKPOINT_METADATA", "metrics/metrics", "params/manifest.ocdbt"],
)
def test_special_and_huge_parts(run, what, name):
    path = run / "checkpoints" / "4" / name
    path.unlink()
    match what:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "sparse":
            path.touch()
            os.truncate(path, 10 << 30)
        case "loop":
            path.symlink_to(path)
        case "dangling":
            path.symlink_to("/nowhere/at/all")
    lines = harmless(run)
    assert lines and all(name.split("/")[-1] in line and "step 2" in line for line in lines)


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("name", ["params/manifest.ocdbt", "optimizer/manifest.ocdbt"])
def test_cut_parts_whose_digests_are_right(run, name, cut):
    path = run / "checkpoints" / "4" / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    trusted(path.parents[1])
    lines = harmless(run)
    assert lines and all("checkpoints/4" in line and "go on from step 2" in line for line in lines)


def stored(folder, shape, chunk, dtype="float32"):
    """Puts another array at the place of a checkpoint's."""
    shutil.rmtree(folder / "params")
    base = {"driver": "file", "path": f"{folder}/params/"}
    tensorstore.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "ocdbt", "base": base, "path": "w/"},
            "metadata": {
                "shape": shape,
                "data_type": dtype,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            },
            "create": True,
        }
    ).result()
    body = json.loads((folder / "manifest.json").read_text())["body"]
    kept = {name: of for name, of in body["files"].items() if not name.startswith("params")}
    body["files"] = kept | {"params/manifest.ocdbt": [0, ""]}
    write_body(folder / "manifest.json", body)
    trusted(folder)


@pytest.mark.parametrize(
    ("shape", "chunk", "dtype"),
    [
        ([1 << 31, 1 << 20], [1 << 10, 1 << 10], "float32"),
        ([3, 4], [1 << 14, 1 << 14], "float32"),
        ([4, 3], [4, 3], "float32"),
        ([3, 4], [3, 4], "int32"),
        ([3, 4], [3, 4], "float32"),  # no value was ever stored
    ],
)
def test_arrays_are_stored_as_the_manifest_says(run, shape, chunk, dtype):
    stored(run / "checkpoints" / "4", shape, chunk, dtype)
    lines = harmless(run, (restore, load_inference))
    assert len(lines) == 2 and all("checkpoints/4" in line for line in lines)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_answer_nothing(tmp_path, value):
    save(tmp_path, 4, values=jnp.ones((3, 4)).at[1, 2].set(value))
    with pytest.raises(UserError, match=r"4: params/w is not finite \(1 of 12 values\)"):
        load_inference(tmp_path)


def test_a_checkpoint_under_another_steps_name_is_not_resumed(run):
    (run / "checkpoints" / "4").rename(run / "checkpoints" / "9")
    with pytest.raises(UserError, match=r"9 is damaged \(its record is of step 4\)"):
        restore(run)


@pytest.mark.parametrize(
    ("name", "found"), [("0", True), ("12", True), ("007", False), ("٣", False), ("-1", False)]
)
def test_names_of_steps(name, found):
    assert is_step(name) is found


PATHS = ["../../../etc/passwd", "/etc/passwd", "params/../../2/params/_METADATA", "x", "a/\0b", ""]


@pytest.mark.parametrize("name", PATHS)
def test_a_manifest_leads_nowhere_else(run, name):
    path = run / "checkpoints" / "4" / "manifest.json"
    body = json.loads(path.read_text())["body"]
    body["files"][name] = [1, "0" * 64]
    write_body(path, body)
    assert all("manifest.json: body.files" in line for line in harmless(run, (load_inference,)))


@pytest.mark.parametrize("depth", [300, 100_000])
@pytest.mark.parametrize("name", ["manifest.json", "_CHECKPOINT_METADATA", "metrics/metrics"])
def test_deep_json(run, name, depth):
    (run / "checkpoints" / "4" / name).write_text('{"a":' * depth + "1" + "}" * depth)
    trusted(run / "checkpoints" / "4") if name != "manifest.json" else None
    assert len(harmless(run)) >= 1


@pytest.mark.parametrize("handler", ["os.system", "mine.Handler", "orbax.checkpoint.x; import os"])
def test_handlers_are_orbax_own(run, handler):
    path = run / "checkpoints" / "4" / "_CHECKPOINT_METADATA"
    content = json.loads(path.read_text())
    content["item_handlers"]["params"] = handler
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"_CHECKPOINT_METADATA: item_handlers\.params is '"):
        restore(run)


STRANGE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 2**31, 2**63, 10**30, "x" * 20_000, "\x1b[31m", "/dev/zero"])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def leaves(value, path=()):
    yield path
    for key in (
        value if isinstance(value, dict) else range(len(value) if type(value) is list else 0)
    ):
        yield from leaves(value[key], (*path, key))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_record_is_read_or_refused_in_one_line(data):
    found = copy.deepcopy(RECORD)
    *path, last = data.draw(st.sampled_from([path for path in leaves(found) if path]))
    inner = found
    for key in path:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[last] = data.draw(STRANGE)
    elif isinstance(inner, dict):
        del inner[last]
    try:
        parse_record(json.dumps(found), CheckpointRecord, "manifest.json")
    except FileError as error:
        assert len(outcome(error)[0]) <= LONGEST_LINE and "\n" not in str(error)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_damage_to_any_part_is_read_or_refused_in_one_line(made, tmp_path_factory, data):
    run = shutil.copytree(made, tmp_path_factory.mktemp("case") / "run")
    path = data.draw(st.sampled_from(parts(run)))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()) or not content:
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    if data.draw(st.booleans()) and path.name != "manifest.json":
        trusted(run / "checkpoints" / "4")
    harmless(run)
    shutil.rmtree(run)


def test_the_undamaged_run_is_read_in_all_ways(run):
    assert not harmless(run)
    np.testing.assert_array_equal(load_inference(run)[0]["w"], state(4).params["w"])
