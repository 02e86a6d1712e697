import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.train.records import RECORD
from vlfau_jax.errors import UserError
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train import checkpoint as checkpointing
from vlfau_jax.train import read_checkpoint as reading
from vlfau_jax.train.checkpoint import Checkpoints, load_inference, params_digest
from vlfau_jax.train.loop import train
from vlfau_jax.train.manifest import check_files, read_manifest
from vlfau_jax.train.state import TrainState


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


@pytest.mark.parametrize("before", [(8, 1, 1), (2, 2, 2), (1, 8, 1)])
@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2), (1, 1, 1)])
def test_restored_onto_any_mesh(tmp_path, before, sizes):
    wanted = abstract(make_mesh(MeshOptions(*sizes)))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(4, state(make_mesh(MeshOptions(*before))), RECORD)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
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


def names(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_the_best_stay_beside_the_newest_also_after_a_resume(tmp_path):
    mesh = make_mesh(MeshOptions(1, 1, 1))
    scores = {1: 0.3, 2: 0.9, 3: 0.5, 4: None, 5: 0.7, 6: float("nan"), 7: 0.1, 8: 0.7, 9: 0.2}
    kept = {4: [2, 3, 4], 6: [2, 5, 6], 9: [2, 8, 9]}  # of two equals the newer one
    for part in (range(1, 5), range(5, 7), range(7, 10)):
        with Checkpoints(tmp_path, keep=1, keep_best=2) as checkpoints:
            for step in part:
                checkpoints.save(step, state(mesh, step), RECORD, scores[step])
        assert names(tmp_path) == kept[part[-1]]
    assert load_inference(tmp_path, "best")[2] == 2
    assert load_inference(tmp_path, "8")[2] == 8
    # A kill in the middle of a removal leaves a part, with or without its score.
    (tmp_path / "checkpoints" / "2" / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "metrics")
    assert load_inference(tmp_path, "best")[2] == 8
    with Checkpoints(tmp_path, keep=1, keep_best=2) as checkpoints:
        checkpoints.save(10, state(mesh, 10), RECORD, 0.1)
    assert names(tmp_path) == [8, 9, 10]


@pytest.mark.slow
def test_a_run_keeps_its_best_and_saves_at_every_score(silent, tmp_path):
    scores = iter((0.2, 0.6, 0.4, 0.5))
    settings = silent(steps=4, eval_every=1, keep_best=1, keep=1, checkpoint_every=100)
    settings = replace(settings, data=replace(settings.data, fold=1))
    train(settings, tmp_path, evaluator=lambda *_: {"mean_f1": next(scores)})
    assert names(tmp_path) == [2, 4]
    assert load_inference(tmp_path, "best")[2] == 2
    with pytest.raises(UserError, match=r"keep_best=1: nothing is scored; give train\.eval_every"):
        silent(keep_best=1)


def test_choices_that_are_not_there(saved):
    for choice, message in (
        ("best", r"holds step 3, 4, none of them scored; train with train\.eval_every"),
        ("2", r"--checkpoint=2: .*holds step 3, 4; give one of them, last or best"),
        ("newest", r"--checkpoint=newest: .*give one of them"),
    ):
        with pytest.raises(UserError, match=message):
            load_inference(saved, choice)


def test_other_arrays_are_refused_before_any_is_read(saved, monkeypatch):
    monkeypatch.setattr(checkpointing, "read_device_arrays", lambda *_: pytest.fail("read"))
    wanted = abstract(make_mesh(MeshOptions(1, 1, 1)))
    shape, dtype = jax.ShapeDtypeStruct((8, 9), jnp.float32), jax.ShapeDtypeStruct((8, 8), "int32")
    for other, message in (
        (
            wanted.replace(params={"w": shape}),
            r"params/w is float32\[8, 8\] there, float32\[8, 9\]",
        ),
        (wanted.replace(params={"w": dtype}), r"params/w is float32\[8, 8\] there, int32\[8, 8\]"),
        (
            wanted.replace(params=wanted.params | {"v": shape}),
            r"v is absent there, float32.* here;",
        ),
        (
            wanted.replace(opt_state=()),
            r"opt_state/0/w is .* there, absent here, and 1 more differ",
        ),
    ):
        with (
            Checkpoints(saved, keep=2) as checkpoints,
            pytest.raises(UserError, match=message) as e,
        ):
            checkpoints.restore(other)
        assert "\n" not in str(e.value)


def test_a_record_may_be_refused_before_any_array_is_read(saved, monkeypatch):
    monkeypatch.setattr(checkpointing, "read_device_arrays", lambda *_: pytest.fail("read"))

    def refuse(record):
        raise UserError(f"not with {record['inference']}")

    with Checkpoints(saved, keep=2) as checkpoints, pytest.raises(UserError, match="not with"):
        checkpoints.restore(abstract(make_mesh(MeshOptions(1, 1, 1))), refuse)


def test_a_run_that_goes_on_may_be_read_and_its_drafts_stay(tmp_path):
    mesh = make_mesh(MeshOptions(1, 1, 1))
    draft = tmp_path / "checkpoints" / "99.orbax-checkpoint-tmp"
    seen = []
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state(mesh, 1), RECORD)
        checkpoints.wait()
        draft.mkdir()
        for step in range(2, 20):
            checkpoints.save(step, state(mesh, step), RECORD)
            params, _, found = load_inference(tmp_path)
            np.testing.assert_array_equal(params["w"], np.arange(64).reshape(8, 8) + found)
            seen.append(found)
        assert draft.is_dir()
    assert seen == sorted(seen) and seen[-1] >= 18
    with Checkpoints(tmp_path, keep=1) as checkpoints:  # the next run's
        checkpoints.save(20, state(mesh, 20), RECORD)
    assert not draft.exists()


