"""The experiment of studies on rendered faces: configs/demo.py from random parameters.

    bash launch/study.sh quick      # five rows, three seeds
    bash launch/study.sh night      # all rows, three seeds

`:night` is the demo's network and length as they are: 112 px, 1,800 steps. `:quick` has 80 px and
450 steps, which is meant to take at most 30 minutes for 15 cells on two CPU cores: ESTIMATED from
the demo's 0.21 s a step at 112 px, half of which at 80 px are 50 s a cell, and 60 s of compiling
and evaluation beside them. Not measured yet.
"""

from vlfau_jax.errors import UserError
from vlfau_jax.shipped import experiment


def get_config(size="night"):
    config = experiment("demo").get_config("scratch")
    config.data.data_dir = "runs/study/prepared"
    config.train.checkpoint_every = 300
    if size == "quick":
        config.data.image_size = 80
        config.train.steps = 450
        config.optimizer.warmup_steps = 45
    elif size != "night":
        raise UserError(f"configs/study.py:{size}: write :quick, :night or nothing")
    return config
