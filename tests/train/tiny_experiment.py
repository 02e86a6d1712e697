"""The experiment that tests start as real processes: a network of 20,000 parameters, --config."""

from vlfau_jax.cli.settings import default_config


def get_config():
    config = default_config()
    config.seed = 3
    config.data.image_size = 16
    config.data.threads = 0
    config.model.backbone_width = 4
    config.model.depths = (0, 0, 0, 1)
    config.model.heads = (1, 1, 1, 2)
    config.model.window = 2
    config.model.patch = 2
    config.model.stem = "conv"
    config.model.mlp_ratio = 1.0
    config.model.width = 8
    config.model.reduction = 4
    config.model.word_embedding = 4
    config.model.hidden = 4
    config.model.attention = 4
    config.objective.local_branches = 2
    config.optimizer.learning_rate = 0.01
    config.optimizer.warmup_steps = 1
    config.optimizer.decay_steps = 10
    config.train.steps = 4
    config.train.batch_size = 8
    config.train.log_every = 1
    return config
