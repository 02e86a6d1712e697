"""One training step: a single jitted function of sharded state and batch; the state is donated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array
from jax.sharding import Mesh

from vlfau_jax.losses.joint import (
    BatchTotals,
    LossTerms,
    ObjectiveOptions,
    Term,
    joint_dice,
    joint_loss,
    joint_weights,
    total,
)
from vlfau_jax.model.draws import kept_rows
from vlfau_jax.model.vlfau import VLFAU, normalise
from vlfau_jax.sharding.arrays import batch_sharding, known_mesh, replicated
from vlfau_jax.sharding.rules import gathered
from vlfau_jax.train.accumulate import (
    merge_micro_batches,
    split_micro_batches,
    sum_over_micro_batches,
)
from vlfau_jax.train.optimizer import trainable
from vlfau_jax.train.state import TrainState, stream

Batch = dict[str, Array]
Metrics = dict[str, Array]
# Fast memory of a TPU that one operation's tiles may take, of 16 MiB. XLA writes a tile's work out
# without loops: a third compiles Swin-B's step in a third of the CPU time, for 15 % more cycles by
# XLA's own estimate of an MLP (account/README.md).
TILES_KIB = 5632


@struct.dataclass
class Given:
    """What differs between runs of one program: arguments of the step, not constants in it.

    Runs of other seeds, folds and labels so share one compiled program.

    Attributes:
        key: data of the random key of the seed, uint32 [2].
        class_weights: of the loss, float32 [n].
        regions: those of `joint_loss`, or None.
    """

    key: np.ndarray | Array
    class_weights: np.ndarray | Array
    regions: np.ndarray | Array | None


@dataclass(frozen=True)
class CompiledStep:
    """step(state, batch) -> (state, metrics), compiled; `given` lies on the devices."""

    program: jax.stages.Compiled
    given: Given

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return self.program(state, batch, self.given)


@dataclass(frozen=True)
class TrainStep:
    """step(state, batch) -> (state, metrics), jitted; the state passed in is donated."""

    jitted: jax.stages.Wrapped
    given: Given
    mesh: Mesh

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return self.jitted(state, batch, self.given)

    def trace(self, state: TrainState, batch: Batch) -> jax.stages.Traced:
        """The traced step; shapes are enough, and the devices need not be here."""
        return self.jitted.trace(state, batch, self.given)

    def lower(self, state: TrainState, batch: Batch) -> jax.stages.Lowered:
        """The lowered step, as `trace`."""
        return self.trace(state, batch).lower()

    def compile(self, state: TrainState, batch: Batch) -> CompiledStep:
        """Compiles for arguments of these shapes and shardings."""
        given = jax.device_put(self.given, replicated(self.mesh))
        return CompiledStep(self.lower(state, batch).compile(), given)


def make_train_step(
    model: VLFAU,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
    abstract: TrainState,
    *,
    objective: ObjectiveOptions,
    class_weights: np.ndarray,
    seed: int,
    regions: np.ndarray | None = None,
    frozen: tuple[str, ...] = (),
    ema_decay: float = 0.0,
    parts: int = 1,
    skip_steps: int = 0,
    compile_effort: float = 0.0,
) -> TrainStep:
    """Builds the step of a run.

    Step k draws the action units whose sentences it trains (`objective.local_branches`) from
    (seed, k) alone, and for row r of the batch its dropout, drop path and what its sentences are
    told from (seed, k, r). Metrics are float32 scalars on the devices: the mean of every loss term,
    the weight of each that follows a ramp ('local_weight'), 'total', 'grad_norm' (before clipping),
    'learning_rate', and 'skipped', that of the new state.

    `regions` are those of `joint_loss`. The modules named in `frozen` are not differentiated, so
    there is no backward pass through them. `ema_decay` is that of the state's average, if it has
    one. `parts` is the number of micro-batches (`accumulate`). `compile_effort` is that of
    `compiler_options`.

    A step whose terms or gradient are not finite updates nothing. It counts in `state.skipped`;
    once that has reached `skip_steps`, the state never changes again.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    compute_shardings = gathered(shardings.params)

    def step(state: TrainState, batch: Batch, given: Given) -> tuple[TrainState, Metrics]:
        gradient = _Gradient(model, objective, given, mesh, compute_shardings, parts)
        trainable_params = trainable(state.params, frozen)
        frozen_params = {part: state.params[part] for part in frozen}
        terms, grads = gradient(trainable_params, frozen_params, batch, state.step)
        updated = state.step - state.skipped  # number of updates so far
        # Scopes are where `account.parts` finds what a compiled program spends on each part.
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(grads, state.opt_state, trainable_params)
            params = optax.apply_updates(trainable_params, updates) | frozen_params
            ema = None if state.ema is None else averaged(state.ema, params, ema_decay, updated)
        with jax.named_scope("losses"):
            scheduled = objective.weights(state.step)
            metrics = {name: term.mean() for name, term in terms.items()}
            metrics |= {f"{name}_weight": scheduled[name] for name in objective.ramped}
            metrics["total"] = total(terms, objective, state.step)
        with jax.named_scope("optimizer"):
            metrics["grad_norm"] = optax.tree.norm(grads)
            metrics["learning_rate"] = jnp.asarray(schedule(updated), jnp.float32)
            finite = jnp.isfinite(jnp.stack([*metrics.values()])).all()
            new = TrainState(state.step + 1, params, opt_state, ema)
            state = advanced(state, new, finite, skip_steps)
        return state, metrics | {"skipped": state.skipped.astype(jnp.float32)}

    jitted = jax.jit(
        known_mesh(step, mesh),
        in_shardings=(shardings, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
        compiler_options=compiler_options(mesh, compile_effort),
    )
    key = np.asarray(jax.random.key_data(jax.random.key(seed)))
    weights = np.asarray(class_weights, np.float32)
    return TrainStep(jitted, Given(key, weights, regions), mesh)


def compiler_options(mesh: Mesh, effort: float) -> dict[str, float] | None:
    """XLA's options for a program of `mesh`; `effort` from -1 to 1 is for TPUs, 0 their default."""
    if mesh.devices.flat[0].platform != "tpu":
        return None
    return {"exec_time_optimization_effort": effort, "xla_tpu_scoped_vmem_limit_kib": TILES_KIB}


@dataclass(frozen=True)
class _Gradient:
    """(trainable, frozen, batch, step) -> loss terms, and the gradient with respect to `trainable`.

    `compute_shardings` are those of the parameters while they are used.
    """

    model: VLFAU
    objective: ObjectiveOptions
    given: Given
    mesh: Mesh
    compute_shardings: Any
    parts: int

    @property
    def _seed(self) -> Array:
        return jax.random.wrap_key_data(self.given.key)

    def __call__(
        self, trainable_params: Any, frozen_params: Any, batch: Batch, step: Array
    ) -> tuple[LossTerms, Any]:
        n, k = len(self.given.class_weights), self.objective.local_branches
        branches = None
        with jax.named_scope("input"):
            if 0 < k < n:
                branches = jax.random.permutation(stream(self._seed, "branches", step), n)[:k]
            batch = batch | {"row": jnp.arange(len(batch["valid"]))}
        if self.parts > 1:
            return self._accumulated(trainable_params, frozen_params, batch, step, branches)
        loss = jax.value_and_grad(self._loss, has_aux=True)
        (_, terms), grads = loss(trainable_params, frozen_params, batch, step, branches)
        return terms, grads

    def _accumulated(
        self,
        trainable_params: Any,
        frozen_params: Any,
        batch: Batch,
        step: Array,
        branches: Array | None,
    ) -> tuple[LossTerms, Any]:
        with jax.named_scope("losses"):
            weights = joint_weights(batch, branches, self.given.regions)
        rows = split_micro_batches(batch, self.parts, self.mesh)
        known, dice_gradients = {}, None
        if self.objective.dice_weight:
            known["dice"], dice_gradients = self._dice(
                trainable_params | frozen_params, batch, rows, step
            )

        def gradient(part: tuple[Batch, Array | None]) -> tuple[dict[str, Array], Any]:
            part_rows, dice_gradient = part
            batch_totals = BatchTotals(weights, dice_gradient)
            loss = jax.value_and_grad(self._loss, has_aux=True)
            (_, terms), grads = loss(
                trainable_params, frozen_params, part_rows, step, branches, batch_totals
            )
            return {name: term.total for name, term in terms.items()}, grads

        totals, grads = sum_over_micro_batches(gradient, (rows, dice_gradients))
        return {name: Term(totals[name], weights[name]) for name in totals} | known, grads

    def _dice(self, params: Any, batch: Batch, rows: Batch, step: Array) -> tuple[Term, Array]:
        """Dice of the whole batch, and the gradient of its total by every part's AU logits."""
        logits = jax.lax.map(lambda part: self._apply(params, part, step, method=VLFAU.score), rows)
        logits = merge_micro_batches(logits, self.mesh)

        def dice(logits: Array) -> tuple[Array, Term]:
            term = joint_dice(logits, batch, self.given.class_weights, self.objective)
            return term.total, term

        with jax.named_scope("losses"):
            dice_gradients, term = jax.grad(dice, has_aux=True)(logits)
        return term, split_micro_batches(dice_gradients, self.parts, self.mesh)

    def _loss(
        self,
        trainable_params: Any,
        frozen_params: Any,
        rows: Batch,
        step: Array,
        branches: Array | None,
        batch_totals: BatchTotals | None = None,
    ) -> tuple[Array, LossTerms]:
        sentences = rows["local_tokens"], rows["global_tokens"]
        told = None
        if self.model.options.told_scores:
            told = heard_in_training(stream(self._seed, "told", step), rows)
        outputs = self._apply(
            trainable_params | frozen_params, rows, step, *sentences, branches=branches, told=told
        )
        with jax.named_scope("losses"):
            terms = joint_loss(
                outputs,
                rows,
                class_weights=self.given.class_weights,
                options=self.objective,
                branches=branches,
                regions=self.given.regions,
                batch_totals=batch_totals,
            )
            return total(terms, self.objective, step), terms

    def _apply(self, params: Any, rows: Batch, step: Array, *inputs: Array, **options: Any) -> Any:
        """The network in training mode on some rows of a batch; `options` are of `Module.apply`."""
        with jax.named_scope("sharding"):
            params = jax.lax.with_sharding_constraint(params, self.compute_shardings)
        with jax.named_scope("input"):
            image = normalise(rows["image"])
            rngs = {name: stream(self._seed, name, step) for name in ("dropout", "drop_path")}
        return self.model.apply(
            {"params": params},
            image,
            *inputs,
            train=True,
            rows=rows["row"],
            rngs=rngs,
            **options,
        )


def heard_in_training(key: Array, rows: Batch) -> Array:
    """What local sentences hear with `model.told_scores`: half of them the label, others nothing.

    Args:
        key: of the step.
        rows: of the batch, with their places "row".

    Returns:
        float32 [b, n]: 1 active, -1 inactive, 0 nothing.
    """
    with jax.named_scope("input"):
        labels = jnp.where(rows["au"] > 0, 1.0, -1.0)
        hears = kept_rows(key, rows["row"], 0.5, labels.shape[1:])
        return jnp.where(hears & rows["au_known"], labels, 0.0)


def advanced(state: TrainState, new: TrainState, finite: Array, skip_steps: int) -> TrainState:
    """`new` where all is `finite`; else `state`, one step further if that step may be skipped.

    Selected on the devices: the host reads what happened after it has started later steps.
    """
    active = state.skipped >= 0
    skips = active & ~finite & (state.skipped < skip_steps)
    ends = active & ~finite & ~skips
    kept = jax.tree.map(lambda x, y: jnp.where(active & finite, x, y), new, state)
    return kept.replace(
        step=jnp.where(ends | ~active, state.step, new.step),
        skipped=jnp.where(ends, -1 - state.skipped, state.skipped + skips),
    )


def averaged(ema: Any, params: Any, decay: float, taken: Array) -> Any:
    """The average after one more update: d * ema + (1 - d) * params, `taken` updates before it.

    d = min(decay, (1 + taken) / (10 + taken)), the bound of TensorFlow's ExponentialMovingAverage,
    soon forgets the initial parameters. Written as a difference, a parameter that does not change
    stays the same to the bit.
    """
    kept = jnp.minimum(decay, (1 + taken) / (10 + taken))
    return jax.tree.map(lambda old, new: old + (1 - kept) * (new - old), ema, params)


def abstract_batch(spec: dict[str, tuple], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, dtypes and sharding of a global batch, from its `data.read.batch.spec`."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for key, (shape, dtype) in spec.items()
    }
