"""Load a trained model from the checkpoint of a workdir, to evaluate or export it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn

from vlfau_jax.data.read.batch import spec
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.statistics import read_untaught
from vlfau_jax.data.text.description_file import stored_descriptions
from vlfau_jax.data.text.descriptions import Descriptions
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.inference.model_folder import MOST_BEAMS
from vlfau_jax.inference.outputs import describe
from vlfau_jax.inference.stored_options import read_options
from vlfau_jax.model.layouts import unstack_blocks
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD, VLFAU
from vlfau_jax.train.checkpoint import BEST, LAST, load_inference
from vlfau_jax.train.state import abstract_params
from vlfau_jax.train.workdir import CONFIG_FILE, config_digest, read_config

# The field scores at 0.5; a threshold tuned on the test fold would be another protocol.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Trained:
    """The model, its parameters, and everything else that its predictions depend on.

    Attributes:
        model: the network.
        params: its parameters, float32 NumPy arrays in nested dicts.
        vocabulary: the words it was trained with.
        descriptions: the texts it was trained with, from which is known what its sentences say.
        aus: the units' numbers, in the order of every array.
        thresholds: a probability above it counts as present, per unit.
        max_words: the most words of a local and of the global sentence, without <start> and <end>.
        crop_rule: how its faces were cropped, as `CropRule.describe` gives it.
        data: where and how its data set is read.
        read_as: the prepared set's `camera`, `frame_offset` and `folds` (see data.protocol), as far
            as the version of the run recorded them.
        train_subjects: the subjects it was trained on.
        validation_subjects: those kept back from training and scored during it.
        synthetic: whether any of their faces were rendered.
        initial_parameters: the run's record of the file that its parameters were initialised
            from, with the subjects that those had been trained on; None for random ones.
        ema_decay: of the running average that `params` are; 0 where they are the newest themselves.
        step: steps of training.
        checkpoint: which checkpoint it is: "last", "step N", or "best by mean F1 of the ...
            subjects".
        config_digest: sha256 of the experiment.
        beams: width of the search for its sentences; 1 is greedy.
        untaught: the units that its training labels could not teach, each with the reason, such as
            "never active"; empty in runs of versions that did not record it.
        averaged: a record of each run whose parameters `params` are the mean of, see
            `averaged.averaged`; empty where they are one run's own.
        shifts: what was added to the logits of units, in `params`, see `shifts.shifted`.
    """

    model: VLFAU
    params: Any
    vocabulary: Vocabulary
    descriptions: Descriptions
    aus: tuple[int, ...]
    thresholds: tuple[float, ...]
    max_words: tuple[int, int]
    crop_rule: Mapping[str, Any]
    data: DataOptions
    read_as: Mapping[str, Any]
    train_subjects: tuple[str, ...]
    validation_subjects: tuple[str, ...]
    synthetic: bool
    initial_parameters: Mapping[str, Any] | None
    ema_decay: float
    step: int
    checkpoint: str
    config_digest: str
    beams: int = 1
    untaught: Mapping[int, str] = field(default_factory=dict)
    averaged: tuple[Mapping[str, Any], ...] = ()
    shifts: Mapping[int, float] = field(default_factory=dict)

    @property
    def captions(self) -> tuple[str, ...]:
        """Which sentences the model generates: "local", "global", both or neither."""
        return self.model.options.captions

    def describe(self, params: Any, image: jax.Array) -> dict[str, jax.Array]:
        """The arrays that `outputs_of` lists, by name, for uint8 RGB images [b, h, w, 3].

        Parameters are an argument so that a compiled program does not hold them as constants.
        """
        return describe(self.model, params, image, self.max_words, self.beams)

    @property
    def warm_start(self) -> dict[str, str] | None:
        """`initial_parameters` for readers: with the number of subjects, without their names."""
        if self.initial_parameters is None:
            return None
        return {key: value for key, value in self.initial_parameters.items() if key != "seen"}

    @property
    def initialisation(self) -> str:
        """Where the initial parameters came from, in words."""
        if self.initial_parameters is None:
            return "random parameters"
        record = self.initial_parameters
        people = record.get("people")
        trained = f", trained on {people} people, {record['trained_on']}" if people else ""
        return f"{record['file']} (sha256 {record['sha256'][:12]}{trained})"


def load_trained(workdir: str | Path, beams: int = 1, checkpoint: str = LAST) -> Trained:
    """Loads a run's checkpoint.

    Only the checkpoint is needed. Where the run's config.json exists, the place of the data set is
    read from that, since sets may move.

    Args:
        workdir: the run.
        beams: width of the search for sentences; 1 is greedy.
        checkpoint: "last", "best" or a step.

    Raises:
        UserError: there is no such checkpoint; its normalisation, vocabulary or network is not
            one that this version has; its arrays are not those of that network; or `beams` is out
            of range or would have no effect.
    """
    if not 1 <= beams <= MOST_BEAMS:
        raise UserError(f"--beams={beams}: give 1 (greedy) to {MOST_BEAMS}")
    workdir = Path(workdir)
    params, record, step = load_inference(
        workdir, checkpoint, lambda record: _parameters(record, workdir)
    )
    model = _network(record, workdir)
    # Scanning shortens compilation for training; outside a run the layout is always looped.
    model = model.clone(options=replace(model.options, scan_blocks=False))
    descriptions = _descriptions(record, workdir)
    trained = Trained(
        model=model,
        params=params | {"backbone": unstack_blocks(params["backbone"])},
        vocabulary=Vocabulary.build(descriptions),
        descriptions=descriptions,
        aus=tuple(record["aus"]),
        thresholds=(THRESHOLD,) * len(record["aus"]),
        max_words=tuple(tokens - 2 for tokens in record["lengths"]),  # less <start> and <end>
        crop_rule=record["crop"],
        data=_data_options(record, workdir),
        read_as={key: record[key] for key in ("camera", "frame_offset", "folds") if key in record},
        train_subjects=tuple(record["train_subjects"]),
        validation_subjects=tuple(record.get("validation_subjects", ())),  # absent in early runs
        synthetic=record["synthetic"],
        initial_parameters=record["warm_start"],
        ema_decay=record["ema_decay"],
        step=step,
        checkpoint=_describe_checkpoint(checkpoint, record),
        config_digest=record["config_digest"],
        beams=beams,
        untaught=read_untaught(record.get("untaught", {}), workdir),
    )
    if beams > 1 and not trained.captions:
        raise UserError(f"--beams={beams}: the model of {workdir} writes no sentence; leave it out")
    return trained


def _network(record: Mapping[str, Any], workdir: Path) -> VLFAU:
    """The network that a record describes; UserError where this version cannot build it."""
    wanted = {"mean": list(IMAGE_MEAN), "std": list(IMAGE_STD)}
    if record["normalisation"] != wanted:
        raise UserError(
            f"{workdir}: trained on pixels normalised by {record['normalisation']}, but this "
            f"version normalises by {wanted}; use the version that trained it"
        )
    aus = record["aus"]
    if len(set(aus)) < len(aus) or not set(aus) <= ACTION_UNITS.keys():
        raise UserError(
            f"{workdir}: trained on AU {', '.join(map(str, aus))}, which are not units of this "
            "version, each once; use the version that trained it"
        )
    vocabulary = Vocabulary.build(_descriptions(record, workdir))
    if list(vocabulary.words) != record["vocabulary"]:
        raise UserError(
            f"{workdir}: trained on {len(record['vocabulary'])} words, which are not the "
            f"{vocabulary.size} of this version's sentences; use the version that trained it"
        )
    if "config" in record and config_digest(record["config"]) != record["config_digest"]:
        raise UserError(
            f"{workdir}: the checkpoint's config has the digest "
            f"{config_digest(record['config'])[:12]}, not {record['config_digest'][:12]} as it "
            "says; take another checkpoint"
        )
    return VLFAU(read_options(ModelOptions, record["model"], workdir), len(aus), vocabulary.size)


def _descriptions(record: Mapping[str, Any], workdir: Path) -> Descriptions:
    return stored_descriptions(record.get("descriptions"), record["aus"], workdir)


def _parameters(record: Mapping[str, Any], workdir: Path) -> Any:
    """Shapes and dtypes of the parameters of the network that a record describes."""
    model = _network(record, workdir)
    max_local_tokens, max_global_tokens = record["lengths"]
    batch = spec(
        batch_size=1,
        image_size=record["image_size"],
        units=len(record["aus"]),
        max_local_tokens=max_local_tokens,
        max_global_tokens=max_global_tokens,
    )
    return nn.meta.unbox(abstract_params(model, batch))


def _data_options(record: Mapping[str, Any], workdir: Path) -> DataOptions:
    """The options of the training data, with the places that the workdir's config.json gives."""
    if "config" not in record:  # written by an earlier version
        return read_options(DataOptions, read_config(workdir)["data"], workdir)
    has_config = (workdir / CONFIG_FILE).exists()
    current = read_config(workdir).get("data", {}) if has_config else {}
    places = {
        key: current[key] for key in ("data_dir", "folds", "threads", "workers") if key in current
    }
    return read_options(DataOptions, record["config"]["data"] | places, workdir)


def _describe_checkpoint(checkpoint: str, record: Mapping[str, Any]) -> str:
    """Which checkpoint was loaded, in words."""
    texts = {LAST: "last", BEST: f"best by mean F1 of the {record.get('scored')} subjects"}
    return texts.get(checkpoint, f"step {checkpoint}")
