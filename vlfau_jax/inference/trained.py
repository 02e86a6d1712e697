"""A trained model as a workdir keeps it, ready to be evaluated or exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import jax
from flax import linen as nn

from vlfau_jax.data.read.batch import spec
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.swin import unstack_blocks
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD, VLFAU, normalise
from vlfau_jax.train.checkpoint import BEST, LAST, load_inference
from vlfau_jax.train.state import abstract_params
from vlfau_jax.train.workdir import CONFIG_FILE, config_digest, read_config

# The field scores at 0.5; a threshold tuned on the test fold would be another protocol.
THRESHOLD = 0.5
MOST_BEAMS = 16

OUTPUTS = {
    "au_probabilities": "float32 [b, n], 0-1: probability that each unit of `aus` is present",
    "local_tokens": "int32 [b, n, t]: one sentence a unit: at most t - 1 words, <end>, then <pad>",
    "local_scores": "float32 [b, n]: mean log-probability of each sentence's words, <end> counted",
    "global_tokens": "int32 [b, t']: the sentence about the whole face, likewise",
    "global_scores": "float32 [b]: mean log-probability of its words",
    "spatial_maps": "float32 [b, n, h, w]: where each unit's branch looks",
    "local_attention": "float32 [b, n, t, h, w]: where each word of each sentence looks",
    "global_attention": "float32 [b, t', h, w]",
}

Options = TypeVar("Options")


def outputs_of(options: ModelOptions) -> dict[str, str]:
    """The part of `OUTPUTS` that a network of these options gives.

    Without spatial attention there are no spatial maps: the network's are then 1 everywhere, which
    would look like an answer.
    """
    there = {
        "local": "local" in options.captions,
        "global": "global" in options.captions,
        "spatial": options.refinement in ("both", "spatial"),
    }
    return {name: note for name, note in OUTPUTS.items() if there.get(name.split("_")[0], True)}


@dataclass(frozen=True)
class Trained:
    """The model, its parameters, and all that its answers depend on.

    Attributes:
        model: the network.
        params: its parameters, float32 NumPy arrays in nested dicts.
        vocabulary: the words it was trained with.
        aus: the units' numbers, in the order of every array.
        thresholds: a probability above it counts as present, per unit.
        max_words: the most words of a local and of the global sentence, without <start> and <end>.
        crop_rule: how its faces were cropped (faces.CropRule.describe).
        data: where and how its data set is read.
        read_as: the prepared set's `camera` and `frame_offset` (see data.protocol); {} in runs of
            earlier versions.
        train_subjects: the people it was trained on.
        validation_subjects: those who were scored meanwhile, kept back from training.
        synthetic: whether their faces were rendered.
        begun_from: the run's record of its first parameters, with the people whom they had seen;
            None for random ones.
        ema_decay: of the running average that `params` are; 0 where they are the newest themselves.
        step: steps of training.
        chosen: how the checkpoint was: "last", "step N", or the best by whose scores.
        config_digest: sha256 of the experiment.
        beams: width of the search for its sentences; 1 is greedy.
    """

    model: VLFAU
    params: Any
    vocabulary: Vocabulary
    aus: tuple[int, ...]
    thresholds: tuple[float, ...]
    max_words: tuple[int, int]
    crop_rule: Mapping[str, Any]
    data: DataOptions
    read_as: Mapping[str, Any]
    train_subjects: tuple[str, ...]
    validation_subjects: tuple[str, ...]
    synthetic: bool
    begun_from: Mapping[str, Any] | None
    ema_decay: float
    step: int
    chosen: str
    config_digest: str
    beams: int = 1

    @property
    def captions(self) -> tuple[str, ...]:
        """Which sentences it writes: "local", "global", both or neither."""
        return self.model.options.captions

    def describe(self, params: Any, image: jax.Array) -> dict[str, jax.Array]:
        """The `outputs_of` its options, by name, of uint8 RGB images [b, h, w, 3].

        Parameters are an argument, so that a program need not hold them.
        """
        said = self.model.apply(
            {"params": params}, normalise(image), *self.max_words, self.beams, method=VLFAU.describe
        )
        names = outputs_of(self.model.options).keys() - {"au_probabilities"}
        outputs = {name: getattr(said, name) for name in sorted(names)}
        return {"au_probabilities": jax.nn.sigmoid(said.au_logits), **outputs}

    @property
    def warm_start(self) -> dict[str, str] | None:
        """`begun_from` for readers: how many people, not who."""
        if self.begun_from is None:
            return None
        return {key: value for key, value in self.begun_from.items() if key != "seen"}

    @property
    def beginning(self) -> str:
        """Where the first parameters came from, in words."""
        if self.begun_from is None:
            return "random parameters"
        told = self.begun_from
        people = told.get("people")
        seen = f", trained on {people} people, {told['trained_on']}" if people else ""
        return f"{told['file']} (sha256 {told['sha256'][:12]}{seen})"


def load_trained(workdir: str | Path, beams: int = 1, checkpoint: str = LAST) -> Trained:
    """A run's checkpoint, "last", "best" or a step's, to write sentences with a search of `beams`.

    Nothing but the checkpoint is needed; where the run's config.json is there, too, the place of
    the data set is read from it, since sets may move.

    Raises UserError where there is no such checkpoint, where it has another normalisation,
    vocabulary or network than this version can have, or other arrays than that network, or where
    `beams` is impossible or would do nothing.
    """
    if not 1 <= beams <= MOST_BEAMS:
        raise UserError(f"--beams={beams}: give 1 (greedy) to {MOST_BEAMS}")
    workdir = Path(workdir)
    params, record, step = load_inference(
        workdir, checkpoint, lambda record: _parameters(record, workdir)
    )
    model = _network(record, workdir)
    # Scanning serves training; what leaves a run is always in the looped layout.
    model = model.clone(options=replace(model.options, scan_blocks=False))
    trained = Trained(
        model=model,
        params=params | {"backbone": unstack_blocks(params["backbone"])},
        vocabulary=Vocabulary.build(),
        aus=tuple(record["aus"]),
        thresholds=(THRESHOLD,) * len(record["aus"]),
        max_words=tuple(tokens - 2 for tokens in record["lengths"]),  # less <start> and <end>
        crop_rule=record["crop"],
        data=_data_options(record, workdir),
        read_as={key: record[key] for key in ("camera", "frame_offset") if key in record},
        train_subjects=tuple(record["train_subjects"]),
        validation_subjects=tuple(record.get("validation_subjects", ())),  # earlier: none
        synthetic=record["synthetic"],
        begun_from=record["warm_start"],
        ema_decay=record["ema_decay"],
        step=step,
        chosen=_chosen(checkpoint, record),
        config_digest=record["config_digest"],
        beams=beams,
    )
    if beams > 1 and not trained.captions:
        raise UserError(f"--beams={beams}: the model of {workdir} writes no sentence; leave it out")
    return trained


def _network(record: Mapping[str, Any], workdir: Path) -> VLFAU:
    """The network that a record describes; UserError where this version has none like it."""
    wanted = {"mean": list(IMAGE_MEAN), "std": list(IMAGE_STD)}
    if record["normalisation"] != wanted:
        raise UserError(
            f"{workdir}: trained on pixels normalised by {record['normalisation']}, but this "
            f"version normalises by {wanted}; use the version that trained it"
        )
    vocabulary = Vocabulary.build()
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
    aus = record["aus"]
    if len(set(aus)) < len(aus) or not set(aus) <= ACTION_UNITS.keys():
        raise UserError(
            f"{workdir}: trained on AU {', '.join(map(str, aus))}, which are not units of this "
            "version, each once; use the version that trained it"
        )
    return VLFAU(read_options(ModelOptions, record["model"], workdir), len(aus), vocabulary.size)


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
    """As trained on, at the place that the workdir now names."""
    there = (workdir / CONFIG_FILE).exists()
    if "config" not in record:  # of an earlier version
        return read_options(DataOptions, read_config(workdir)["data"], workdir)
    now = read_config(workdir).get("data", {}) if there else {}
    places = {key: now[key] for key in ("data_dir", "threads", "workers") if key in now}
    return read_options(DataOptions, record["config"]["data"] | places, workdir)


def _chosen(checkpoint: str, record: Mapping[str, Any]) -> str:
    """How a checkpoint was chosen, in words."""
    ways = {LAST: "last", BEST: f"best by mean F1 of the {record.get('scored')} subjects"}
    return ways.get(checkpoint, f"step {checkpoint}")


def read_options(kind: type[Options], written: Mapping[str, Any], source: Path) -> Options:
    """Options as JSON gives them back: lists made tuples, fields not yet known then at defaults.

    Raises UserError, naming `source`, for a field that this version does not know, or a value that
    it refuses.
    """
    try:
        strange = written.keys() - {field.name for field in fields(kind)}
        if not strange:
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in written.items()}
            return kind(**values)
    except (AttributeError, TypeError, UserError) as error:
        raise UserError(f"{source}: holds no {kind.__name__} that can be ({error})") from error
    raise UserError(
        f"{source}: {kind.__name__} holds {', '.join(map(repr, sorted(strange)))}, which this "
        "version does not know; use the version of vlfau_jax that wrote it"
    )
