import json
import os

import jax
import pytest

from tests.processes import Process
from vlfau_jax.cli import program_cache
from vlfau_jax.cli.main import VERBS
from vlfau_jax.cli.program_cache import MOST_BYTES, use_program_cache
from vlfau_jax.train import rounding


@pytest.fixture
def config(monkeypatch, tmp_path):
    """JAX as a new process has it, and a cache folder of this test's own."""
    keys = (
        "jax_compilation_cache_dir",
        "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_enable_compilation_cache",
    )
    before = {key: getattr(jax.config, key) for key in keys}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield jax.config
    for key, value in before.items():
        jax.config.update(key, value)


def test_the_folder_is_this_users_alone_and_of_this_kind_of_machine(config, tmp_path, monkeypatch):
    folder = use_program_cache()
    assert folder.parent == tmp_path / "cache/vlfau_jax/xla"
    assert config.jax_compilation_cache_dir == str(folder)
    assert config.jax_compilation_cache_max_size == MOST_BYTES
    for place in (folder, folder.parent, folder.parent.parent):
        assert place.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(program_cache.platform, "machine", lambda: "another")
    jax.config.update("jax_compilation_cache_dir", None)
    other = use_program_cache()
    assert other.parent == folder.parent and other != folder


@pytest.mark.parametrize("change", ["cores", "threads"])
def test_another_number_of_cores_has_its_own_folder(config, monkeypatch, change):
    monkeypatch.setenv("PJRT_NPROC", "1")
    folder = use_program_cache()
    if change == "cores":
        monkeypatch.setattr(rounding, "cpu_cores", lambda: 1000)
    else:
        monkeypatch.setenv("PJRT_NPROC", "2")
    jax.config.update("jax_compilation_cache_dir", None)
    assert use_program_cache() != folder


def test_what_the_user_set_stays(config, tmp_path, capsys):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    assert use_program_cache() is None
    assert config.jax_compilation_cache_dir == str(tmp_path / "own")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    assert use_program_cache() is None
    assert config.jax_compilation_cache_dir is None
    assert not (tmp_path / "cache").exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("level", ["vlfau_jax", "vlfau_jax/xla"])
@pytest.mark.parametrize("fault", ["writable", "link", "file", "owner"])
def test_a_folder_that_cannot_be_trusted_is_not_used(
    config, tmp_path, monkeypatch, capsys, level, fault
):
    place = tmp_path / "cache" / level
    place.parent.mkdir(parents=True, mode=0o700)
    if fault == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    elif fault == "file":
        place.write_text("")
    else:
        place.mkdir(mode=0o700)
    if fault == "writable":
        place.chmod(0o770)
    if fault == "owner":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert use_program_cache() is None
    assert config.jax_compilation_cache_dir is None
    assert "warning: compiled programs are not kept" in capsys.readouterr().err


def test_no_home_and_no_room_are_no_error(config, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/1/nowhere")
    assert use_program_cache() is None
    assert "not kept" in capsys.readouterr().err
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(program_cache.Path, "home", lambda: program_cache.Path("/dev/null"))
    assert use_program_cache() is None
    assert "not kept" in capsys.readouterr().err


def test_the_verbs_that_compile_keep_their_programs():
    keeping = {name for name, verb in VERBS.items() if verb.keeps_programs}
    training = {"train", "evaluate", "crossval", "ablate"}
    assert keeping == training | {"export", "predict", "explain", "serve", "transfer"}


@pytest.mark.slow
def test_runs_repeat_to_the_bit_with_kept_programs_and_without(prepared, tmp_path):
    def digest(name, **env):
        argv = ["train", "--config=tests/tiny.py", f"--workdir={tmp_path / name}"]
        argv += [f"--config.data.data_dir={prepared}", "--config.data.image_size=32"]
        # XLA divides sums among threads: two, on however many cores the tests run.
        own = {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
        # All programs are kept, however long each took to compile: the second run adds none.
        own |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        with Process(argv, 1, tmp_path / "logs", PJRT_NPROC="2", **own | env) as process:
            assert process.wait() == 0, process.log
        return json.loads((tmp_path / name / "final.json").read_text())["params_digest"]

    first = digest("first")
    (folder,) = (tmp_path / "cache/vlfau_jax/xla").iterdir()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
    assert any(path.name.startswith("jit_step") for path in kept)
    assert digest("second") == first
    assert kept == {path: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
    assert digest("none", JAX_ENABLE_COMPILATION_CACHE="0") == first
