"""HBM traffic of small programs that libtpu compiles for a TPU v5e, against hand values."""

import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlfau_jax.account import hlo
from vlfau_jax.account.devices import DEVICES, device_for
from vlfau_jax.account.traffic import traffic

pytestmark = pytest.mark.slow

BF16, F32, S32 = jnp.bfloat16, jnp.float32, jnp.int32
SCALARS = 30_000  # counters and indices, 512 bytes each time they are read or written


@pytest.fixture(scope="module")
def chip():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("pip install libtpu, and these tests compile for a TPU v5e")
    with pytest.MonkeyPatch.context() as patch:
        if "TPU_SKIP_MDS_QUERY" not in os.environ:
            patch.setenv("TPU_SKIP_MDS_QUERY", "1")
        try:
            found = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
        except Exception as error:  # one process at a time may load libtpu
            if "lockfile" in str(error):
                pytest.skip(f"another process compiles for a TPU: {error}")
            raise
        return found.devices[0]


@pytest.fixture
def compiled(chip):
    sharding = NamedSharding(Mesh(np.array([chip]), ("chip",)), PartitionSpec())

    def compiled(function, *shapes, **options):
        jitted = jax.jit(function, in_shardings=sharding, out_shardings=sharding, **options)
        return jitted.lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)).compile()

    return compiled


def test_a_product_reads_both_factors_and_writes_the_result(compiled):
    program = compiled(lambda a, b: a @ b, ((4096, 2048), BF16), ((2048, 8192), BF16))
    found = traffic(program.as_text())
    assert found.read == 2 * (4096 * 2048 + 2048 * 8192)
    assert found.bytes - found.read == 2 * 4096 * 8192


def test_elementwise_chains_read_and_write_once(compiled):
    size = 4 * 64 * 1024 * 1024
    program = compiled(lambda a: jnp.tanh(a * 2) + 1, ((64, 1024, 1024), F32))
    assert traffic(program.as_text()).bytes == 2 * size
    donated = compiled(lambda a, b: a * 0.9 + b, *[((64, 1024, 1024), F32)] * 2, donate_argnums=0)
    assert traffic(donated.as_text()).bytes == 3 * size


def test_what_fits_in_vector_memory_stays_there(compiled):
    """Of three products and two functions between them, only arguments and the result move."""
    program = compiled(lambda a, b: jax.nn.gelu(jnp.sin(a) @ b) @ b @ b, *[((256, 256), F32)] * 2)
    assert traffic(program.as_text()).bytes == 3 * 4 * 256 * 256


def test_tiles_of_a_last_dimension_of_49(compiled):
    """The compiler chooses the layouts; what they take in memory, it says itself."""
    program = compiled(lambda x: jnp.exp(x) * 2, ((3, 5, 49, 49), F32))
    module, sizes = hlo.parse(program.as_text()), program.memory_analysis()
    entry = module.computations[module.entry]
    (argument,) = entry.parameters().values()
    packed = 4 * 3 * 5 * 49 * 49
    assert packed < argument.bytes == sizes.argument_size_in_bytes
    assert traffic(module).bytes == sizes.argument_size_in_bytes + sizes.output_size_in_bytes


def test_an_update_in_place_moves_its_slice(compiled):
    def shift(rows, i):
        row = jax.lax.dynamic_slice(rows, (i, 0, 0), (1, 1024, 1024))
        return jax.lax.dynamic_update_slice(rows, row * 2, (i + 1, 0, 0))

    program = compiled(shift, ((64, 1024, 1024), F32), ((), S32), donate_argnums=0)
    assert 0 <= traffic(program.as_text()).bytes - 2 * 4 * 1024 * 1024 < SCALARS


def test_a_scan_that_keeps_its_residuals(compiled):
    """Each of 32 trips reads and writes a slice [2048, 512] of what is stacked."""

    def loss(inputs, weights):
        def body(state, x):
            state = jnp.tanh(state @ weights + x)
            return state, state

        return jax.lax.scan(body, jnp.zeros_like(inputs[0]), inputs)[1].astype(F32).sum()

    program = compiled(jax.grad(loss, argnums=(0, 1)), ((32, 2048, 512), BF16), ((512, 512), BF16))
    found = traffic(program.as_text())
    stack = 2 * 32 * 2048 * 512
    assert not found.uncounted
    looped = sum(one.bytes for one in found.moved if one.times == 32)
    # Forward: inputs; the states and tanh's derivatives kept. Backward: both; the gradient. States
    # may stay in vector memory, or be kept once more.
    assert looped / stack == pytest.approx(6, abs=1.1)
    # The compiler fills each of the three stacks with zeros first, if it does.
    assert looped <= found.bytes <= looped + 3 * stack + 4 * 512 * 512 + SCALARS


@pytest.mark.parametrize(
    ("topology", "name"),
    [("v5e:2x2", "TPU v5e"), ("v6e:2x2", "TPU v6e"), ("v5p:2x2x1", "TPU v5p"),
     ("v4:2x2x1", "TPU v4"), ("tpu7x:2x2x1", "TPU7x")],
)  # fmt: skip
def test_kinds_of_devices_have_peaks(chip, topology, name):
    found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    kinds = {one.device_kind for one in found.devices}
    assert {device_for(kind).name for kind in kinds} == {name}
    assert name in {device.name for device in DEVICES}
