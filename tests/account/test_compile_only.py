"""compile_only with CPU devices in place of a topology's: all but the compilers of TPU and GPU."""

import contextlib
import dataclasses
import json
import threading

import jax
import pytest

from tests.account.reports import example_report
from tests.tiny import ONE_DEVICE
from tests.train.test_experiment import changed
from vlfau_jax.account import compile_only as module
from vlfau_jax.account import compiler
from vlfau_jax.account.compile_only import compile_only
from vlfau_jax.account.compiler import TooLarge, exhausted, interruptible, usable_memory
from vlfau_jax.account.devices import Device
from vlfau_jax.account.step_report import StepReport, shown
from vlfau_jax.account.topology import GPUS
from vlfau_jax.cli.main import main
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.records import read_record
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import build_experiment, published_program
from vlfau_jax.train.step import abstract_batch

CONTRACT = {
    "fits",
    "hbm_gb_per_image",
    "temporaries_gb",
    "peak_gb",
    "roofline_mfu",
    "roofline_images_per_second",
    "compile_seconds",
    "collectives",
    "parts",
}


def described(program):
    """Shapes, dtypes and shardings of all that a step is lowered from."""
    leaves = jax.tree_util.tree_leaves_with_path(program.abstract)
    state = [(jax.tree_util.keystr(path), x.shape, x.dtype, x.sharding) for path, x in leaves]
    return state, program.spec, program.model, program.micro_batches, program.mesh


@pytest.mark.parametrize(
    ("data", "mesh", "train"),
    [
        ({"name": "bp4d", "aus": ()}, MeshOptions(2, 4, 1), {}),
        ({"name": "bp4d", "aus": (12, 1)}, MeshOptions(-1, 2, 2), {"device_batch": 1}),
        ({"name": "disfa", "aus": ()}, ONE_DEVICE, {"batch_size": 3}),
        ({"name": "disfa", "aus": (25, 1, 12)}, ONE_DEVICE, {}),
        ({"name": "bp4d+disfa", "aus": ()}, MeshOptions(1, 8, 1), {}),
    ],
)
def test_without_data_the_program_is_the_one_that_train_builds(tiny, data, mesh, train):
    settings = changed(tiny(mesh, **train), data=data, optimizer={"ema_decay": 0.9})
    experiment = build_experiment(settings)
    assert described(published_program(settings, jax.devices())) == described(experiment)


def test_and_it_is_lowered_to_the_same_text(silent):
    settings = silent(MeshOptions(2, 2, 1))
    experiment = build_experiment(settings)
    program = published_program(settings, jax.devices())
    program = dataclasses.replace(program, class_weights=experiment.class_weights)
    lowered = [
        one.train_step().lower(one.abstract, abstract_batch(one.spec, one.mesh)).as_text()
        for one in (experiment, program)
    ]
    assert lowered[0] == lowered[1]


def test_only_a_prepared_folder_knows_its_units(tiny):
    settings = changed(tiny(), data={"name": "folder", "aus": ()})
    with pytest.raises(UserError, match=r"only a prepared set knows .*--config\.data\.aus="):
        published_program(settings, jax.devices())
    settings = changed(tiny(), data={"name": "folder", "aus": (12, 4)})
    assert published_program(settings, jax.devices()).model.au_count == 2
    with pytest.raises(UserError, match="twice"):
        published_program(changed(tiny(), data={"name": "bp4d+bp4d"}), jax.devices())
    with pytest.raises(UserError, match="AU3"):
        published_program(changed(tiny(), data={"aus": (3,)}), jax.devices())


@pytest.fixture
def topology(monkeypatch):
    """Eight CPU devices in place of every topology's, of known speed and 100 GB."""
    device = Device("test", "cpu", {"float32": 1e12, "bfloat16": 1e12}, 1e11, 1e11, 1e10, ())
    monkeypatch.setattr(module, "open_topology", lambda _: jax.devices())
    monkeypatch.setattr("vlfau_jax.account.topology.open_topology", lambda _: jax.devices())
    monkeypatch.setattr(module, "usable_memory", lambda _: 1e11)
    monkeypatch.setattr(module, "device_for", lambda _: device)


@pytest.fixture
def compiled_never(topology, monkeypatch):
    """What would be compiled is too large: 100.5 GB and 2 GB for every image of a device."""
    seen = []

    def compile_step(program):
        seen.append(program)
        images = program.settings.train.batch_size / program.mesh.size
        raise TooLarge(100.5e9 + 2e9 * images, 1e11)

    monkeypatch.setattr(module, "compile_step", compile_step)
    return seen


