"""Which prepared sets to read, and how: the `data` keys of an experiment."""

from __future__ import annotations

from dataclasses import dataclass

from vlfau_jax.errors import UserError


@dataclass(frozen=True)
class DataOptions:
    """Which prepared sets to read, and how to make batches of them.

    Attributes:
        name: the data set, such as "bp4d" or "folder"; "bp4d+disfa" is a mixture of two.
        data_dir: the folder that `prepare` wrote to.
        variant: the prepared crop, such as "cascade_256"; may be empty if there is only one. For a
            mixture one for all, or one for each, separated by "+", in the order of `name`.
        fold: 1 to 3 (or as many as `folds` has), or 0 to train on every subject.
        folds: which people each fold tests: "published" (where nothing is, by the fold column of
            labels.csv, or in sorted order), "lists" (those of the lists or the fold column that the
            set was prepared from), or a CSV table subject,fold.
        aus: the action units to learn; empty for those that the data set's benchmark scores.
        threshold: the lowest intensity that counts as active, 1 to 5, for units with intensities
            and no occurrence codes (DISFA; the field uses 2, OpenGraphAU 1).
        exclude_stretches: leave out the frames that the field does (those of DISFA in which
            tracking failed).
        validation_subjects: the number of training subjects that are held out for the scores
            during training; they are drawn by the experiment's seed.
        image_size: pixels of the model's input.
        min_area: smallest share of the face crop that a training crop keeps.
        flip: mirror half of the training faces.
        jitter: strength of the changes in brightness, contrast and saturation.
        erasing: share of the training faces of which a random rectangle is erased.
        balance_classes: draw training faces so that every unit is active equally often.
        balance_subjects: draw training faces so that every subject is equally frequent.
        mixture_weights: shares of a mixture's sets in training, in the order of `name`; empty to
            draw by their sizes.
        threads: threads that make batches (in each process).
        workers: processes that make batches; 0 makes them in this one.
    """

    name: str = "bp4d"
    data_dir: str = "data"
    variant: str = ""
    fold: int = 1
    folds: str = "published"
    aus: tuple[int, ...] = ()
    threshold: int = 2
    exclude_stretches: bool = True
    validation_subjects: int = 0
    image_size: int = 112
    min_area: float = 0.7
    flip: bool = True
    jitter: float = 0.4
    erasing: float = 0.0
    balance_classes: bool = False
    balance_subjects: bool = False
    mixture_weights: tuple[float, ...] = ()
    threads: int = 2
    workers: int = 0

    def __post_init__(self) -> None:
        limits = {
            "threshold": (1, 5),
            "validation_subjects": (0, 1000),
            "image_size": (16, 1024),
            "min_area": (0.05, 1),
            "jitter": (0, 0.95),
            "erasing": (0, 1),
            "threads": (0, 256),
            "workers": (0, 256),
        }
        for key, (low, high) in limits.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise UserError(f"data.{key}={value} is out of range; expected {low} to {high}")
