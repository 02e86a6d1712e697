import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vlfau_jax.errors import UserError
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.checkpoint import Checkpoints, load_inference, params_digest
from vlfau_jax.train.manifest import read_manifest
from vlfau_jax.train.state import TrainState

RECORD = {"progress": {"next_batch": 4, "seconds": {"train": 1.5}}, "inference": {"aus": [1, 2]}}


def state(mesh, step=4):
    split = NamedSharding(mesh, P("fsdp"))
    whole = NamedSharding(mesh, P())
    params = {"w": jax.device_put(jnp.arange(64.0).reshape(8, 8) + step, split)}
    moments = ({"w": jax.device_put(jnp.ones((8, 8)), split)}, jax.device_put(jnp.int32(3), whole))
    return TrainState(jax.device_put(jnp.int32(step), whole), params, moments)


def abstract(mesh):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(mesh)
    )


@pytest.fixture
def saved(tmp_path):
    mesh = make_mesh(MeshOptions(1, 8, 1))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (2, 3, 4):
            checkpoints.save(step, state(mesh, step), RECORD)
    return tmp_path


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2), (1, 1, 1)])
def test_restored_onto_any_mesh(saved, sizes):
    wanted = abstract(make_mesh(MeshOptions(*sizes)))
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest == 4
        found, record = checkpoints.restore(wanted)
    assert record == RECORD
    expected = state(make_mesh(MeshOptions(1, 1, 1)))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    jax.tree.map(lambda x, y: np.testing.assert_(x.sharding == y.sharding), found, wanted)


@pytest.mark.parametrize("sizes", [(1, 8, 1), (1, 1, 1)])
def test_an_average_is_kept_and_answers(tmp_path, sizes):
    of = state(make_mesh(MeshOptions(1, 8, 1)))
    of = of.replace(ema=jax.tree.map(lambda leaf: leaf / 3, of.params))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(4, of, RECORD)
        checkpoints.wait()
        wanted = abstract(make_mesh(MeshOptions(*sizes)))
        wanted = wanted.replace(ema=wanted.params)
        found, _ = checkpoints.restore(wanted)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), jax.device_get(of))
    jax.tree.map(lambda x, y: np.testing.assert_(x.sharding == y.sharding), found, wanted)
    params, _, _ = load_inference(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(of.ema))


def test_the_newest_are_kept(saved):
    assert sorted(path.name for path in (saved / "checkpoints").iterdir()) == ["3", "4"]


def test_inference_needs_the_workdir_only(saved):
    params, record, step = load_inference(saved)
    assert (record, step) == (RECORD["inference"], 4)
    assert isinstance(params["w"], np.ndarray)
    np.testing.assert_array_equal(params["w"], np.arange(64).reshape(8, 8) + 4)


def test_a_saved_state_may_be_donated_at_once(tmp_path):
    grow = jax.jit(lambda x: x + 1, donate_argnums=0)
    large = jnp.zeros((512, 1024))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, TrainState(jnp.int32(1), {"w": large}, ()), RECORD)
        for _ in range(20):
            large = grow(large)
        assert large[0, 0] == 20
    params, _, _ = load_inference(tmp_path)
    assert not params["w"].any()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm, says",
    [
        (cut, r"params/d/\w+ has \d+ bytes, \d+ were written"),
        (flip, r"params/d/\w+ is not what was written: its sha256 differs"),
        (Path.unlink, r"params/d/\w+: No such file"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_too(saved, harm, says):
    for path in (saved / "checkpoints" / "4" / "params" / "d").iterdir():
        harm(path)
    with pytest.raises(
        UserError, match=rf"checkpoints/4 is damaged \({says}.*go on from step 3"
    ) as error:
        load_inference(saved)
    assert "\n" not in str(error.value)


def test_every_array_file_is_recorded(saved):
    for step in ("3", "4"):
        folder = saved / "checkpoints" / step
        assert read_manifest(folder).record == RECORD
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["body"]["files"].keys() == {
            str(path.relative_to(folder)) for path in folder.glob("*/**/*") if path.is_file()
        }


def changed(old, new):
    def change(path):
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    "harm",
    [
        cut,
        *(lambda path, text=text: path.write_text(text) for text in ("", "[]", "{}", '{"a": 1}')),
        changed('"aus": [\n1,\n2\n]', '"aus": [\n1,\n9\n]'),
        changed('"record"', '"recorded"'),
        changed('"files"', '"file"'),
    ],
)
def test_a_damaged_manifest(saved, harm):
    harm(saved / "checkpoints" / "4" / "manifest.json")
    with pytest.raises(
        UserError, match=r"is damaged \(manifest.json cannot be read: .* step 3"
    ) as error:
        load_inference(saved)
    assert "\n" not in str(error.value)


def test_a_manifest_that_vouches_for_less_than_a_checkpoint(saved):
    path = saved / "checkpoints" / "4" / "manifest.json"
    digest = hashlib.sha256(b"{}").hexdigest()
    path.write_text(json.dumps({"body": {}, "sha256": digest}))
    with pytest.raises(UserError, match=r"damaged \(manifest.json cannot be read: KeyError"):
        load_inference(saved)


def test_no_manifest(saved):
    (saved / "checkpoints" / "4" / "manifest.json").unlink()
    words = "checkpoints/4 has no manifest.json: written by an older version, or damaged; remove"
    with pytest.raises(UserError, match=words):
        load_inference(saved)


@pytest.mark.parametrize("harm", [cut, Path.unlink, lambda path: path.write_text("{}")])
def test_nothing_is_read_from_the_files_that_the_manifest_leaves_out(saved, harm):
    folder = saved / "checkpoints" / "4"
    names = {path.name for path in folder.iterdir() if path.is_file()} - {"manifest.json"}
    assert "_CHECKPOINT_METADATA" in names
    for name in names:
        assert "aus" not in (folder / name).read_text()
        harm(folder / name)
    params, record, step = load_inference(saved)
    assert (record, step) == (RECORD["inference"], 4)
    np.testing.assert_array_equal(params["w"], np.arange(64).reshape(8, 8) + 4)


def test_a_restore_waits_for_what_is_being_saved(tmp_path):
    mesh = make_mesh(MeshOptions(1, 1, 1))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            record = RECORD | {"progress": {"next_batch": step}}
            checkpoints.save(step, state(mesh, step), record)
            found, told = checkpoints.restore(abstract(mesh))
            assert (found.step, told) == (step, record)


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="checkpoints is missing"):
        load_inference(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no finished checkpoint"):
        load_inference(tmp_path)


def test_digest_tells_values_apart_and_not_containers():
    params = {"b": np.float32([1, 2]), "a": {"c": np.float32([3])}}
    same = {"a": {"c": jnp.float32([3])}, "b": jnp.float32([1, 2])}
    assert params_digest(params) == params_digest(same)
    assert params_digest(params) != params_digest(params | {"b": np.float32([1, 3])})


def test_nothing_but_the_workdir_is_written(saved):
    assert [path.name for path in Path(saved).iterdir()] == ["checkpoints"]
