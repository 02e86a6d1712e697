import errno
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.data.sets import coded, write_set
from vlfau_jax.account import data_benchmark as benchmark
from vlfau_jax.account.data_benchmark import benchmark_data
from vlfau_jax.cli.main import main
from vlfau_jax.cli.settings import resolve
from vlfau_jax.data.read.pipeline import Faces
from vlfau_jax.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    write_set(folder, "bp4d", coded(np.random.default_rng(1), "bp4d", ("F001", "F004"), 200))
    return folder


@pytest.fixture
def settings(data_dir):
    def make(**data):
        return resolve(
            {
                "data": {"data_dir": str(data_dir), "image_size": 32, "erasing": 0.25, **data},
                "model": {"window": 2, "patch": 2},
                "train": {"batch_size": 8},
                "mesh": {"data": 64},  # more devices than this machine has: the mesh is not read
            }
        )

    return make


@pytest.mark.parametrize("parallel", [{"threads": 0}, {"threads": 2}, {"threads": 1, "workers": 1}])
def test_the_numbers_fit_together(settings, tmp_path, capsys, parallel):
    found = benchmark_data(settings(**parallel), seconds=0.3, out=tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == found
    assert list(tmp_path.iterdir()) == [tmp_path / "b.json"]
    assert found["images"] >= 8 and found["images"] % 8 == 0
    assert found["seconds"] >= 0.3
    rate = found["images_per_second"]
    assert rate == pytest.approx(found["images"] / found["seconds"])
    assert rate == pytest.approx(
        found["ratio_to_plain_decode"] * found["plain_decode_images_per_second"]
    )
    assert rate == pytest.approx(found["ratio_to_floor"] * found["floor_images_per_second"])
    each = sum(found["stage_ms"].values())
    assert min(found["stage_ms"].values()) > 0
    assert found["faces"] == 200 and found["augmentation"]["erasing"] == 0.25  # F004 is tested
    if "workers" in parallel:
        assert found["cpu_ms_per_image"] is found["rest_ms"] is None
        assert found["bound_images_per_second"] == pytest.approx(found["cores"] * 1e3 / each)
    else:
        whole = max(found["cpu_ms_per_image"], each)  # timed apart: the stages may take more
        assert found["rest_ms"] == pytest.approx(whole - each)
        assert found["bound_images_per_second"] == pytest.approx(found["cores"] * 1e3 / whole)
    screen = capsys.readouterr().out
    assert f"{rate:.0f} images/s" in screen and "decode" in screen
    assert ("grain and queues" in screen) == ("workers" not in parallel)


def test_a_slow_stage_is_timed_in_its_own_place(settings, monkeypatch):
    now = 0.0
    clock = SimpleNamespace(process_time=lambda: now, perf_counter=lambda: now)

    def takes(seconds, work):
        def slow(*args, **named):
            nonlocal now
            now += seconds
            return work(*args, **named)

        return slow

    monkeypatch.setattr(benchmark, "time", clock)
    monkeypatch.setattr(Faces, "decode", takes(0.001, Faces.decode))
    monkeypatch.setattr(Faces, "draw", takes(0.004, Faces.draw))
    plain = benchmark.simplejpeg.decode_jpeg
    monkeypatch.setattr(benchmark.simplejpeg, "decode_jpeg", takes(0.0005, plain))
    found = benchmark_data(settings(threads=0), seconds=0.2)
    for stage, ms in found["stage_ms"].items():
        assert ms == pytest.approx({"decode": 1.5, "augment": 4}.get(stage, 0)), stage
    assert found["cpu_ms_per_image"] == pytest.approx(5.5)
    assert found["rest_ms"] == pytest.approx(0)
    assert found["images_per_second"] == pytest.approx(1e3 / 5.5)
    assert found["bound_images_per_second"] == pytest.approx(found["cores"] * 1e3 / 5.5)
    assert found["plain_decode_images_per_second"] == pytest.approx(2000)
    assert found["floor_images_per_second"] == pytest.approx(found["cores"] * 2000)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 1e9])
def test_seconds_out_of_range_are_refused(settings, seconds):
    with pytest.raises(UserError, match="--seconds="):
        benchmark_data(settings(), seconds=seconds)


def test_a_file_that_cannot_be_written_is_refused_before_the_work(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out=.*file is not a folder"):
        benchmark_data(settings(), out=tmp_path / "file" / "b.json")
    with pytest.raises(UserError, match=r"--out=.*is a folder"):
        benchmark_data(settings(), out=tmp_path)
    (tmp_path / "b.json").write_text("mine")
    with pytest.raises(UserError, match=r"--out=.*b\.json exists; give --overwrite"):
        benchmark_data(settings(), out=tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text() == "mine"


def test_the_verb(data_dir, tmp_path, capsys):
    argv = ["benchmark", "--config=configs/demo.py", f"--config.data.data_dir={data_dir}"]
    argv += ["--seconds=0.1"]
    out = tmp_path / "b.json"
    out.write_text("older")
    assert main([*argv, "--data", f"--out={out}", "--overwrite"]) == 0
    assert "24 to 112 pixels" in capsys.readouterr().out
    assert json.loads(out.read_text())["faces"] == 200


def test_two_do_not_write_one_file(settings, tmp_path, monkeypatch):
    out = tmp_path / "new/b.json"

    def beside(*_: object) -> None:
        with pytest.raises(UserError, match=r"b\.json is being written by another process"):
            benchmark_data(settings(threads=0), seconds=0.01, out=out)
        raise OSError(errno.ENOSPC, "No space left on device", str(out))

    monkeypatch.setattr(benchmark, "_stages", beside)
    with pytest.raises(OSError, match="No space"):
        benchmark_data(settings(threads=0), seconds=0.01, out=out)
    assert not (tmp_path / "new").exists()


def test_a_link_in_the_way_stays(settings, tmp_path):
    (tmp_path / "b.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"b\.json exists"):
        benchmark_data(settings(), out=tmp_path / "b.json")
    (tmp_path / ".c.json.partial").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"c\.json\.partial is in the way"):
        benchmark_data(settings(), out=tmp_path / "c.json")
    assert not (tmp_path / "nowhere").exists()
