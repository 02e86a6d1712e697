"""The experiment of launch/demo.sh: VL-FAU, small enough for two CPU cores.

    python -m vlfau_jax train --config=configs/demo.py --workdir=runs/mine \
        --config.data.data_dir=PREPARED

runs unchanged on any prepared BP4D-layout tree. It begins from `demo_warm_start.safetensors`, which
demo_warm_start.py made from other rendered people; `configs/demo.py:scratch` begins from random
parameters and trains longer.
"""

from vlfau_jax.cli.settings import default_config
from vlfau_jax.errors import UserError


def get_config(start="warm"):
    config = network()
    config.data.data_dir = "runs/demo/prepared"
    config.train.checkpoint_every = 200
    if start == "warm":
        config.train.warm_start = "configs/demo_warm_start.safetensors"
        config.train.steps = 800
        config.optimizer.learning_rate = 1e-3
        config.optimizer.warmup_steps = 50
    elif start == "scratch":
        config.train.steps = 1800
    else:
        raise UserError(f"configs/demo.py:{start}: write :warm, :scratch or nothing")
    return config


def network():
    """The demo's network and recipe, shared by both starts."""
    config = default_config()
    config.data.image_size = 112
    config.data.jitter = 0.2

    config.model.backbone_width = 24
    config.model.depths = (0, 1, 2, 1)
    config.model.heads = (1, 2, 4, 8)
    config.model.stem = "conv"
    config.model.drop_path = 0.0
    config.model.width = 96
    config.model.grid = 7
    config.model.reduction = 8
    config.model.word_embedding = 32
    config.model.hidden = 64
    config.model.attention = 32
    config.model.dropout = 0.1
    config.model.told_scores = True

    # Each step trains the sentences of three action units drawn at random: a quarter of the cost.
    config.objective.local_branches = 3
    config.objective.local_weight = 0.5
    config.objective.global_weight = 0.25
    # Maps show where their unit does: vlfau_jax/losses/README.md has what that gives and costs.
    config.objective.map_region_weight = 0.3
    config.objective.word_region_weight = 0.1

    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.warmup_steps = 150
    config.optimizer.weight_decay = 0.05
    config.optimizer.b2 = 0.98
    config.train.batch_size = 32
    return config
