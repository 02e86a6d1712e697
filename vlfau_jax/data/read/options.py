"""Which prepared sets to read, and how: the `data` keys of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from vlfau_jax.options import FilePath, Name, Options, Share, Workers

_Unit = Annotated[int, Field(ge=1, le=99)]


@dataclass(frozen=True)
class DataOptions(Options):
    """Which prepared sets to read, and how to make batches of them.

    Attributes:
        name: the data set, such as "bp4d" or "folder"; "bp4d+disfa" is a mixture of two.
        data_dir: the folder that `prepare` wrote to; gs:// or s3:// is copied to the local disk.
        variant: the prepared crop, such as "cascade_256"; may be empty if there is only one. For a
            mixture one for all, or one for each, separated by "+", in the order of `name`.
        fold: 1 to 3 (or as many as `folds` has), or 0 to train on every subject.
        folds: which people each fold tests: "published" (where nothing is, by the fold column of
            labels.csv, or in sorted order), "lists" (those of the lists or the fold column that the
            set was prepared from), or a CSV table subject,fold.
        aus: the action units to learn; empty for those that the data set's benchmark scores.
        descriptions: the sentences to learn: "states", two for each unit, whether it is on;
            "graded", besides five for its intensity where that is coded; "paraphrased", three for
            each state, of which each example draws one; or a JSON file of your own texts.
        threshold: the lowest intensity that counts as active, 1 to 5, for units with intensities
            and no occurrence codes (DISFA; the field uses 2, OpenGraphAU 1).
        exclude_stretches: leave out the frames that the field does (those of DISFA in which
            tracking failed).
        validation_subjects: the number of training subjects that are held out for the scores
            during training; they are drawn by the experiment's seed.
        training_subjects: train on this number of people alone, drawn by the experiment's seed; 0
            is all.
        active_share: leave out training faces so that active labels become rare: one with k active
            units stays with the probability active_share ** k.
        label_noise: share of the known training labels that are flipped, and the sentences with
            them.
        image_size: pixels of the model's input.
        min_area: smallest share of the face crop that a training crop keeps.
        max_area: largest area of a training crop over that of the face crop, up to 4; above 1 faces
            become smaller too, and what lies outside repeats the edge.
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

    group: ClassVar[str] = "data"

    name: Name = "bp4d"
    data_dir: FilePath = "data"
    variant: Name = ""
    fold: Annotated[int, Field(ge=0, le=1000)] = 1
    folds: FilePath = "published"
    aus: Annotated[tuple[_Unit, ...], Field(max_length=99)] = ()
    descriptions: FilePath = "states"
    threshold: Annotated[int, Field(ge=1, le=5)] = 2
    exclude_stretches: bool = True
    validation_subjects: Annotated[int, Field(ge=0, le=1000)] = 0
    training_subjects: Annotated[int, Field(ge=0, le=100_000)] = 0
    active_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    label_noise: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    image_size: Annotated[int, Field(ge=16, le=1024)] = 112
    min_area: Annotated[float, Field(ge=0.05, le=1)] = 0.7
    max_area: Annotated[float, Field(ge=1, le=4)] = 1.0
    flip: bool = True
    jitter: Annotated[float, Field(ge=0, le=0.95)] = 0.4
    erasing: Share = 0.0
    balance_classes: bool = False
    balance_subjects: bool = False
    mixture_weights: Annotated[tuple[float, ...], Field(max_length=20)] = ()
    threads: Workers = 2
    workers: Workers = 0
