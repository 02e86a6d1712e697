"""The README.md of an exported model folder: what it gives, how it was trained, how to use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jax
from jinja2 import Environment, StrictUndefined

from vlfau_jax.data.crop.registry import reads_file
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.inference.checked_faces import Loss
from vlfau_jax.inference.model_folder import CONFIG, PROGRAM, WEIGHTS
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.trained import Trained

TEMPLATE = "templates/model_card.md.j2"
_MAPS = {"spatial_maps", "local_attention", "global_attention"}


def model_card(
    trained: Trained,
    scores: Scores | None = None,
    formats: Sequence[str] = (),
    precision: str = "float32",
    loss: Loss | None = None,
) -> str:
    """The Markdown text of the card of a trained model, with the front matter of the Hub.

    Args:
        trained: the network.
        scores: what `evaluate` found for it; None where it did not run.
        formats: what the folder has beside the program.
        precision: of its weights.
        loss: what rounding them changed; None where they are float32.
    """
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
        alone=" alone" if _is_rendered_throughout(trained) else ", among others",
        units=units,
        front_matter=_front_matter(trained, scores, formats),
        scores=scores,
        interval=None if scores is None else _interval(scores),
        formats=formats,
        precision=precision,
        loss=loss,
        captions=trained.captions,
        has_maps=bool(outputs_of(trained.model.options).keys() & _MAPS),
        needs_crop_file=reads_file(trained.crop_rule["name"]),
        size=trained.data.image_size,
        weights=WEIGHTS,
        program=PROGRAM,
        config=CONFIG,
        jax_version=jax.__version__,
    )


def _is_rendered_throughout(trained: Trained) -> bool:
    """Whether it saw rendered faces alone: one set is so or not, of several any makes it so."""
    runs = trained.averaged or [{"dataset": trained.data.name, "synthetic": trained.synthetic}]
    return all(run["synthetic"] and "+" not in run["dataset"] for run in runs)


def _interval(scores: Scores) -> Sequence[float] | None:
    """Of the mean F1; None where one tested person says nothing about others."""
    return scores.intervals.get("macro", {}).get("f1")


def _front_matter(
    trained: Trained, scores: Scores | None, formats: Sequence[str]
) -> dict[str, Any]:
    """The keys by which the Hub finds a model; their values as JSON are YAML, too."""
    synthetic = ["synthetic"] if trained.synthetic else []
    keys: dict[str, Any] = {
        "library_name": "vlfau_jax",
        "pipeline_tag": "image-classification",
        "tags": ["facial-action-units", "facial-expression", "jax", *formats, *synthetic],
    }
    if trained.captions:
        keys["language"] = ["en"]
    if scores is not None and not math.isnan(scores.mean_f1):
        rendered = " (rendered, synthetic faces)" if scores.synthetic else ""
        fold = f"fold {scores.fold}, {len(scores.test_subjects)} unseen people"
        result = {
            "task": {"type": "image-classification", "name": "facial action unit detection"},
            "dataset": {"name": f"{scores.dataset}{rendered}", "type": scores.dataset},
            "metrics": [
                {
                    "type": "f1",
                    "name": f"mean F1 over {scores.units_scored} action units, {fold}",
                    "value": round(scores.mean_f1, 4),
                }
            ],
        }
        keys["model-index"] = [{"name": "VL-FAU", "results": [result]}]
    return keys
