"""The joint objective, term by term (the paper's L_au, L_local and L_global; and of maps).

Every term is a (sum, weight) pair (`LossTerms`), so that masks, unknown labels and shards divide
once. Unknown labels and rows that are not valid add nothing to either, nor to any gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from pydantic import Field

from vlfau_jax.data.text.vocabulary import PAD
from vlfau_jax.errors import UserError
from vlfau_jax.losses import maps
from vlfau_jax.model.vlfau import Outputs
from vlfau_jax.options import Options, StepsOrNone, Weight

OF_MAPS = ("map_region", "word_region", "map_entropy", "map_variation")


@dataclass(frozen=True)
class ObjectiveOptions(Options):
    """What is minimised: au + dice_weight * dice + local_weight * local + global_weight * global.

    The terms of attention maps (`losses.maps`) are not the paper's: each is added with its weight,
    and 0 leaves it out.

    A ramp (first, last) schedules a weight: 0 until `first` steps have been taken, then linear,
    full from `last` on. (0, 0) is full from the start.

    Attributes:
        au_loss: 'bce' or 'asymmetric'.
        dice_weight: 0 leaves the Dice term out.
        local_weight: of the sentences about the action units; 0 leaves them untrained.
        global_weight: of the sentence about the face; 0 leaves it untrained.
        dice_ramp: schedule of `dice_weight`.
        local_ramp: schedule of `local_weight`.
        global_ramp: schedule of `global_weight`.
        class_weighting: whether rare action units weigh more (`class_weights`).
        local_branches: each step trains the sentences of at most this many action units, drawn at
            random; 0 for all of them. Ignored where model.local_captions is off.
        map_region_weight: of DAIR's spatial maps inside their units' regions (`regions`).
        word_region_weight: of the local sentences' attention inside their units' regions.
        map_entropy_weight: of the entropy of DAIR's spatial maps, which concentrates them.
        map_variation_weight: of the total variation of DAIR's spatial maps, which smooths them.
    """

    group: ClassVar[str] = "objective"

    au_loss: Literal["bce", "asymmetric"] = "bce"
    dice_weight: Weight = 1.0
    local_weight: Weight = 1.0
    global_weight: Weight = 1.0
    dice_ramp: tuple[StepsOrNone, StepsOrNone] = (0, 0)
    local_ramp: tuple[StepsOrNone, StepsOrNone] = (0, 0)
    global_ramp: tuple[StepsOrNone, StepsOrNone] = (0, 0)
    class_weighting: bool = True
    local_branches: Annotated[int, Field(ge=0, le=1000)] = 0
    map_region_weight: Weight = 0.0
    word_region_weight: Weight = 0.0
    map_entropy_weight: Weight = 0.0
    map_variation_weight: Weight = 0.0

    def __post_init__(self) -> None:
        """Refuses an impossible objective, naming field and value."""
        super().__post_init__()
        for name in ("dice", "local", "global"):
            ramp = getattr(self, f"{name}_ramp")
            if ramp[0] > ramp[1]:
                raise UserError(
                    f"objective.{name}_ramp={ramp}: give two steps (first, last), "
                    "0 <= first <= last"
                )
            if any(ramp) and not getattr(self, f"{name}_weight"):
                raise UserError(
                    f"objective.{name}_ramp={ramp}: objective.{name}_weight=0 leaves nothing to "
                    "ramp; give it a weight or (0, 0)"
                )

    @property
    def of_maps(self) -> tuple[str, ...]:
        """The terms of attention maps that have a weight."""
        return tuple(name for name in OF_MAPS if getattr(self, f"{name}_weight"))

    @property
    def of_regions(self) -> tuple[str, ...]:
        """Those of them that need to know the units' regions."""
        return tuple(name for name in self.of_maps if name.endswith("_region"))

    @property
    def ramped(self) -> tuple[str, ...]:
        """The terms whose weight follows a ramp."""
        return tuple(
            name for name in ("dice", "local", "global") if any(getattr(self, f"{name}_ramp"))
        )

    def weights(self, step: Array | int) -> dict[str, Array | float]:
        """The weight of every term once `step` steps have been taken."""
        base = {"au": 1.0} | {
            name: getattr(self, f"{name}_weight") for name in ("dice", "local", "global", *OF_MAPS)
        }
        return base | {
            name: base[name] * _ramp(step, *getattr(self, f"{name}_ramp")) for name in self.ramped
        }


def _ramp(step: Array | int, first: int, last: int) -> Array:
    """0 before `first`, 1 from `last` on, linear between; float32 []."""
    if first == last:
        return jnp.where(step < last, 0.0, 1.0)
    return jnp.clip((step - first) / (last - first), 0.0, 1.0)


