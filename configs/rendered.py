"""The model that ships: VL-FAU for fifteen units, trained on heads rendered in three dimensions.

    bash launch/rendered.sh configs/rendered

makes the faces, trains three such runs, teaches their mean its sentences (`:sentences`) and
writes configs/rendered/, the model that `predict` uses where no --model is given. Training begins
from the demo's warm start.
"""

from vlfau_jax.errors import UserError
from vlfau_jax.facs import BENCHMARK_AUS
from vlfau_jax.shipped import experiment


def get_config(part="units"):
    config = experiment("demo").network()
    config.data.name = "folder"
    config.data.data_dir = "runs/rendered/prepared"
    config.data.fold = 0
    config.data.aus = BENCHMARK_AUS
    # Faces in photographs are framed more tightly and more loosely than by `prepare`.
    config.data.min_area = 0.65
    config.data.max_area = 1.35
    config.data.jitter = 0.2
    config.train.warm_start = "configs/demo_warm_start.safetensors"
    config.train.steps = 1000
    config.train.checkpoint_every = 500
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    if part == "sentences":
        # Those of the units that the warm start did not know need more steps than their scores,
        # which more steps make worse on other faces: there the captioners alone learn.
        config.train.warm_start = "runs/rendered/mean.safetensors"
        config.train.steps = 600
        config.objective.local_branches = 8
        config.optimizer.learning_rate = 1e-7
        config.optimizer.captioner_learning_rate = 2e-3
    elif part != "units":
        raise UserError(f"configs/rendered.py:{part}: write :units, :sentences or nothing")
    return config
