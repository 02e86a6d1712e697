"""Whether a prepared set and a trained model fit, and that nobody is tested who was trained on."""

from __future__ import annotations

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.errors import UserError
from vlfau_jax.inference.trained import Trained


def unseen_subjects(trained: Trained, dataset: Dataset, fold: int | None) -> tuple[str, ...]:
    """The subjects that the fold tests, once set and model are known to fit each other.

    Args:
        trained: the model.
        dataset: the prepared set to test it on.
        fold: the fold that the user asked for; None means the trained one.

    Raises:
        UserError: another fold than the trained one, or one that tests nobody; faces cropped or
            prepared otherwise than those of training; other units; a test subject who was trained
            on; no frame to test.
    """
    if fold is not None and fold != trained.data.fold:
        raise UserError(
            f"--fold={fold}: only the people whom fold {trained.data.fold} tests are new to this "
            f"model; evaluate fold {trained.data.fold} or train another model"
        )
    if dataset.crop["digest"] != trained.crop_rule["digest"]:
        raise UserError(
            f"{dataset.folder}: faces cropped by {dataset.crop['name']} ({dataset.crop['digest']}),"
            f" but the model was trained on {trained.crop_rule['name']} "
            f"({trained.crop_rule['digest']}); prepare the set with that rule"
        )
    found = protocol(dataset, trained.data)
    for key, value in trained.read_as.items():
        if found[key] != value and key == "folds":
            raise UserError(
                f"{dataset.folder}: its folds are {found[key]}, but the model was trained by "
                f"{value}; evaluate with the folds and the set of training"
            )
        if found[key] != value:
            raise UserError(
                f"{dataset.folder}: prepared with {key} {found[key]}, but the model was trained on "
                f"{value}; name the set of training by data.variant, or prepare it again"
            )
    if dataset.aus != trained.aus:
        raise UserError(
            f"{dataset.folder}: its units are in the order {dataset.aus}, but the model's in "
            f"{trained.aus}; prepare the set again"
        )
    test = dataset.split(trained.data.fold).test
    if not test:
        raise UserError(
            f"data.fold={trained.data.fold} trains on every subject and tests none; evaluate a "
            "model of fold 1, 2 or 3"
        )
    seen = sorted(set(test) & set(trained.train_subjects))
    if seen:
        raise UserError(
            f"{dataset.folder}: the model was trained on {', '.join(seen)}, who would be tested"
        )
    if not len(dataset.rows(test)):
        raise UserError(
            f"{dataset.folder}: every frame of {', '.join(test)} is in an excluded stretch; set "
            "data.exclude_stretches=False in training, or prepare more of their frames"
        )
    return test
