"""A workdir in a bucket: what is sent, in which order, and what a kill or another run changes."""

import shutil
import signal

import pytest

from tests import kill_train
from tests.object_stores import emulated, need
from vlfau_jax.buckets import LEASES, Lease, Lost, open_bucket
from vlfau_jax.cli.main import main
from vlfau_jax.errors import InUse, RunError, UserError
from vlfau_jax.train import bucket_workdir
from vlfau_jax.train.bucket_workdir import _Mirror, copied_records, local_workdir


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request, tmp_path_factory):
    need(request.param)
    with emulated(request.param, tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture
def url(store, request):
    return f"{store}/{request.node.originalname}"


def listed(url):
    return open_bucket("--workdir", url).listed()


def checkpoint(folder, step, content="arrays"):
    (folder / f"checkpoints/{step}/params").mkdir(parents=True)
    (folder / f"checkpoints/{step}/params/d").write_text(content)
    (folder / f"checkpoints/{step}/manifest.json").write_text("{}")


def test_a_folder_is_itself(tmp_path):
    with local_workdir(str(tmp_path / "run"), writes=True) as folder:
        assert folder == tmp_path / "run"
    assert not folder.exists()


def test_what_a_run_leaves_is_in_the_bucket_and_nothing_under_way(url):
    with local_workdir(url, writes=True) as folder:
        (folder / "config.json").write_text("{}")
        checkpoint(folder, 2)
        (folder / "checkpoints/4.orbax-checkpoint-tmp").mkdir()
        (folder / "checkpoints/4.orbax-checkpoint-tmp/d").write_text("half")
        (folder / ".scores.json.partial").write_text("half")
        (folder / "run.lock").write_text("process 1")
        (folder / "link").symlink_to("config.json")
    step = {"checkpoints/2/params/d": 6, "checkpoints/2/manifest.json": 2}
    assert listed(url) == {"config.json": 2, **step}
    with local_workdir(url, writes=False) as copy:
        assert copy != folder
        assert (copy / "checkpoints/2/params/d").read_text() == "arrays"


def test_another_machine_goes_on_and_removes_what_is_gone(url):
    with local_workdir(url, writes=True) as folder:
        (folder / "metrics.jsonl").write_text("1\n")
        checkpoint(folder, 2)
    shutil.rmtree(folder)
    with local_workdir(url, writes=True) as folder:
        assert (folder / "metrics.jsonl").read_text() == "1\n"
        (folder / "metrics.jsonl").write_text("1\n2\n")
        checkpoint(folder, 4)
        shutil.rmtree(folder / "checkpoints/2")
    assert set(listed(url)) == {
        *("metrics.jsonl", "checkpoints/4/params/d", "checkpoints/4/manifest.json"),
    }


def test_a_checkpoint_is_sent_while_the_run_goes_on(url, monkeypatch):
    monkeypatch.setattr(bucket_workdir, "_LOOK_EVERY", 0.02)
    with local_workdir(url, writes=True) as folder:
        checkpoint(folder, 2)
        while "checkpoints/2/manifest.json" not in listed(url):
            pass


def mirror_of(url):
    bucket = open_bucket("--workdir", url)
    lease = Lease(bucket, 0.1)
    lease.claim()
    mirror = _Mirror(bucket, lease)
    mirror.fetch()
    return mirror, lease, bucket


def test_metrics_go_before_arrays_these_before_the_manifest_and_the_end_last(url):
    mirror, _, bucket = mirror_of(url)
    folder = bucket.local
    (folder / "final.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("1\n")
    checkpoint(folder, 2)
    sent = []
    put = type(bucket).put

    class Recorded(type(bucket)):
        def put(self, folder, names):
            sent.extend(names)
            put(self, folder, names)

    found = dict(sorted(mirror._here().items()))  # as a disk may list them: the manifest first
    mirror._here = lambda: found
    mirror._bucket = Recorded(bucket.flag, bucket.url, bucket.fs, bucket.root)
    mirror.send()
    assert sent == [
        *("metrics.jsonl", "checkpoints/2/params/d", "checkpoints/2/manifest.json", "final.json"),
    ]


def test_a_checkpoint_without_a_manifest_is_none_and_is_swept(url):
    mirror, lease, bucket = mirror_of(url)
    checkpoint(bucket.local, 2)
    (bucket.local / "checkpoints/2/manifest.json").unlink()
    mirror.send()  # as far as a killed process came
    lease.release()
    shutil.rmtree(bucket.local)
    with local_workdir(url, writes=True) as folder:
        assert not (folder / "checkpoints").exists()
    assert listed(url) == {}


def test_this_machine_goes_on_from_its_copy_unless_another_has_written_since(url):
    mirror, _, bucket = mirror_of(url)
    mirror.send()
    checkpoint(bucket.local, 2)  # and the process is killed before it is sent
    with local_workdir(url, writes=True, lease=0.1) as folder:
        assert (folder / "checkpoints/2").exists()
        while "checkpoints/2/manifest.json" not in listed(url):  # before anything new is there
            pass
    checkpoint(folder, 3)  # never sent
    other = Lease(bucket, 0.1)
    other.claim()
    other.release()
    with local_workdir(url, writes=True, lease=0.1) as folder:
        assert not (folder / "checkpoints/3").exists()
        assert (folder / "checkpoints/2").exists()


def test_two_runs_at_once_are_refused(url):
    with (
        local_workdir(url, writes=True, lease=0.4),
        pytest.raises(InUse, match="a run is going on here"),
        local_workdir(url, writes=True, lease=0.4),
    ):
        pass


def test_who_lost_the_lease_is_stopped_and_sends_nothing_more(url):
    stopped = []
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    try:
        with (
            pytest.raises(RunError, match="another process has taken over"),
            local_workdir(url, writes=True, lease=0.2) as folder,
        ):
            bucket = open_bucket("--workdir", url)
            bucket.fs.pipe_file(f"{bucket.root}/{LEASES}/99", b'{"token": "another"}')
            while not stopped:
                signal.sigtimedwait([], 0.01)
            checkpoint(folder, 2)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert listed(url) == {}


def test_a_copy_that_was_removed_empties_no_bucket(url):
    mirror, _, bucket = mirror_of(url)
    checkpoint(bucket.local, 2)
    mirror.send()
    shutil.rmtree(bucket.local)
    with pytest.raises(RunError, match="has been removed"):
        mirror.send()
    assert len(listed(url)) == 2


def test_a_store_that_fails_at_the_end_is_said_and_the_copy_is_kept(url, monkeypatch):
    monkeypatch.setattr(bucket_workdir.time, "sleep", lambda _: None)
    fails = lambda *_: (_ for _ in ()).throw(OSError("QuotaExceeded"))  # noqa: E731
    with (
        pytest.raises(RunError, match="the bucket is full") as caught,
        local_workdir(url, writes=True) as folder,
    ):
        checkpoint(folder, 2)
        monkeypatch.setattr("vlfau_jax.buckets.Bucket.put", fails)
    assert str(folder) in str(caught.value)
    monkeypatch.undo()
    with local_workdir(url, writes=True):
        pass
    assert "checkpoints/2/manifest.json" in listed(url)


def test_a_run_that_is_replaced_stays_in_the_bucket_until_the_new_one_has_a_checkpoint(url):
    mirror, _, bucket = mirror_of(url)
    folder = bucket.local
    checkpoint(folder, 2)
    mirror.send()
    before = listed(url)
    (folder / ".replaced").mkdir()  # as `train --overwrite` moves it aside
    shutil.move(folder / "checkpoints", folder / ".replaced")
    (folder / "config.json").write_text("{}")
    mirror.send()
    assert listed(url) == before
    checkpoint(folder, 1)
    shutil.rmtree(folder / ".replaced")
    mirror.send()
    assert {name.split("/")[1] for name in listed(url) if "/" in name} == {"1"}


@pytest.mark.parametrize("name", [".keep", "notes/.x", "checkpoints/README.md"])
def test_what_is_no_file_of_a_run_is_left_alone(url, name):
    bucket = open_bucket("--workdir", url)
    bucket.fs.pipe_file(f"{bucket.root}/{name}", b"mine")
    with local_workdir(url, writes=True) as folder:
        assert not (folder / name).exists()
    assert listed(url)[name] == 4


def test_a_checkpoint_that_is_removed_while_it_is_sent_leaves_nothing(url, capsys):
    mirror, _, bucket = mirror_of(url)
    folder = bucket.local
    checkpoint(folder, 2)
    (folder / "checkpoints/2/params/e").write_text("more")
    put = type(bucket).put

    class Removing(type(bucket)):
        def put(self, folder, names):
            if (folder / "checkpoints/2").exists() and "checkpoints/2/params/e" in names:
                put(self, folder, ["checkpoints/2/params/d"])
                shutil.rmtree(folder / "checkpoints/2")
            put(self, folder, names)

    mirror._bucket = Removing(bucket.flag, bucket.url, bucket.fs, bucket.root)
    mirror.send()
    assert listed(url) == {} and capsys.readouterr().err == ""


def test_copies_are_of_one_reader_each_and_go_with_it(url):
    with local_workdir(url, writes=True) as folder:
        checkpoint(folder, 2)
        (folder / "config.json").write_text("{}")
        (folder / "predictions.jsonl").write_text("{}")
    left = folder.with_name(f"{folder.name}.copy.killed")
    left.mkdir()
    with local_workdir(url, writes=False) as one, copied_records(url) as (other, writer):
        assert one != other and not left.exists() and writer == ""
        assert (one / "checkpoints/2/params/d").exists()
        found = {str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()}
        assert found == {"config.json", "checkpoints/2/manifest.json"}
    assert not one.exists() and not other.exists()


def test_an_empty_folder_is_no_run(url):
    with (
        pytest.raises(UserError, match="is empty; expected a run's folder"),
        local_workdir(url, writes=False),
    ):
        pass


def test_lost_is_no_reason_to_try_again():
    assert issubclass(Lost, RunError)


@pytest.mark.slow
def test_a_run_in_a_bucket_survives_kills_bit_for_bit(store, tmp_path):
    kills, faults = kill_train.test(tmp_path, kills=10, seed=5, bucket=f"{store}/killed")
    print(kill_train.summary(kills))
    assert not faults
    assert len(kills) == 10


def test_orbax_itself_still_refuses_s3():
    """Once it takes it, checkpoints may be written to both stores without a local copy."""
    from orbax.checkpoint._src.serialization import tensorstore_utils

    with pytest.raises(ValueError, match="should be absolute"):
        tensorstore_utils.build_kvstore_tspec("s3://faces/run/checkpoints/1", "params")


@pytest.mark.parametrize(
    "argv",
    [
        ("crossval", "--config=tests/tiny.py", "--workdir=s3://faces/cv"),
        ("export", "--workdir=runs/x", "--out=gs://faces/model"),
        ("predict", "--model=m", "--out=o", "s3://faces/picture.png"),
    ],
)
def test_other_places_in_a_bucket_are_refused(argv, capsys):
    assert main([*argv]) == 2
    assert "give a local place; in a bucket lie --workdir of train" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_in_a_bucket_is_evaluated_and_exported(store, workdir, tmp_path):
    url = f"{store}/evaluated"
    with local_workdir(url, writes=True) as folder:
        shutil.copytree(workdir, folder, dirs_exist_ok=True)
    assert main(["evaluate", f"--workdir={url}"]) == 0
    assert {"scores.json", "predictions.jsonl", "report.html"} <= listed(url).keys()
    assert main(["export", f"--workdir={url}", f"--out={tmp_path / 'model'}"]) == 0
    assert list((tmp_path / "model").iterdir())