class Term(NamedTuple):
    """One term of the objective, both float32 []: a sum over what counts, and how much counted."""

    total: Array
    weight: Array

    def mean(self) -> Array:
        """Total over weight; zero, with zero gradient, where nothing counted."""
        counted = self.weight > 0
        return jnp.where(counted, self.total / jnp.where(counted, self.weight, 1.0), 0.0)


# The objective's terms by name: 'au' and, as options and captions have them, 'dice', 'local',
# 'global'. Of 'au' the weight counts known labels, of 'dice' action units with a known label, of
# 'local' and 'global' the words that follow <start>, <end> included, of 'word_region' the sentences
# and of the others of `OF_MAPS` the maps.
LossTerms = dict[str, Term]


def class_weights(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
    """w_i = N (1 / r_i) / sum_j (1 / r_j), r_i the occurrence rate of action unit i; float32 [n].

    A unit that is never active has no rate to divide by: it weighs 1, the others' mean. One that is
    never annotated weighs 0.
    """
    rated = positives > 0
    inverse = np.where(rated, known / np.maximum(positives, 1), 0.0)
    scale = rated.sum() / inverse.sum() if rated.any() else 0.0
    return np.where(rated, inverse * scale, known > 0).astype(np.float32)


def binary_cross_entropy(logits: Array, au: Array, known: Array, weights: Array) -> Term:
    """Weighted binary cross-entropy over known labels; logits, au and known [b, n], weights [n]."""
    losses = optax.sigmoid_binary_cross_entropy(jnp.where(known, logits, 0.0), au)
    return Term(jnp.sum(losses * weights[None] * known), jnp.sum(known, dtype=jnp.float32))


def asymmetric(logits: Array, au: Array, known: Array, weights: Array) -> Term:
    """-w [y log p + (1 - y) stop_grad(p) log(1 - p)]: easy negatives count less."""
    logits = jnp.where(known, logits, 0.0)
    ease = jax.lax.stop_gradient(jax.nn.sigmoid(logits))
    losses = -au * jax.nn.log_sigmoid(logits) - (1 - au) * ease * jax.nn.log_sigmoid(-logits)
    return Term(jnp.sum(losses * weights[None] * known), jnp.sum(known, dtype=jnp.float32))


_AU_LOSSES = {"bce": binary_cross_entropy, "asymmetric": asymmetric}


def dice(logits: Array, au: Array, known: Array, weights: Array) -> Term:
    """Weighted 1 - (2 sum p y + 1) / (sum p^2 + sum y^2 + 1) per action unit over the batch."""
    p = jnp.where(known, jax.nn.sigmoid(jnp.where(known, logits, 0.0)), 0.0)
    y = au * known
    overlap = 2 * jnp.sum(p * y, 0) + 1
    size = jnp.sum(p * p, 0) + jnp.sum(y * y, 0) + 1
    annotated = known.any(0)
    losses = (1 - overlap / size) * weights * annotated
    return Term(jnp.sum(losses), jnp.sum(annotated, dtype=jnp.float32))


def token_cross_entropy(logits: Array, tokens: Array, counted: Array) -> Term:
    """Cross-entropy of each next word: logits [..., t-1, v], tokens [..., t], counted [...]."""
    kept = _next_words(tokens, counted)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[..., 1:])
    return Term(jnp.sum(jnp.where(kept, losses, 0.0)), jnp.sum(kept, dtype=jnp.float32))


def _next_words(tokens: Array, counted: Array) -> Array:
    """Which next words are scored: bool [..., t-1]."""
    return (tokens[..., 1:] != PAD) & counted[..., None]


class BatchTotals(NamedTuple):
    """What a micro-batch must know of the whole batch, for the gradients to add up.

    weights: every term's, of the whole batch (`joint_weights`). dice_gradient: of the whole batch's
    Dice total with respect to the logits of the micro-batch's rows, float32 [b, n]; None without
    that term.
    """

    weights: dict[str, Array]
    dice_gradient: Array | None = None


