"""Trains configs/demo_warm_start.safetensors on 480 rendered subjects, none of them the demo's.

    python -m vlfau_jax synthesize --layout=bp4d --out=runs/warm_start/raw \
        --subjects=480 --frames=8 --seed=1001
    python -m vlfau_jax prepare --dataset=bp4d --raw_dir=runs/warm_start/raw \
        --data_dir=runs/warm_start/prepared --crop_size=128
    python -m vlfau_jax train --config=configs/demo_warm_start.py --workdir=runs/warm_start
    python -m vlfau_jax warm_start --workdir=runs/warm_start \
        --out=configs/demo_warm_start.safetensors

Fold 0 trains on every subject. The seed of `synthesize` decides which subjects these are; it must
differ from that of any data set that is tested (the demo's is 0).
"""

from vlfau_jax.shipped import experiment


def get_config():
    config = experiment("demo").network()
    config.data.data_dir = "runs/warm_start/prepared"
    config.data.fold = 0
    config.train.steps = 7000
    config.train.checkpoint_every = 500
    return config
