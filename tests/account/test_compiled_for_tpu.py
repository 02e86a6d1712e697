"""A tiny step compiled by the TPU's own compiler, which refuses a program that is too large."""

from dataclasses import replace

import pytest

from vlfau_jax.account.compile_only import compile_only
from vlfau_jax.account.topology import open_topology
from vlfau_jax.sharding.mesh import MeshOptions

pytest.importorskip("libtpu", reason='libtpu compiles for TPUs without one: pip install "jax[tpu]"')


# Of the smallest network vectors, which are gathered through sums, are no small part.
LARGER = {"backbone_width": 32, "depths": (0, 4, 0, 0), "heads": (1, 2, 2, 2), "width": 32}


def test_a_step_for_four_chips(silent):
    settings = silent(MeshOptions(2, 2, 1))
    # Products of float32 are of bfloat16 on a TPU: it gathers parameters in that.
    model = replace(settings.model, dtype="bfloat16", **LARGER)
    report = compile_only(replace(settings, model=model), "v5e:2x2", per_chip=8)
    assert report.device_kind == "TPU v5 lite" and report.devices == 4
    # What the compiler says when it refuses a program of 2 TB.
    assert report.memory_gb == pytest.approx(15.75 * 2**30 / 1e9)
    assert report.fits and 0 <= report.temporaries_gb < report.peak_gb < report.memory_gb
    assert report.hbm_gb_per_image > 0 and 0 < report.roofline_mfu < 1
    for kind in ("all-gather", "all-reduce"):
        found = report.collectives[kind]
        assert found.gb == pytest.approx(found.formula_gb, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("effort", [0.0, -1.0])
def test_scanned_and_rematerialised_blocks_gather_once(silent, effort):
    """In bfloat16, or as they are stored where XLA is told to optimise little."""
    settings = silent(MeshOptions(1, 4, 1), compile_effort=effort)
    model = replace(settings.model, dtype="bfloat16", scan_blocks=True, remat="dots", **LARGER)
    report = compile_only(replace(settings, model=model), "v5e:2x2", per_chip=2)
    found = report.collectives["all-gather"]
    assert found.gb == pytest.approx(found.formula_gb, rel=0.1)
    assert found.gb * 1e9 == pytest.approx(report.parameters * (4 if effort else 2), rel=0.1)


@pytest.mark.parametrize(
    ("name", "devices"), [("v4:2x2x1", 4), ("v5p:4x4x4", 64), ("v6e:1x1", 1), ("v7x:2x2x1", 8)]
)
def test_each_generation_has_the_devices_that_jax_sees(name, devices):
    assert len(open_topology(name)) == devices
