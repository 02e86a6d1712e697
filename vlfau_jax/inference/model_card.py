"""The README.md of an exported model folder: what it gives, how it was trained, how to use it."""

from __future__ import annotations

from importlib import resources

import jax
from jinja2 import Environment, StrictUndefined

from vlfau_jax.data.crop.registry import reads_file
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.inference.model_folder import CONFIG, PROGRAM, WEIGHTS
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.trained import Trained

TEMPLATE = "templates/model_card.md.j2"
_MAPS = {"spatial_maps", "local_attention", "global_attention"}


def model_card(trained: Trained) -> str:
    """The Markdown text of the card of a trained model."""
    environment = Environment(  # Markdown, in which HTML's escapes would be wrong
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = resources.files("vlfau_jax.inference").joinpath(TEMPLATE).read_text()
    units = [
        (au, ACTION_UNITS[au].name, threshold)
        for au, threshold in zip(trained.aus, trained.thresholds, strict=True)
    ]
    return environment.from_string(text).render(
        trained=trained,
        units=units,
        captions=trained.captions,
        has_maps=bool(outputs_of(trained.model.options).keys() & _MAPS),
        needs_crop_file=reads_file(trained.crop_rule["name"]),
        size=trained.data.image_size,
        weights=WEIGHTS,
        program=PROGRAM,
        config=CONFIG,
        jax_version=jax.__version__,
    )
