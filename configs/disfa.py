"""The paper's VL-FAU on DISFA: the network and the recipe of configs/bp4d.py.

    python -m vlfau_jax train --config=configs/disfa.py --workdir=runs/disfa \
        --config.data.data_dir=PREPARED --config.data.fold=1

Eight units (1 2 4 6 9 12 25 26), active from intensity 2; without the stretches in which tracking
failed, 83,517 frames train fold 1, 20 epochs of them at batch 64. `configs/disfa.py:swin_t` and so
on change the backbone as they do there. `--config.data.threshold=1` is OpenGraphAU's protocol, and
`--config.data.exclude_stretches=False` keeps every frame; scores.json states both.

It starts from random parameters; published results start from ImageNet's. Hardware and time: not
measured, the data are licensed and not here.
Expected score: ME-GraphAU reports 62.4 mean F1 over three folds with this backbone; that is the
number to reach, not one that this code has reached.
"""

from vlfau_jax.shipped import experiment


def get_config(backbone="swin_b"):
    config = experiment("bp4d").get_config(backbone)
    config.data.name = "disfa"
    config.train.steps = 26_099
    return config
