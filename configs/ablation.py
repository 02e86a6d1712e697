"""The rows of `ablate`: what each one changes of the experiment. Copy and edit this file.

    python -m vlfau_jax ablate --config=configs/demo.py:scratch --workdir=runs/ablation --seeds=3

A row is a name and the config keys that it changes; all others are those of --config. The first row
is the reference, to which the others are compared. Seeds, steps, batch size and data are those of
the whole study and are refused here.

`--rows=configs/ablation.py:core` has the five rows about captions and refinement alone, and
`:captions` the two that answer whether captions help.
"""

from vlfau_jax.errors import UserError

# What a row removes has no term of the loss either, where --config gives it one.
NO_LOCAL = {
    "model.local_captions": False,
    "model.told_scores": False,
    "objective.word_region_weight": 0.0,
}
NO_MAPS = {
    "objective.map_region_weight": 0.0,
    "objective.map_entropy_weight": 0.0,
    "objective.map_variation_weight": 0.0,
}

ROWS = {
    "full": {},
    "no local": NO_LOCAL,
    "no global": {"model.global_captions": False},
    "no captions": {**NO_LOCAL, "model.global_captions": False},
    "no DAIR": {"model.refinement": "none", **NO_MAPS},
    "channel only": {"model.refinement": "channel", **NO_MAPS},
    "spatial only": {"model.refinement": "spatial"},
    # Nothing is combined: the last stage, at its own size (model.grid=0), is the stem.
    "no MSC": {"model.taps": (4,), "model.grid": 0},
    "single tap": {"model.taps": (1,)},  # the finest
    "per-AU captioners": {"model.local_captioner": "per_au"},
    "AU embedding": {"model.au_embedding": True},
    "global context": {"model.global_context": True},
    "paraphrased": {"data.descriptions": "paraphrased"},
    "no class weights": {"objective.class_weighting": False},
    "BCE only": {"objective.dice_weight": 0.0},
    "asymmetric": {"objective.au_loss": "asymmetric"},
}

CHOICES = {
    "all": tuple(ROWS),
    "core": ("full", "no local", "no global", "no captions", "no DAIR"),
    "captions": ("full", "no captions"),
}


def get_rows(choice="all"):
    if choice not in CHOICES:
        raise UserError(f"--rows=FILE:{choice}: write one of :{', :'.join(CHOICES)}, or nothing")
    return {name: ROWS[name] for name in CHOICES[choice]}
