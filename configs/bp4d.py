"""The paper's VL-FAU on BP4D: Swin-B at 224 px, window 7, D = 512.

    python -m vlfau_jax train --config=configs/bp4d.py --workdir=runs/bp4d \
        --config.data.data_dir=PREPARED --config.data.fold=1

The recipe is ME-GraphAU's, the nearest with public code: AdamW at 1e-4, weight decay 5e-4, cosine,
batch 64, 20 epochs of 100,813 frames (fold 1), drop path 0.5. It starts from random parameters;
published results start from ImageNet's.

`configs/bp4d.py:swin_t`, `:swin_s` and `:swin_l` have another backbone, with its own drop path (.2,
.3 and .5); `:swin_b,384` has 384 px and windows of 12, as any of them may.

Hardware and time: not measured, the data are licensed and not here.
Expected score: ME-GraphAU reports 65.5 mean F1 over three folds with this backbone; that is the
number to reach, not one that this code has reached.
"""

from vlfau_jax.cli.settings import default_config
from vlfau_jax.errors import UserError
from vlfau_jax.model.options import SIZES

WINDOWS = {"": (224, 7), ",384": (384, 12)}  # suffix -> pixels, cells along a window's side


def get_config(backbone="swin_b"):
    size, comma, pixels = backbone.partition(",")
    if size not in SIZES or comma + pixels not in WINDOWS:
        raise UserError(
            f"--config=FILE:{backbone}: write one of :{', :'.join(SIZES)}, or one with ,384"
        )
    config = default_config()
    config.data.image_size, config.model.window = WINDOWS[comma + pixels]
    config.model.update(SIZES[size])
    config.model.dtype = "bfloat16"
    config.model.scan_blocks = max(config.model.depths) > 6  # nine pairs compile as one
    config.train.steps = 31_504
    config.train.batch_size = 64
    config.train.checkpoint_every = 1500
    return config