def joint_loss(
    outputs: Outputs,
    batch: dict[str, Array],
    *,
    class_weights: Array,
    options: ObjectiveOptions,
    branches: Array | None = None,
    regions: Array | None = None,
    batch_totals: BatchTotals | None = None,
) -> LossTerms:
    """The terms to which `options` gives a weight, by name: 'au', 'dice', 'local', 'global', ...

    `branches` int32 [k] are the action units of `outputs.local_logits` [b, k, t-1, v] (None: all).
    `regions` float32 [n, s, s] are the units' (`vlfau_jax.regions.templates`), None where no term
    needs them or nobody knows them: these terms are then left out; a unit without one counts in
    none of them. Logits that the model did not compute
    leave their term out. Where `batch` is a micro-batch, `batch_totals` gives its terms the weights
    of the whole one; of 'dice', only the gradient is then right.
    """
    known = known_labels(batch)
    weights = class_weights if options.class_weighting else jnp.ones_like(class_weights)
    labels = (outputs.au_logits, batch["au"], known, weights)
    terms = {"au": _AU_LOSSES[options.au_loss](*labels)}
    if options.dice_weight:
        terms["dice"] = (
            dice(*labels) if batch_totals is None else _linear(outputs.au_logits, batch_totals)
        )
    if options.local_weight and outputs.local_logits is not None:
        tokens = batch["local_tokens"]
        if branches is not None:
            tokens, known = tokens[:, branches], known[:, branches]
        terms["local"] = token_cross_entropy(outputs.local_logits, tokens, known)
    if options.global_weight and outputs.global_logits is not None:
        terms["global"] = token_cross_entropy(
            outputs.global_logits, batch["global_tokens"], batch["valid"]
        )
    terms |= _of_maps(outputs, batch, options, branches, regions)
    if batch_totals is not None:
        terms = {name: Term(term.total, batch_totals.weights[name]) for name, term in terms.items()}
    return terms


def _of_maps(
    outputs: Outputs,
    batch: dict[str, Array],
    options: ObjectiveOptions,
    branches: Array | None,
    regions: Array | None,
) -> LossTerms:
    """The terms of `OF_MAPS` to which `options` gives a weight."""
    if not options.of_maps:
        return {}
    s, attention = outputs.spatial_maps, outputs.local_attention
    losses = {}
    of_regions = options.of_regions if regions is not None else ()
    if of_regions:
        inside = maps.cells_inside(regions, batch["view"], s.shape[-2:])
    if "map_region" in of_regions:
        losses["map_region"] = maps.open_inside(s, inside)
    if "word_region" in of_regions and attention is not None:
        tokens = batch["local_tokens"]
        if branches is not None:
            tokens, inside = tokens[:, branches], inside[:, branches]
        # Padded rows have no words: their mean attention is zero.
        attention = maps.word_mean(attention, tokens[..., 1:] != PAD)
        losses["word_region"] = maps.region(attention, inside)
    if options.map_entropy_weight:
        losses["map_entropy"] = maps.entropy(s)
    if options.map_variation_weight:
        losses["map_variation"] = maps.variation(s)
    counted = _counted_maps(batch, branches, regions)
    return {
        name: Term(
            jnp.sum(jnp.where(counted[name], loss, 0.0)),
            jnp.sum(counted[name], dtype=jnp.float32),
        )
        for name, loss in losses.items()
    }


def _counted_maps(
    batch: dict[str, Array],
    branches: Array | None,
    regions: Array | None,
) -> dict[str, Array]:
    """Which maps, bool [b, n], or sentences, [b, k], count in each term of `OF_MAPS`."""
    known = known_labels(batch)
    every = jnp.broadcast_to(batch["valid"][:, None], known.shape)
    counted = {"map_entropy": every, "map_variation": every}
    if regions is None:
        return counted
    has_region = (regions > 0).any((-1, -2))[None]
    described = known & has_region
    if branches is not None:
        described = described[:, branches]
    return counted | {"map_region": every & has_region, "word_region": described}


def _linear(logits: Array, batch_totals: BatchTotals) -> Term:
    return Term(jnp.sum(batch_totals.dice_gradient * logits), batch_totals.weights["dice"])


def known_labels(batch: dict[str, Array]) -> Array:
    """Which labels count: those known, in rows that are valid; bool [b, n]."""
    return batch["au_known"] & batch["valid"][:, None]


def joint_weights(
    batch: dict[str, Array], branches: Array | None = None, regions: Array | None = None
) -> dict[str, Array]:
    """The weights of all terms that `joint_loss` may have, from labels and masks alone."""
    known = described = known_labels(batch)
    tokens = batch["local_tokens"]
    if branches is not None:
        tokens, described = tokens[:, branches], known[:, branches]
    counted = {
        "au": known,
        "dice": known.any(0),
        "local": _next_words(tokens, described),
        "global": _next_words(batch["global_tokens"], batch["valid"]),
        **_counted_maps(batch, branches, regions),
    }
    return {name: jnp.sum(those, dtype=jnp.float32) for name, those in counted.items()}


def joint_dice(
    logits: Array, batch: dict[str, Array], class_weights: Array, options: ObjectiveOptions
) -> Term:
    """The term 'dice' of `joint_loss`, from AU logits [b, n] alone."""
    weights = class_weights if options.class_weighting else jnp.ones_like(class_weights)
    return dice(logits, batch["au"], known_labels(batch), weights)


def total(terms: LossTerms, options: ObjectiveOptions, step: Array | int = 0) -> Array:
    """The scalar that is minimised; `step` counts the steps taken before, for the ramps."""
    weights = options.weights(step)
    return sum(weights[name] * term.mean() for name, term in terms.items())
