"""All that a config fixes before the first step: data, model, mesh, optimizer, and their fit."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Protocol

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from pydantic import Field

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.read.batch import Batch, Spec, spec
from vlfau_jax.data.read.dataset import Dataset, published_units
from vlfau_jax.data.read.folds import Split
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.pipeline import train_iterator
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.data.read.sampling import row_weights
from vlfau_jax.data.read.scarcity import open_for_training
from vlfau_jax.data.read.statistics import unlearnable
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.description_file import descriptions_of
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.losses.joint import ObjectiveOptions, class_weights
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD, VLFAU
from vlfau_jax.options import FilePath, Options, Steps, StepsOrNone
from vlfau_jax.regions import templates
from vlfau_jax.sharding.arrays import check_batch_size, shards
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.accumulate import micro_batches
from vlfau_jax.train.memory import check_pictures, check_state
from vlfau_jax.train.optimizer import OptimizerOptions, make_optimizer, make_schedule
from vlfau_jax.train.state import TrainState, abstract_state, initial_state
from vlfau_jax.train.step import TrainStep, make_train_step
from vlfau_jax.train.workdir import config_digest


@dataclass(frozen=True)
class TrainOptions(Options):
    """Length, batch sizes, and how often to save and score.

    Attributes:
        steps: steps in all, those before a resume included.
        batch_size: examples a step, over all devices and hosts.
        device_batch: examples that a device computes at once, at most; 0 for its whole share of the
            batch. A larger share is split into equal micro-batches, as few as possible, whose
            gradients add up to the batch's own (`make_train_step`).
        skip_steps: steps with a loss or gradient that is not finite that may be skipped, counted
            over the run, before one ends it.
        checkpoint_every: steps between checkpoints; the last step always has one.
        keep: newest checkpoints to keep.
        keep_best: best checkpoints to keep as well, by mean F1; then every scored step gets a
            checkpoint.
        log_every: steps between lines of metrics.jsonl.
        eval_every: steps between scores on the validation subjects (data.validation_subjects),
            or on the test subjects where there are none; 0 for never.
        warm_start: safetensors file of initial parameters, of any units; empty for random ones.
        compile_effort: how hard XLA optimises a step for TPUs, -1 to 1, 0 as ever: Swin-B's
            compiles at -1 in 55 s of CPU time, and moves more bytes (account/README.md).
    """

    group: ClassVar[str] = "train"

    steps: Steps = 1000
    batch_size: Annotated[int, Field(ge=1, le=2**20)] = 64
    device_batch: Annotated[int, Field(ge=0, le=2**20)] = 0
    skip_steps: StepsOrNone = 0
    checkpoint_every: Steps = 500
    keep: Annotated[int, Field(ge=1, le=10_000)] = 2
    keep_best: Annotated[int, Field(ge=0, le=10_000)] = 0
    log_every: Steps = 10
    eval_every: StepsOrNone = 0
    warm_start: FilePath = ""
    compile_effort: Annotated[float, Field(ge=-1, le=1)] = 0.0

    def __post_init__(self) -> None:
        """Refuses impossible numbers, naming field and value."""
        super().__post_init__()
        if self.keep_best and not self.eval_every:
            raise UserError(
                f"train.keep_best={self.keep_best}: nothing is scored; give train.eval_every, too"
            )


class Settings(Protocol):
    """The options of an experiment; `vlfau_jax.cli.settings.Settings` is one."""

    seed: int
    data: DataOptions
    model: ModelOptions
    objective: ObjectiveOptions
    optimizer: OptimizerOptions
    train: TrainOptions
    mesh: MeshOptions


@dataclass(frozen=True)
class ExperimentData:
    """The data half of an experiment, which needs no model and no device.

    Attributes:
        settings: its options.
        dataset: the prepared sets.
        split: the subjects who are trained on, and those who are kept back.
        vocabulary: the words.
        captions: the token tables for `captions.aus`, the units of this experiment in order, with
            the texts.
        class_weights: of the loss, from the training labels, float32 [n].
        untaught: the units that these cannot teach, each with the reason, such as "never known".
    """

    settings: Settings
    dataset: Dataset
    split: Split
    vocabulary: Vocabulary
    captions: CaptionTables
    class_weights: np.ndarray
    untaught: Mapping[int, str]

    @property
    def training_rows(self) -> np.ndarray:
        """The rows of `dataset` that are trained on, int [m]."""
        return self.dataset.training_rows(self.split.train)

    def training_batches(
        self, start_step: int = 0, own: np.ndarray | None = None
    ) -> Generator[Batch, None, None]:
        """The endless stream that this experiment trains on, see `pipeline.train_iterator`."""
        return train_iterator(
            self.dataset,
            self.training_rows,
            self.captions,
            self.settings.data,
            batch_size=self.settings.train.batch_size,
            seed=self.settings.seed,
            start_step=start_step,
            own=own,
        )

    @property
    def global_sentences(self) -> int:
        """Training faces with a global sentence: all units that their set codes are known."""
        rows, labels = self.training_rows, self.dataset.labels
        uncoded = ~self.dataset.coded[labels.part[rows]]
        return int((labels.known[rows] | uncoded).all(1).sum())


@dataclass(frozen=True)
class Program:
    """The training half of an experiment: all that its step is compiled from, and no data.

    Attributes:
        settings: its options.
        captions: the token tables for its units, in order.
        class_weights: of the loss, float32 [n].
        regions: of the units in a crop, float32 [n, s, s] (`vlfau_jax.regions`); None where the
            loss does not use them, or the crop rule puts eyes in no fixed place.
        spec: the global batch.
        mesh: the devices.
        model: the network.
        optimizer: from gradients to updates.
        schedule: from step to learning rate.
        abstract: shapes, dtypes and shardings of the state.
    """

    settings: Settings
    captions: CaptionTables
    class_weights: np.ndarray
    regions: np.ndarray | None
    spec: Spec
    mesh: Mesh
    model: VLFAU
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    abstract: TrainState

    @property
    def micro_batches(self) -> int:
        """The number of parts into which every device's share of a batch is split."""
        train = self.settings.train
        return micro_batches(train.batch_size // shards(self.mesh), train.device_batch)

    def train_step(self) -> TrainStep:
        """The jitted step of this experiment."""
        return make_train_step(
            self.model,
            self.optimizer,
            self.schedule,
            self.mesh,
            self.abstract,
            objective=self.settings.objective,
            class_weights=self.class_weights,
            regions=self.regions,
            seed=self.settings.seed,
            frozen=self.settings.optimizer.frozen,
            ema_decay=self.settings.optimizer.ema_decay,
            parts=self.micro_batches,
            skip_steps=self.settings.train.skip_steps,
            compile_effort=self.settings.train.compile_effort,
        )

    def initial_state(self, params: Mapping[str, Any] | None = None) -> TrainState:
        """The state at step 0; `params`, of the network or of some modules, replace random ones."""
        return initial_state(
            self.model,
            self.optimizer,
            self.spec,
            self.abstract,
            self.settings.seed,
            params,
            frozen=self.settings.optimizer.frozen,
        )


@dataclass(frozen=True)
class Experiment(Program, ExperimentData):
    """An experiment ready to run; nothing has been drawn or computed yet."""

    @property
    def scored(self) -> str:
        """The side of `split` that is scored during training: "validation" or "test"."""
        return "validation" if self.split.validation else "test"

    def inference_record(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """All besides parameters that a prediction depends on, as JSON values."""
        read_as = protocol(self.dataset, self.settings.data)
        return {
            "dataset": self.dataset.name,
            "synthetic": self.dataset.synthetic,
            "crop": self.dataset.crop,
            **{key: read_as[key] for key in ("layout", "camera", "frame_offset", "folds")},
            "frames": {
                s: self.dataset.set_of(s).subject_facts[s]["frames"] for s in self.split.train
            },
            "set_digests": self.dataset.digests,
            "image_size": self.settings.data.image_size,
            "normalisation": {"mean": IMAGE_MEAN, "std": IMAGE_STD},
            "aus": self.captions.aus,
            "untaught": {str(au): reason for au, reason in self.untaught.items()},
            "vocabulary": self.vocabulary.words,
            "descriptions": self.captions.descriptions.to_json(),
            "lengths": [self.captions.max_local_tokens, self.captions.max_global_tokens],
            "model": asdict(self.model.options),
            "fold": self.settings.data.fold,
            "train_subjects": self.split.train,
            "validation_subjects": self.split.validation,
            "test_subjects": self.split.test,
            "scored": self.scored,
            "ema_decay": self.settings.optimizer.ema_decay,
            "warm_start": None,  # filled in by the training loop
            "steps": self.settings.train.steps,
            "config": config,
            "config_digest": config_digest(config),
        }


def open_data(settings: Settings) -> ExperimentData:
    """Opens the data of an experiment: its `model` and `mesh` are not read.

    Raises:
        UserError: prepared sets, folds, subjects or sampling options do not allow training.
    """
    data = settings.data
    dataset, split = open_for_training(data, settings.seed)
    _check_subjects(settings, dataset, split)
    rows = dataset.training_rows(split.train)
    row_weights(dataset.labels, rows, data, [one.name for one in dataset.sets])  # or UserError
    coded = {au for one in dataset.sets for au in one.aus}
    descriptions = descriptions_of(data.descriptions, dataset.aus, coded)
    if (
        data.descriptions == "graded"
        and not (dataset.labels.au[rows] & (dataset.labels.level[rows] > 0)).any()
    ):
        raise UserError(
            f"data.descriptions='graded': {dataset.folder} codes no intensity of an active AU "
            f"{', '.join(map(str, dataset.aus))} for people who are trained on; give 'states'"
        )
    vocabulary = Vocabulary.build(descriptions)
    counts = dataset.label_counts(rows)
    return ExperimentData(
        settings=settings,
        dataset=dataset,
        split=split,
        vocabulary=vocabulary,
        captions=CaptionTables(dataset.aus, vocabulary, descriptions),
        class_weights=class_weights(*counts),
        untaught=unlearnable(dataset.aus, *counts),
    )


def build_experiment(settings: Settings) -> Experiment:
    """Opens the data and builds all parts; UserError where they do not fit each other."""
    train = settings.train
    mesh = _mesh(settings)
    check_pictures(train.batch_size, settings.data.image_size, jax.process_count())
    data = open_data(settings)
    crop = data.dataset.crop
    program = _program(settings, mesh, data.captions, data.class_weights, crop)
    check_state(program.abstract)
    return Experiment(**vars(data) | vars(program))


def published_program(settings: Settings, devices: Sequence[jax.Device]) -> Program:
    """The program that `build_experiment` would make for `devices`, which need not be here.

    No data are opened: units are those that `published_units` names, and class weights, which are
    values in the program and not shapes, are 1. Faces count as aligned by their eyes.

    Raises:
        UserError: options do not fit each other or the devices, or only prepared data know the
            units.
    """
    mesh = _mesh(settings, devices)
    aus = published_units(settings.data)
    descriptions = descriptions_of(settings.data.descriptions, aus)
    captions = CaptionTables(aus, Vocabulary.build(descriptions), descriptions)
    weights = np.ones(len(captions.aus), np.float32)
    crop = {"parameters": EYE_POSITIONS}
    return _program(settings, mesh, captions, weights, crop)


def _mesh(settings: Settings, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh, which the batch divides over; UserError where options do not fit each other."""
    train = settings.train
    if train.warm_start and settings.model.backbone_weights:
        raise UserError(
            f"train.warm_start={train.warm_start} holds a backbone, too; give it or "
            f"model.backbone_weights={settings.model.backbone_weights}"
        )
    _check_fit(settings)
    mesh = make_mesh(settings.mesh, devices)
    check_batch_size(train.batch_size, mesh)
    return mesh


def _program(
    settings: Settings,
    mesh: Mesh,
    captions: CaptionTables,
    weights: np.ndarray,
    crop: Mapping[str, Any],
) -> Program:
    train = settings.train
    batch = spec(
        batch_size=train.batch_size,
        image_size=settings.data.image_size,
        units=len(captions.aus),
        max_local_tokens=captions.max_local_tokens,
        max_global_tokens=captions.max_global_tokens,
    )
    # A trained network does not depend on its initial file: exports hold no paths.
    options = replace(settings.model, backbone_weights="")
    if settings.optimizer.freeze_backbone:  # its drop path would only add noise for the rest
        options = replace(options, drop_path=0.0)
    model = VLFAU(options, len(captions.aus), captions.vocabulary.size)
    schedule = make_schedule(settings.optimizer, train.steps)
    optimizer = make_optimizer(settings.optimizer, schedule)
    abstract = abstract_state(
        model,
        optimizer,
        batch,
        mesh,
        frozen=settings.optimizer.frozen,
        averaged=settings.optimizer.ema_decay > 0,
    )
    return Program(
        settings=settings,
        captions=captions,
        class_weights=weights,
        regions=_regions(settings.objective, captions.aus, crop),
        spec=batch,
        mesh=mesh,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        abstract=abstract,
    )


def _regions(
    objective: ObjectiveOptions, aus: Sequence[int], crop: Mapping[str, Any]
) -> np.ndarray | None:
    """The units' regions, where the objective uses them and they are known."""
    return templates(aus, crop) if objective.of_regions else None


def _check_subjects(settings: Settings, dataset: Dataset, split: Split) -> None:
    """Refuses a split that leaves nothing to train on, or nothing to score during training."""
    data, every = settings.data, settings.train.eval_every
    if not len(dataset.training_rows(split.train)):
        reason = (
            f"no label of AU {', '.join(map(str, dataset.aus))} is known in their frames"
            if len(dataset.rows(split.train))
            else "all their frames are in excluded stretches"
        )
        raise UserError(
            f"data.fold={data.fold} leaves no face of {dataset.folder} to train on: of "
            f"{', '.join(split.train)}, {reason}"
        )
    scored = split.validation or split.test
    if every and not scored:
        raise UserError(
            f"train.eval_every={every} asks for scores, but data.fold={data.fold} "
            "tests nobody; give 0, fold 1, 2 or 3, or data.validation_subjects"
        )
    if every and not len(dataset.training_rows(scored)):
        fault, remedy = (
            (f"data.validation_subjects={data.validation_subjects}", "give more subjects")
            if split.validation
            else (f"train.eval_every={every}", "give 0, or data.validation_subjects")
        )
        raise UserError(
            f"{fault}: every frame of {', '.join(scored)} is in an excluded stretch or has no "
            f"known label; {remedy}"
        )


def _check_fit(settings: Settings) -> None:
    """Refuses options that are possible alone but not together; UserError names both."""
    size, model = settings.data.image_size, settings.model
    if size < model.patch:
        raise UserError(
            f"data.image_size={size} is smaller than one patch, model.patch={model.patch}; "
            f"give {model.patch} or more"
        )
    side = -(-size // model.patch)
    if model.window > side:
        raise UserError(
            f"model.window={model.window}: the first map has {side} x {side} cells at "
            f"data.image_size={size}; give at most {side}"
        )
    for _ in range(min(*model.taps, 3)):  # taps 1 to 3 each come after a halving, 4 after none
        side = -(-side // 2)
    if model.grid > side:
        raise UserError(
            f"model.grid={model.grid}: the finest of model.taps={model.taps} has {side} x {side} "
            f"cells at data.image_size={size}; give at most {side}, or 0 for the last stage's own"
        )
    if settings.optimizer.captioner_learning_rate and not model.captions:
        raise UserError(
            f"optimizer.captioner_learning_rate={settings.optimizer.captioner_learning_rate}: the "
            "model has no captioner (model.local_captions=False, model.global_captions=False); "
            "give 0"
        )
    spoken = ("local",) if settings.data.descriptions == "graded" else ("local", "global")
    if settings.data.descriptions != "states" and not {*spoken} & {*model.captions}:
        keys = " and ".join(f"model.{kind}_captions=False" for kind in spoken)
        raise UserError(
            f"data.descriptions={settings.data.descriptions!r}: no such sentence is learned "
            f"({keys}); give 'states'"
        )
    if settings.optimizer.freeze_backbone and not (
        settings.train.warm_start or model.backbone_weights
    ):
        raise UserError(
            "optimizer.freeze_backbone=True: the backbone would stay random; give "
            "train.warm_start or model.backbone_weights, or freeze_backbone=False"
        )
    if model.global_context and not settings.objective.global_weight:
        raise UserError(
            "model.global_context=True: objective.global_weight=0 never trains its decoder; "
            "give it a weight, or global_context=False"
        )
    _check_maps(settings.objective, model)
    for name in settings.objective.ramped:
        ramp = getattr(settings.objective, f"{name}_ramp")
        if ramp[0] >= settings.train.steps:
            raise UserError(
                f"objective.{name}_ramp={ramp}: training ends before, at train.steps="
                f"{settings.train.steps}; give a first step below it"
            )
        if name in ("local", "global") and name not in model.captions:
            raise UserError(
                f"objective.{name}_ramp={ramp}: model.{name}_captions=False has no such term; "
                "give (0, 0)"
            )


def _check_maps(objective: ObjectiveOptions, model: ModelOptions) -> None:
    """Refuses terms of maps that the model does not have."""
    for name in objective.of_maps:
        given = f"objective.{name}_weight={getattr(objective, f'{name}_weight')}"
        if name == "word_region":
            if not model.local_captions:
                raise UserError(f"{given}: model.local_captions=False has no such words; give 0")
        elif model.refinement in ("channel", "none"):
            raise UserError(
                f"{given}: model.refinement={model.refinement} has no spatial attention; give 0"
            )
        elif not model.spatial_sigmoid:
            raise UserError(
                f"{given}: without a sigmoid the spatial maps may be negative and are no "
                "distribution over places; give model.spatial_sigmoid=True, or 0"
            )
