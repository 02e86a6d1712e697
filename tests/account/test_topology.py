"""Names of topologies: each mistake is one line that says what would be right."""

import importlib.util

import jax
import pytest

from vlfau_jax.account.devices import device_for
from vlfau_jax.account.topology import GPUS, TPUS, open_topology
from vlfau_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v9:2x2", r"unknown; give .*v5e:16x16.*h100:8"),
        ("", r"unknown; give .*v5e:16x16"),
        ("v5e", r"2 sides are needed; give one such as v5e:1x1, v5e:2x2"),
        ("v5e:2x2x1", r"2 sides are needed"),
        ("v5p:4x4", r"3 sides are needed; give one such as v5p:2x2x1"),
        ("v5e:0x2", r"2 sides are needed"),
        ("v5e:-2x2", r"2 sides are needed"),
        ("v5e:٢x٢", r"2 sides are needed"),
        ("v5e:32x32", r"1,024 chips, and no slice has more than 256"),
        ("v5e:9999x9999", r"no slice has more than 256"),
        ("h100", r"give h100:1 to h100:8, or a multiple of 8, at most h100:4096"),
        ("h100:0", r"give h100:1"),
        ("h100:12", r"give h100:1"),
        ("h100:99999", r"give h100:1"),
    ],
)
def test_what_is_no_topology_is_told_what_is(name, message):
    with pytest.raises(UserError, match=message) as error:
        open_topology(name)
    assert "\n" not in str(error.value) and f"--topology={name}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("v5e:2x2", f'pip install "jax[tpu]=={jax.__version__}"'),
        ("h100:8", 'pip install "jax[cuda13-local]=='),
    ],
)
def test_a_missing_compiler_is_named_with_the_command(name, command, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(UserError, match="is not installed") as error:
        open_topology(name)
    assert command in str(error.value)


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_a_gpu_is_described_as_the_table_of_devices_has_it(gpu):
    device = device_for(gpu.kind)
    assert gpu.bandwidth == pytest.approx(device.bandwidth, rel=0.01)
    # CUDA reports less than the sheet, whose GB are 10^9: some is kept for error correction.
    assert 0.95 * device.memory < gpu.memory < 1.10 * device.memory
    assert f'device_description_str: "{gpu.kind}"' in gpu.target()


def test_every_family_has_an_example_within_its_limit():
    for family in TPUS.values():
        assert all(len(one.split("x")) == family.dimensions for one in family.examples)