@pytest.mark.parametrize("left", ["nothing", "a part"])
def test_a_checkpoint_removed_while_it_is_read(saved, monkeypatch, left):
    read, folder = checkpointing.read_host_arrays, saved / "checkpoints"
    (folder / "4").rename(saved / "newer")

    def remove_and_read(path, items):
        monkeypatch.undo()
        (saved / "newer").rename(folder / "4")
        if left == "nothing":
            shutil.rmtree(path)
        else:
            (path / "manifest.json").unlink()
            shutil.rmtree(path / "params" / "d")
        return read(path, items)

    monkeypatch.setattr(checkpointing, "read_host_arrays", remove_and_read)
    assert load_inference(saved)[2] == 4
    if left == "nothing":
        with pytest.raises(UserError, match=r"--checkpoint=3: .*holds step 4; give one"):
            load_inference(saved, "3")


def test_the_step_to_go_on_from_is_a_good_one(saved):
    mesh = make_mesh(MeshOptions(1, 1, 1))
    with Checkpoints(saved, keep=3) as checkpoints:
        checkpoints.save(5, state(mesh, 5), RECORD)
    cut(saved / "checkpoints" / "5" / "manifest.json")
    (saved / "checkpoints" / "4" / "manifest.json").unlink()
    with pytest.raises(
        UserError, match=r"5 is damaged .*move that folder away to go on from step 3$"
    ):
        load_inference(saved)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm, fault",
    [
        (cut, r"params/d/\w+: has \d+ bytes, \d+ were written"),
        (flip, r"params/d/\w+: is not what was written: its sha256 differs"),
        (Path.unlink, r"params/d/\w+: cannot be read: No such file"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_too(saved, harm, fault):
    for path in (saved / "checkpoints" / "4" / "params" / "d").iterdir():
        harm(path)
    with pytest.raises(
        UserError, match=rf"checkpoints/4 is damaged \({fault}.*go on from step 3"
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
    with pytest.raises(UserError, match=r"is damaged \(manifest.json: .* step 3") as error:
        load_inference(saved)
    assert "\n" not in str(error.value)


def test_a_manifest_that_vouches_for_less_than_a_checkpoint(saved):
    path = saved / "checkpoints" / "4" / "manifest.json"
    digest = hashlib.sha256(b"{}").hexdigest()
    path.write_text(json.dumps({"body": {}, "sha256": digest}))
    with pytest.raises(UserError, match=r"damaged \(manifest.json: body.record is missing \(and 1"):
        load_inference(saved)


def test_no_manifest(saved):
    (saved / "checkpoints" / "4" / "manifest.json").unlink()
    words = "checkpoints/4 has no manifest.json: written by an earlier version, or damaged; move"
    with pytest.raises(UserError, match=words):
        load_inference(saved)


@pytest.mark.parametrize("harm", [cut, Path.unlink, lambda path: path.write_text("{}")])
def test_nothing_is_read_from_the_files_that_the_manifest_leaves_out(saved, harm):
    folder = saved / "checkpoints" / "4"
    beside = {path.name for path in folder.iterdir() if path.is_file()} - {"manifest.json"}
    assert "_CHECKPOINT_METADATA" in beside
    for name in beside:
        assert "aus" not in (folder / name).read_text()
        harm(folder / name)
    params, record, step = load_inference(saved)
    assert (record, step) == (RECORD["inference"], 4)
    np.testing.assert_array_equal(params["w"], np.arange(64).reshape(8, 8) + 4)


def test_a_restore_waits_for_what_is_being_saved(tmp_path):
    mesh = make_mesh(MeshOptions(1, 1, 1))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            record = RECORD | {"progress": {"next_batch": step, "seconds": {}}}
            checkpoints.save(step, state(mesh, step), record)
            found, restored = checkpoints.restore(abstract(mesh))
            assert (found.step, restored) == (step, record)


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="checkpoints is missing"):
        load_inference(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no finished checkpoint"):
        load_inference(tmp_path)


def test_digest_depends_on_values_and_not_on_containers():
    params = {"b": np.float32([1, 2]), "a": {"c": np.float32([3])}}
    same = {"a": {"c": jnp.float32([3])}, "b": jnp.float32([1, 2])}
    assert params_digest(params) == params_digest(same)
    assert params_digest(params) != params_digest(params | {"b": np.float32([1, 3])})


def test_nothing_but_the_workdir_is_written(saved):
    assert [path.name for path in Path(saved).iterdir()] == ["checkpoints"]


def as_earlier(monkeypatch, lists_arrays, moments=lambda moments: moments):
    """Makes checkpoints what versions wrote that skipped no step."""
    items, arrays = checkpointing._items, checkpointing.describe_arrays

    def earlier(state):
        found = items(state)
        del found["optimizer"]["skipped"]
        found["optimizer"]["opt_state"] = moments(found["optimizer"]["opt_state"])
        return found

    monkeypatch.setattr(checkpointing, "_items", earlier)
    describe = arrays if lists_arrays else lambda items: {}
    monkeypatch.setattr(checkpointing, "describe_arrays", describe)


@pytest.mark.parametrize("lists_arrays", [True, False])
def test_a_run_of_an_earlier_version_goes_on(tmp_path, monkeypatch, lists_arrays):
    mesh = make_mesh(MeshOptions(1, 8, 1))
    with monkeypatch.context() as patch, Checkpoints(tmp_path, keep=1) as checkpoints:
        as_earlier(patch, lists_arrays)
        checkpoints.save(4, state(mesh), RECORD)
        checkpoints.wait()
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        found, _ = checkpoints.restore(abstract(mesh))
    jax.tree.map(np.testing.assert_array_equal, found, state(mesh))
    jax.tree.map(lambda x, y: np.testing.assert_(x.sharding == y.sharding), found, abstract(mesh))


def test_a_good_checkpoint_that_cannot_be_resumed_stays(tmp_path, monkeypatch):
    mesh = make_mesh(MeshOptions(1, 1, 1))
    with monkeypatch.context() as patch, Checkpoints(tmp_path, keep=1) as checkpoints:
        as_earlier(patch, False, moments=lambda moments: moments[0])
        checkpoints.save(4, state(mesh), RECORD)
        checkpoints.wait()
    message = (
        r"4 does not fit this network: optimizer/opt_state/.*; use .* the version that wrote it"
    )
    with Checkpoints(tmp_path, keep=1) as checkpoints, pytest.raises(UserError, match=message) as e:
        checkpoints.restore(abstract(mesh))
    assert "\n" not in str(e.value) and "away" not in str(e.value)
    shapes = abstract(mesh).params
    params, _, step = load_inference(tmp_path, shapes=lambda record: shapes)
    assert step == 4
    np.testing.assert_array_equal(params["w"], state(mesh).params["w"])


def test_an_average_that_is_being_removed_is_not_replaced(tmp_path, monkeypatch):
    of = state(make_mesh(MeshOptions(1, 1, 1)))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(4, of.replace(ema=jax.tree.map(lambda leaf: leaf / 3, of.params)), RECORD)

    def check(path, manifest):
        check_files(path, manifest)
        shutil.rmtree(path / "ema")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="4 cannot be read"):
        patch.setattr(reading, "check_files", check)
        load_inference(tmp_path)


def test_one_run_at_a_time_by_whatever_name(saved, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "checkpoints").symlink_to(saved / "checkpoints")
    with Checkpoints(saved, keep=2), pytest.raises(UserError, match="written by another process"):
        Checkpoints(other, keep=2)
    with Checkpoints(other, keep=2) as checkpoints:
        assert checkpoints.latest == 4
