"""The model that ships: VL-FAU for fifteen units, trained on heads rendered in three dimensions.

    bash launch/rendered.sh

makes the faces, trains, and writes configs/rendered/, the model that `predict` uses when no --model
is given. It begins from the demo's warm start.
"""

from vlfau_jax.shipped import experiment

UNITS = (1, 2, 4, 6, 7, 9, 10, 12, 14, 15, 17, 23, 24, 25, 26)


def get_config():
    config = experiment("demo").network()
    config.data.name = "folder"
    config.data.data_dir = "runs/rendered/prepared"
    config.data.fold = 0
    config.data.aus = UNITS
    # Faces in photographs are framed more tightly and more loosely than by `prepare`.
    config.data.min_area = 0.65
    config.data.max_area = 1.35
    config.data.jitter = 0.2
    config.train.warm_start = "configs/demo_warm_start.safetensors"
    config.train.steps = 1000
    config.train.checkpoint_every = 500
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    return config
