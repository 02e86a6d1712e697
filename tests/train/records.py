"""The record of a checkpoint, as small as one can be."""

RECORD = {
    "progress": {"next_batch": 4, "seconds": {"train": 1.5}},
    "inference": {
        "dataset": "bp4d",
        "synthetic": True,
        "crop": {"name": "none", "digest": "0" * 16},
        "image_size": 16,
        "normalisation": {"mean": [0.5], "std": [0.25]},
        "aus": [1, 2],
        "vocabulary": ["<pad>"],
        "lengths": [5, 9],
        "model": {},
        "train_subjects": ["F001"],
        "ema_decay": 0.0,
        "warm_start": None,
        "config_digest": "0" * 64,
    },
}
