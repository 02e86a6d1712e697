"""The experiment of studies on rendered faces: the demo's network, smaller, from random parameters.

    bash launch/study.sh quick|night|when

Small enough that a cell takes about three minutes of one CPU core, long enough that its sentences
say what its scores say. As in the paper, maps have no terms of their own in the objective, and
sentences are not told the scores.
"""

from vlfau_jax.shipped import experiment


def get_config():
    config = experiment("demo").network()
    config.data.data_dir = "runs/study/prepared"
    config.data.image_size = 64
    config.model.width = 48
    config.model.hidden = 48
    config.model.told_scores = False
    config.objective.map_region_weight = 0.0
    config.objective.word_region_weight = 0.0
    config.optimizer.learning_rate = 3e-3
    config.train.batch_size = 16
    config.train.steps = 2000
    config.train.checkpoint_every = 500
    return config
