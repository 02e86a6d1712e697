"""Every parameter of the four sizes, compared with tables that a reviewer can read in a diff.

`VLFAU_REFRESH_GOLDENS=1 python -m pytest tests/model/test_parameters.py` writes the tables anew,
and fails to say so.
"""

import math
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import torch
from flax import linen as nn
from flax.traverse_util import flatten_dict
from transformers import SwinConfig, SwinModel

from configs import bp4d
from vlfau_jax.cli.settings import resolve
from vlfau_jax.data.read.batch import spec
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.model.options import SIZES
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.train.state import abstract_params

GOLDENS = Path(__file__).parent / "goldens"
REFRESH = "VLFAU_REFRESH_GOLDENS"
DISFA_UNITS = 8


def parameters(size, units, **changes):
    """Path -> shape and dtype of every parameter; nothing is computed."""
    config = bp4d.get_config(size)
    config.model.update({"scan_blocks": False, **changes})  # the tables have every block
    model = VLFAU(resolve(config).model, units, Vocabulary.build().size)
    of = spec(batch_size=1, image_size=224, units=units, max_local_tokens=4, max_global_tokens=4)
    return flatten_dict(nn.meta.unbox(abstract_params(model, of)), sep="/")


def count(leaves):
    return sum(math.prod(leaf.shape) for leaf in leaves.values())


def lines(leaves):
    """One line a parameter: path, shape, dtype, count; equal blocks of a stage share theirs."""
    shared = {}
    for path, leaf in leaves.items():
        numbered = re.search(r"(?<=_block)\d+", path)
        pattern = re.sub(r"(?<=_block)\d+", "*", path)
        row = shared.setdefault((pattern, leaf.shape, leaf.dtype.name), [])
        row.append(int(numbered[0]) if numbered else None)
    for (pattern, shape, dtype), blocks in sorted(shared.items()):
        path, each = pattern, f"{math.prod(shape):,}"
        if blocks != [None]:
            assert sorted(blocks) == list(range(len(blocks))), f"{pattern} differs between blocks"
            path, each = pattern.replace("*", f"[0-{len(blocks) - 1}]"), f"{len(blocks)} x {each}"
        sizes = " x ".join(map(str, shape)) or "scalar"
        yield f"{path:<62} {sizes:<20} {dtype:<8} {each:>14}"


def table(size):
    """The whole network for BP4D's units, and what changes for as many as DISFA has."""
    whole, fewer = (parameters(size, units) for units in (len(BP4D_AUS), DISFA_UNITS))
    backbone = {path: leaf for path, leaf in whole.items() if path.startswith("backbone/")}
    there = list(lines(whole))
    changed = [line for line in lines(fewer) if line not in there]
    return "\n".join(
        [
            f"{size}: backbone {count(backbone):,} parameters; the whole network "
            f"{count(whole):,} for {len(BP4D_AUS)} units, {count(fewer):,} for {DISFA_UNITS}",
            "",
            *there,
            "",
            f"For {DISFA_UNITS} units these differ:",
            *changed,
            "",
        ]
    )


@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_the_golden_ones(size):
    golden, found = GOLDENS / f"{size}.txt", table(size)
    if os.environ.get(REFRESH) == "1":
        golden.write_text(found)
        pytest.fail(f"{golden} was written anew: read its diff, then test without {REFRESH}")
    assert found == golden.read_text()


@pytest.mark.parametrize("size", SIZES)
def test_the_backbone_has_as_many_parameters_as_transformers_has(size):
    fields = SIZES[size]
    config = SwinConfig(
        embed_dim=fields["backbone_width"], depths=fields["depths"], num_heads=fields["heads"]
    )
    with torch.device("meta"):
        reference = SwinModel(config)  # its pooler has no parameters
    expected = sum(parameter.numel() for parameter in reference.parameters())
    whole = parameters(size, 1)
    found = count({path: leaf for path, leaf in whole.items() if path.startswith("backbone/")})
    assert found == expected


def test_scanning_changes_no_count_and_only_stacks_what_it_may():
    looped, scanned = (parameters("swin_t", 12, scan_blocks=scan) for scan in (False, True))
    assert count(looped) == count(scanned)
    assert {path for path in looped if "stage2" not in path} == {
        path for path in scanned if "stage2" not in path
    }
    assert scanned["backbone/stage2_pairs/second/mlp_in/kernel"].shape == (3, 384, 1536)


def test_all_parameters_are_float32_whatever_computes():
    leaves = parameters("swin_t", 12, dtype="bfloat16").values()
    assert {jax.dtypes.canonicalize_dtype(leaf.dtype) for leaf in leaves} == {jnp.dtype("float32")}
