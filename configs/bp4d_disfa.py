"""One model for BP4D and DISFA: the network and the recipe of configs/bp4d.py on both sets.

    python -m vlfau_jax train --config=configs/bp4d_disfa.py --workdir=runs/both \
        --config.data.data_dir=PREPARED --config.data.fold=1

PREPARED holds both sets, cropped by one rule. The model learns the 15 units of both benchmarks; a
unit that a face's data set does not code is unknown there and has no gradient. Fold k tests fold k
of each set, and `evaluate` also scores each set on its own, over its own benchmark's units.

184,330 frames train fold 1 (100,813 of BP4D, 83,517 of DISFA), 20 epochs of them at batch 64, drawn
by the sets' sizes; `--config.data.mixture_weights="(1.0, 1.0)"` draws from both alike.
`configs/bp4d_disfa.py:swin_t` and so on change the backbone.

Hardware, time and expected score: not measured, and no published number is comparable; configs/bp4d
and configs/disfa name those of the single sets.
"""

from vlfau_jax.shipped import experiment


def get_config(backbone="swin_b"):
    config = experiment("bp4d").get_config(backbone)
    config.data.name = "bp4d+disfa"
    config.train.steps = 57_603
    return config