def test_the_account_of_a_real_step(silent, topology, tmp_path, capsys):
    out = tmp_path / "new" / "step.json"
    report = compile_only(silent(MeshOptions(2, 2, 1)), "v5e:2x2", per_chip=2, out=out)
    assert read_record(out, StepReport) == report
    assert json.loads(out.read_text()).keys() >= CONTRACT
    assert report.fits and report.over_gb == 0 and report.memory_gb == 100
    assert (report.devices, report.batch_size, report.per_chip) == (4, 8, 2)
    assert report.peak_gb > report.temporaries_gb > 0
    assert report.peak_gb > report.parameters_gb + report.optimizer_gb
    assert report.optimizer_gb == pytest.approx(2 * report.parameters_gb, rel=0.1)  # two moments
    # Products of a network this small are few; bytes are the limit.
    seconds = 2 * report.hbm_gb_per_image * 1e9 / 1e11
    assert report.bound == "memory"
    assert report.roofline_images_per_second == pytest.approx(2 / seconds)
    assert report.roofline_mfu == pytest.approx(
        report.gflop_per_image * report.roofline_images_per_second / 1e3
    )
    moved = sum(part.forward_hbm_mb + part.backward_hbm_mb for part in report.parts.values())
    assert moved / 1e3 == pytest.approx(report.hbm_gb_per_image)
    training = sum(part.training_gflop for part in report.parts.values())
    assert training == pytest.approx(report.gflop_per_image)
    gathered = report.collectives["all-gather"]
    assert gathered.gb == pytest.approx(gathered.formula_gb, rel=0.1)
    assert report.sent_gb > 0 and report.compile_seconds > 0 and report.lower_seconds > 0
    screen = capsys.readouterr().out
    assert "fits in 100.00 GB" in screen and "all-gather" in screen and "stage 4 mlp" in screen
    assert "stage 1 mlp" not in screen  # there is no block


def test_too_large_is_an_answer_and_no_failure(tiny, compiled_never, tmp_path, capsys):
    out = tmp_path / "step.json"
    report = compile_only(tiny(MeshOptions(8, 1, 1)), "v5e:2x4", per_chip=64, out=out)
    assert not report.fits and report.over_gb == pytest.approx(128.5)
    assert json.loads(out.read_text())["peak_gb"] == pytest.approx(228.5)
    assert report.temporaries_gb is None and report.roofline_mfu is None
    assert "does NOT fit: 128.50 GB more than 100.00 GB" in capsys.readouterr().out


@pytest.mark.parametrize(("fsdp", "tensor"), [(1, 1), (2, 2), (4, 2), (1, 8)])
def test_per_chip_counts_the_devices_that_split_the_batch(tiny, compiled_never, fsdp, tensor):
    report = compile_only(tiny(MeshOptions(-1, fsdp, tensor)), "v5e:2x4", per_chip=64)
    (program,) = compiled_never
    assert report.batch_size == program.spec["image"][0][0] == 64 * 8 // tensor
    assert report.mesh == {"data": 8 // fsdp // tensor, "fsdp": fsdp, "tensor": tensor}


def test_the_search_ignores_device_batch_and_keeps_the_last_that_fits(
    tiny, compiled_never, monkeypatch, capsys
):
    real = module.account_of

    def account_of(program, name):
        report = real(program, name)  # "too large", which this makes 100 GB less
        peak = report.peak_gb - 100
        fits, over = peak <= 100, max(0.0, peak - 100)
        full = {"temporaries_gb": 1.0, "hbm_gb_per_image": 1.0, "collectives": {}, "bound": "m"}
        full |= {"fits": fits, "over_gb": over, "peak_gb": peak}
        times = dict.fromkeys(("compile_seconds", "compile_cpu_seconds", "lower_seconds"), 1.0)
        roof = {"roofline_images_per_second": 1.0, "roofline_mfu": 0.1}
        return report.model_copy(
            update={"fits": fits, "over_gb": over, "peak_gb": peak} | full | times | roof
        )

    monkeypatch.setattr(module, "account_of", account_of)
    settings = tiny(MeshOptions(8, 1, 1), device_batch=4)
    report = compile_only(settings, "v5e:2x4", search_batch=True)
    assert report.per_chip == 48 and report.micro_batches == 1  # 0.5 + 2 * 49.75 = 100
    assert [(one.per_chip, one.fits) for one in report.search] == [
        (32, True),
        (48, True),
        (56, False),
    ]
    assert "48 images a device: fits" in capsys.readouterr().out


def test_what_does_not_divide_is_told_what_would(tiny, compiled_never):
    with pytest.raises(UserError, match=r"product 3 does not divide the 8 devices"):
        compile_only(tiny(MeshOptions(-1, 3, 1)), "v5e:2x4")
    with pytest.raises(UserError, match=r"train\.batch_size=12 does not split .*; 8 would"):
        compile_only(tiny(MeshOptions(8, 1, 1), batch_size=12), "v5e:2x4")
    assert not compiled_never


def test_a_file_in_the_way_is_told_before_the_work(tiny, compiled_never, tmp_path):
    (tmp_path / "step.json").write_text("mine")
    with pytest.raises(UserError, match=r"step\.json exists; give --overwrite"):
        compile_only(tiny(), "v5e:2x4", out=tmp_path / "step.json")
    with pytest.raises(UserError, match="is a folder"):
        compile_only(tiny(), "v5e:2x4", out=tmp_path)
    assert not compiled_never
    compile_only(tiny(), "v5e:2x4", out=tmp_path / "step.json", overwrite=True)
    assert read_record(tmp_path / "step.json", StepReport).devices == 1


def test_the_verb(compiled_never, capsys, tmp_path):
    argv = ["compile_only", "--config=tests/tiny.py", "--topology=v5e:2x4"]
    assert main([*argv, "--per_chip=2", "--config.mesh.fsdp=4"]) == 0
    (program,) = compiled_never
    assert dict(program.mesh.shape) == {"data": 2, "fsdp": 4, "tensor": 1}
    assert "v5e:2x4: 8 x cpu" in capsys.readouterr().out
    table = tmp_path / "table.py"
    table.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    row = {'device_kind': 'cpu', 'train': {'device_batch': 1}}\n"
        "    return ConfigDict({'rows': (ConfigDict(row),)})\n"
    )
    assert main([*argv, "--per_chip=2", f"--hardware={table}"]) == 0
    assert compiled_never[1].micro_batches == 2
    assert "hardware: cpu: train.device_batch=1" in capsys.readouterr().err
    assert main([*argv, "--per_chip=0"]) == 2


