"""Peaks of devices, MFU and roofline times."""

import re
from dataclasses import replace

import pytest

from vlfau_jax.account import devices
from vlfau_jax.account.devices import DEVICES, Device, device_for
from vlfau_jax.account.roofline import mfu, roofline
from vlfau_jax.errors import UserError

SOME = Device("some", "some", {"bfloat16": 100e12, "float32": 50e12}, 16e9, 1e12, 1e11, ("here",))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v4", "TPU v4"),
        ("TPU v5 lite", "TPU v5e"),
        ("TPU v5e", "TPU v5e"),
        ("TPU v5", "TPU v5p"),
        ("TPU v5p", "TPU v5p"),
        ("TPU v6 lite", "TPU v6e"),
        ("TPU7x", "TPU7x"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40 GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80 GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
    ],
)
def test_kinds_of_devices(kind, name):
    assert device_for(kind).name == name


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match=r"'TPU v9'; known are TPU v4, .* and cpu"):
        device_for("TPU v9")


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_every_figure_has_a_source_and_a_likely_size(device):
    assert device.sources
    assert all(re.fullmatch(r"https://\S+", source) for source in device.sources)
    assert 1e14 < device.peak("bfloat16") < 3e15
    assert 30 * 2**28 < device.memory < 2e11 and 5e11 < device.bandwidth < 1e13
    # Dense: float32 at half the rate of bfloat16 on a GPU, as bfloat16 on a TPU.
    tpu = device.name.startswith("TPU")
    share = device.peak("float32") / device.peak("bfloat16")
    assert share == 1 if tpu else share == pytest.approx(0.5, abs=0.02)


def test_the_cpu_is_measured(monkeypatch):
    monkeypatch.setattr(devices, "_best_seconds", lambda function, calls=8: 0.5)
    devices.measured_cpu.cache_clear()
    found = device_for("cpu")
    devices.measured_cpu.cache_clear()
    assert found.peak("float32") == 2 * 1536**3 / 0.5
    assert found.bandwidth == 2 * 2**28 / 0.5
    assert found.interconnect is None and "measured" in found.sources[0]


def test_mfu():
    assert mfu(flops=5e12, seconds=0.1, peak=100e12) == 0.5


@pytest.mark.parametrize(
    ("changed", "seconds", "bound"),
    [
        ({}, 0.5, "compute"),
        ({"hbm_bytes": 8e11}, 0.8, "memory"),
        ({"sent_bytes": 9e10}, 0.9, "collectives"),
        ({"computed_flops": 70e12}, 0.7, "compute"),  # what is computed twice takes time
    ],
)
def test_roofline(changed, seconds, bound):
    work = {"images": 32, "flops": 50e12, "hbm_bytes": 1e11, "sent_bytes": 1e9} | changed
    found = roofline(SOME, "bfloat16", **work)
    assert (found.seconds, found.bound) == (pytest.approx(seconds), bound)
    assert found.images_per_second == pytest.approx(32 / seconds)
    assert found.mfu == pytest.approx(0.5 / seconds)


def test_roofline_of_float32_and_of_an_unknown_interconnect():
    found = roofline(SOME, "float32", images=1, flops=50e12, hbm_bytes=0)
    assert (found.compute, found.mfu, found.collectives) == (1, 1, 0)
    apart = replace(SOME, interconnect=None)
    found = roofline(apart, "bfloat16", images=1, flops=1, hbm_bytes=0, sent_bytes=1)
    assert found.collectives is None and found.bound == "compute"
