"""The sharding of every parameter of Swin-T and Swin-B, compared with tables that diff well.

`VLFAU_REFRESH_GOLDENS=1 python -m pytest tests/sharding/test_placement.py` writes the tables anew,
and fails to say so. Shapes alone: nothing is computed.
"""

import functools
import math
import os
from pathlib import Path

import jax
import pytest

from configs import bp4d
from vlfau_jax.cli.settings import resolve
from vlfau_jax.data.read.batch import spec
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.optimizer import make_optimizer, make_schedule
from vlfau_jax.train.state import abstract_state

GOLDENS = Path(__file__).parent / "goldens"
REFRESH = "VLFAU_REFRESH_GOLDENS"
MODELS = ("swin_t", "swin_b")
MESHES = ((8, 1, 1), (1, 8, 1), (2, 2, 2))


@functools.cache
def placed(size, shape):
    """(path, leaf with its sharding) of all parameters and of the optimizer's state."""
    config = bp4d.get_config(size)
    config.model.scan_blocks = False  # the tables have every block
    settings = resolve(config)
    n = len(BP4D_AUS)
    state = abstract_state(
        VLFAU(settings.model, n, Vocabulary.build().size),
        make_optimizer(settings.optimizer, make_schedule(settings.optimizer, 1)),
        spec(batch_size=8, image_size=224, units=n, max_local_tokens=4, max_global_tokens=4),
        make_mesh(MeshOptions(*shape)),
    )
    return [
        [
            (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        ]
        for tree in (state.params, state.opt_state)
    ]


def bytes_of(leaf):
    """Of the whole array, and of one device's part."""
    whole, part = leaf.shape, leaf.sharding.shard_shape(leaf.shape)
    return tuple(math.prod(sizes) * leaf.dtype.itemsize for sizes in (whole, part))


def total(leaves):
    whole, part = zip(*(bytes_of(leaf) for _, leaf in leaves), strict=True)
    return sum(whole), sum(part)


def table(size, shape):
    """One line a parameter, then the totals."""
    params, optimizer = placed(size, shape)
    rows = [("path", "shape", "PartitionSpec", "bytes per device")]
    for path, leaf in params:
        sizes = " x ".join(map(str, leaf.shape)) or "scalar"
        axes = ", ".join(axis or "-" for axis in leaf.sharding.spec)
        rows.append((path, sizes, f"({axes})", f"{bytes_of(leaf)[1]:,}"))
    for name, leaves in (("parameters", params), ("optimizer state", optimizer)):
        whole, part = total(leaves)
        rows.append(("total", name, f"{part / whole:.4f} of {whole:,}", f"{part:,}"))
    return "".join(f"{a:<68}{b:<24}{c:<32}{d:>16}\n" for a, b, c, d in rows)


@pytest.mark.parametrize("shape", MESHES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("size", MODELS)
def test_placement(size, shape):
    golden = GOLDENS / f"{size}_{'x'.join(map(str, shape))}.txt"
    found = table(size, shape)
    if os.environ.get(REFRESH):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found)
        pytest.fail(f"{golden} written; read the diff, then run without {REFRESH}")
    assert found == golden.read_text(), f"{golden} differs; {REFRESH}=1 writes it anew"


@pytest.mark.parametrize("size", MODELS)
def test_a_device_holds_its_eighth_of_parameters_and_optimizer(size):
    for leaves in placed(size, (1, 8, 1)):
        whole, part = total(leaves)
        assert part <= 1.15 * whole / 8