@pytest.mark.parametrize("name", ["v5e:3", "moon:1"])
def test_the_verb_names_what_would_be_right(name, capsys):
    assert main(["compile_only", "--config=tests/tiny.py", f"--topology={name}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --topology={name}: ") and "give" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("message", "sizes"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (16.37G) exceeds available HBM (15.75G).",
            (16.37 * 2**30, 15.75 * 2**30),
        ),
        (
            "Ran out of memory in memory space hbm. Used 1.50T of 15.75G hbm. Exceeded ...",
            (1.5 * 2**40, 15.75 * 2**30),
        ),
        ("Ran out of memory in memory space vmem. Used 130.00M of 128.00M vmem.", None),
        ("INTERNAL: something else", None),
    ],
)
def test_a_compiler_without_memory_says_how_much_it_needs(message, sizes):
    assert exhausted(message) == (sizes and pytest.approx(sizes))


def test_another_failure_of_the_compiler_is_one(monkeypatch):
    class Lowered:
        def compile(self, compiler_options):
            raise jax.errors.JaxRuntimeError("INTERNAL: Mosaic failed\nto compile")

    with pytest.raises(RunError, match="the compiler failed: INTERNAL: Mosaic failed to compile"):
        compiler._compile(Lowered())
    assert jax.config.jax_enable_compilation_cache


def test_a_program_that_jax_keeps_is_compiled_anew():
    hits = []

    def listen(event, **_):
        hits.append(event.endswith("compilation_cache/cache_hits"))

    def loaded(compile_one):
        jax.clear_caches()
        hits.clear()
        shape = jax.ShapeDtypeStruct((7,), "float32")
        compile_one(jax.jit(lambda x: x * 3 + 11).lower(shape))
        return any(hits)

    jax.monitoring.register_event_listener(listen)
    try:
        loaded(lambda lowered: lowered.compile())
        assert loaded(lambda lowered: lowered.compile())
        assert not loaded(compiler._compile)
        assert loaded(lambda lowered: lowered.compile())
    finally:
        jax.monitoring.unregister_event_listener(listen)


def test_of_a_gpus_memory_jax_takes_three_quarters():
    class Fake:
        device_kind = GPUS["h100"].kind

    assert usable_memory(Fake()) == 0.75 * GPUS["h100"].memory


def test_a_compiler_can_be_interrupted(monkeypatch):
    assert interruptible(lambda: 7, "waiting") == 7
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 / 0, "dividing")
    registered, go_on = [], threading.Event()
    monkeypatch.setattr(compiler.atexit, "register", lambda *call: registered.append(call))

    def interrupt(self, timeout=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "join", interrupt)
        with contextlib.suppress(KeyboardInterrupt):
            interruptible(go_on.wait, "compiling")
    ((leave, thread),) = registered
    left = []
    monkeypatch.setattr(compiler.os, "_exit", left.append)
    leave(thread)
    assert left == [130]
    go_on.set()
    thread.join()
    leave(thread)
    assert left == [130]


def test_the_record_is_shown_without_collectives_on_one_device():
    text = shown(example_report(micro_batches=2, collectives={}, sent_gb=0.0, uncounted_loops=3))
    assert "32 a device in 2 parts" in text and "3 loops of unknown length" in text
    assert "sent" not in text
