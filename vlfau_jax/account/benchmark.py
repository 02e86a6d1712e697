"""Measure an experiment's training end to end, and the time of each of its parts."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vlfau_jax.account.devices import device_for
from vlfau_jax.account.flops import Task, flops
from vlfau_jax.account.profile import profiled
from vlfau_jax.account.result_file import reported
from vlfau_jax.account.roofline import mfu
from vlfau_jax.account.synthetic import synthetic
from vlfau_jax.account.timing import check_seconds, in_turns
from vlfau_jax.data.read.batch import Batch
from vlfau_jax.errors import UserError
from vlfau_jax.files import absolute_folder
from vlfau_jax.inference.outputs import describe
from vlfau_jax.losses.joint import joint_loss, total
from vlfau_jax.model.vlfau import VLFAU, normalise
from vlfau_jax.sharding.arrays import shard_batch
from vlfau_jax.train.experiment import Program, Settings, build_experiment
from vlfau_jax.train.optimizer import trainable
from vlfau_jax.train.rounding import cpu_cores
from vlfau_jax.train.step import abstract_batch

CAPTIONERS = "captioners"  # teacher forcing; "decoding" are the sentences that are generated
_WHOLE, _SCORES, _DESCRIBED = "whole", "recognition", "describing"


def benchmark(
    settings: Settings,
    *,
    seconds: float = 10.0,
    profile: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measures training as it would run, then its parts in turns, and prints the result.

    A part is compiled alone, with the inputs that the part before it gives. Captioners are what
    the whole network takes more than recognition, and decoding what `describe` takes more, each in
    the same turn. Training is the forward and backward pass, without the optimizer, which is a part
    of its own. Parameters are random.

    Args:
        settings: the experiment. Where its data set is not prepared, the input is random pictures,
            already in memory, with the sentences of published units.
        seconds: how long to measure, first end to end and then the parts.
        profile: a folder for a trace of some steps, by jax.profiler, if any.
        out: a JSON file for the result, if any.
        overwrite: replace `out` where it exists.

    Returns:
        `end_to_end` of training steps, `images_per_second` and `mfu`; `parts` by name, each with
        `forward` and `training` (None where it has none): `ms` for one image, `images_per_second`
        and `mfu` (None where its FLOPs are not counted); and what was measured.

    Raises:
        UserError: options that do not fit each other or the devices; `seconds` out of range; a
            `profile` that cannot be a folder; or what `reported` raises.
    """
    check_seconds(seconds)
    if profile is not None:
        absolute_folder("--profile", profile)  # a mistake is told before anything is measured
    return reported(lambda: _measure(settings, seconds, profile), _format, out, overwrite)


@dataclass(frozen=True)
class _Input:
    """A program with batches for it, and why these are synthetic; "" where they are not."""

    program: Program
    batches: Callable[[], Iterator[Batch]]
    max_words: tuple[int, int]
    synthetic: str


def _open(settings: Settings) -> _Input:
    try:
        e = build_experiment(settings)
    except UserError as error:
        made = synthetic(settings)  # what is wrong with the options is an error here, too
        batch = made.batch(np.random.default_rng(settings.seed))
        return _Input(made.program, lambda: _repeated(batch), made.max_words, str(error))

    words = e.captions.max_local_tokens - 2, e.captions.max_global_tokens - 2
    return _Input(e, e.training_batches, words, "")


def _repeated(batch: Batch) -> Iterator[Batch]:
    yield from itertools.repeat(batch)


def _measure(settings: Settings, seconds: float, profile: str | Path | None) -> dict[str, Any]:
    given = _open(settings)
    program = given.program
    _tell("compiling the training step")
    begin = time.perf_counter()
    inputs = program.abstract, abstract_batch(program.spec, program.mesh)
    step = program.train_step().compile(*inputs)
    compile_seconds = time.perf_counter() - begin
    size = settings.train.batch_size
    with closing(given.batches()) as batches:
        host = next(batches)
        steps, elapsed = _end_to_end(program, step, batches, seconds, profile)
        pipeline = None if given.synthetic else _per_batch(batches, seconds)
    _tell("compiling the parts")
    calls = _calls(program, host, given.max_words)
    for call in calls.values():
        call()
    taken = {name: float(np.median(x)) for name, x in in_turns(calls, seconds).items()}
    parts = _parts(taken)
    if pipeline is not None:
        parts = {"pipeline": (pipeline, None), **parts}
    device = device_for(jax.devices()[0].device_kind)
    peak = device.peak(settings.model.dtype) * program.mesh.size
    work = _work(program)
    described = {
        name: {
            way: _speed(seconds_taken, size, work.get(name, {}).get(way), peak)
            for way, seconds_taken in zip(("forward", "training"), both, strict=True)
        }
        for name, both in parts.items()
    }
    return {
        "end_to_end": _speed(elapsed / steps, size, work["whole network"]["training"], peak),
        "steps": steps,
        "parts": described,
        "compile_seconds": compile_seconds,
        "synthetic": given.synthetic or None,
        "batch_size": size,
        "image_size": settings.data.image_size,
        "units": program.model.au_count,
        "dtype": settings.model.dtype,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(program.abstract.params)),
        "device": jax.devices()[0].device_kind,
        "devices": program.mesh.size,
        "peak_flops": peak,
        "cores": cpu_cores(),
    }


def _end_to_end(
    program: Program,
    step: Callable,
    batches: Iterator[Batch],
    seconds: float,
    profile: str | Path | None,
) -> tuple[int, float]:
    """Steps, and the seconds that they took with their batches, as the training loop takes them."""
    size = program.settings.train.batch_size
    state = program.initial_state()

    def take(k: int) -> None:
        nonlocal state
        with jax.profiler.StepTraceAnnotation("train", step_num=k):
            state, metrics = step(state, shard_batch(next(batches), program.mesh, size))
        waiting.append(metrics["total"])
        if len(waiting) > 1:  # as the loop: the host is one step ahead
            jax.block_until_ready(waiting.pop(0))

    waiting: list[Any] = []
    for k in range(2):
        take(k)
    jax.block_until_ready(state)
    begin, steps = time.perf_counter(), 0
    while steps < 3 or time.perf_counter() - begin < seconds:
        take(steps)
        steps += 1
    jax.block_until_ready(state)
    elapsed = time.perf_counter() - begin
    with nullcontext() if profile is None else profiled(profile):
        for k in range(3):
            take(k)
        jax.block_until_ready(state)
    return steps, elapsed


def _per_batch(batches: Iterator[Batch], seconds: float) -> float:
    """Seconds that the pipeline takes for a batch when nothing else is done."""
    begin, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - begin < seconds:
        next(batches)
        count += 1
    return (time.perf_counter() - begin) / count


def _calls(
    program: Program, host: Batch, max_words: tuple[int, int]
) -> dict[str, Callable[[], None]]:
    """What is timed: each runs one compiled program and waits for it."""
    model, settings = program.model, program.settings
    state = program.initial_state()
    params, batch = state.params, shard_batch(host, program.mesh)
    found: dict[str, Callable[[], None]] = {}

    def add(name: str, function: Callable, *arguments: Any) -> Any:
        compiled = jax.jit(function).lower(*arguments).compile()
        found[name] = lambda: jax.block_until_ready(compiled(*arguments))
        return compiled(*arguments)

    def part(name: str, module: str, call: Callable, *inputs: Any, trained: bool = True) -> Any:
        """Forward, and forward with backward to parameters and inputs; gives its outputs."""
        own = {module: params[module]}
        if module == "refinement":
            own |= {"classifier": params["classifier"]}

        def forward(own: Any, *inputs: Any) -> Any:
            return model.apply({"params": own}, *inputs, method=call)

        def training(own: Any, *inputs: Any) -> Any:
            outputs, pull = jax.vjp(forward, own, *inputs)
            return pull(jax.tree.map(jnp.ones_like, outputs))

        outputs = add(f"{name} forward", forward, own, *inputs)
        if trained:
            add(f"{name} training", training, own, *inputs)
        return outputs

    image = jax.jit(normalise)(batch["image"])
    frozen = settings.optimizer.frozen
    maps = part("backbone", "backbone", _backbone, image, trained="backbone" not in frozen)
    stem = part("MSC", "fusion", _fusion, maps)
    part("DAIR", "refinement", _refine, stem)

    add(f"{_SCORES} forward", lambda p, x: _apply(model, p, x, method=VLFAU.score), params, batch)
    sentences = bool(model.options.captions)
    if sentences:
        add(
            f"{_WHOLE} forward",
            lambda p, x: _apply(model, p, x, x["local_tokens"], x["global_tokens"]).replace(
                local_attention=None, global_attention=None
            ),
            params,
            batch,
        )
        add(
            f"{_DESCRIBED} forward",
            lambda p, x: describe(model, p, x["image"], max_words, 1),
            params,
            batch,
        )
    silent = model.clone(
        options=replace(
            model.options, local_captions=False, global_captions=False, global_context=False
        )
    )
    for name, network in ((_SCORES, silent), (_WHOLE, model))[: 1 + sentences]:
        own = {key: params[key] for key in _modules(network)}
        add(f"{name} training", _gradient(program, network), own, batch)

    learned = trainable(params, frozen)

    def update(grads: Any, opt_state: Any, learned: Any) -> Any:
        updates, opt_state = program.optimizer.update(grads, opt_state, learned)
        return optax.apply_updates(learned, updates), opt_state

    def optimize() -> None:  # parameters and moments are donated, as in the step
        nonlocal learned, opt_state
        learned, opt_state = jax.block_until_ready(compiled(grads, opt_state, learned))

    grads = jax.jit(lambda x: jax.tree.map(lambda y: 1e-6 * y, x))(learned)
    learned, opt_state = jax.jit(lambda x: jax.tree.map(jnp.copy, x))((learned, state.opt_state))
    compiled = jax.jit(update, donate_argnums=(1, 2)).lower(grads, opt_state, learned).compile()
    found["optimizer"] = optimize
    found["transfer"] = lambda: jax.block_until_ready(shard_batch(host, program.mesh))
    return found


def _backbone(network: VLFAU, image: jax.Array) -> Any:
    return network.backbone(image, False, None)


def _fusion(network: VLFAU, maps: Any) -> jax.Array:
    return network.fusion(maps)


def _refine(network: VLFAU, stem: jax.Array) -> Any:
    refined, maps = network.refinement(stem)
    return refined, maps, network.classifier(refined, None)


def _apply(model: VLFAU, params: Any, batch: Any, *tokens: Any, **options: Any) -> Any:
    return model.apply({"params": params}, normalise(batch["image"]), *tokens, **options)


def _modules(model: VLFAU) -> tuple[str, ...]:
    captioners = (f"{name}_captioner" for name in model.options.captions)
    return ("backbone", "fusion", "refinement", "classifier", *captioners)


def _gradient(program: Program, model: VLFAU) -> Callable:
    """(params, batch) -> loss and gradient of the network as a step trains it."""
    objective, frozen = program.settings.objective, program.settings.optimizer.frozen

    def loss(learned: Any, fixed: Any, batch: Any) -> jax.Array:
        tokens = batch["local_tokens"], batch["global_tokens"]
        k = objective.local_branches
        branches = jnp.arange(k) if 0 < k < model.au_count else None
        streams = {name: jax.random.key(0) for name in ("dropout", "drop_path")}
        outputs = model.apply(
            {"params": learned | fixed},
            normalise(batch["image"]),
            *tokens,
            train=True,
            branches=branches,
            rngs=streams,
        )
        terms = joint_loss(
            outputs,
            batch,
            class_weights=jnp.asarray(program.class_weights),
            options=objective,
            branches=branches,
            regions=program.regions,
        )
        return total(terms, objective)

    def gradient(params: Any, batch: Any) -> Any:
        fixed = {name: params[name] for name in frozen}
        return jax.value_and_grad(loss)(trainable(params, frozen), fixed, batch)

    return gradient


def _parts(taken: Mapping[str, float]) -> dict[str, tuple[float | None, float | None]]:
    """Seconds of each part for a batch, forward and training, from those of the programs."""

    def both(name: str) -> tuple[float | None, float | None]:
        return taken.get(f"{name} forward"), taken.get(f"{name} training")

    parts = {"transfer": (taken["transfer"], None)}
    parts |= {name: both(name) for name in ("backbone", "MSC", "DAIR")}
    recognised, trained = both(_SCORES)
    whole = recognised, trained
    if f"{_WHOLE} forward" in taken:
        whole = both(_WHOLE)
        parts[CAPTIONERS] = (max(whole[0] - recognised, 0.0), max(whole[1] - trained, 0.0))
        described = taken[f"{_DESCRIBED} forward"]
        parts["decoding"] = (max(described - recognised, 0.0), None)
    parts["optimizer"] = (None, taken["optimizer"])
    parts["recognition"] = recognised, trained
    parts["whole network"] = whole
    return parts


def _work(program: Program) -> dict[str, dict[str, float]]:
    """FLOPs for one image of the parts that are counted, `forward` and `training`."""
    settings, batch = program.settings, program.spec
    task = Task(
        image_size=settings.data.image_size,
        au_count=program.model.au_count,
        vocabulary=program.model.vocabulary_size,
        local_tokens=batch["local_tokens"][0][-1],
        global_tokens=batch["global_tokens"][0][-1],
        batch=settings.train.batch_size,
        own_words=program.model.max_own_words,
    )
    frozen = settings.optimizer.frozen
    counted = flops(program.model.options, task, settings.objective, frozen)
    belongs = {"MSC": "MSC", "DAIR": "DAIR", "classifier": "DAIR"}
    belongs |= {"local captioner": CAPTIONERS, "global captioner": CAPTIONERS}
    work: dict[str, dict[str, float]] = {}
    for name, one in counted.items():
        owner = belongs.get(name, "backbone")
        owners = {owner, "whole network"} | ({"recognition"} if owner != CAPTIONERS else set())
        for whose in owners:
            sums = work.setdefault(whose, {"forward": 0.0, "training": 0.0})
            sums["forward"] += one.forward
            sums["training"] += one.training
    return work


def _speed(
    seconds: float | None, images: int, work: float | None, peak: float
) -> dict[str, float | None] | None:
    """Of `seconds` for so many images, whose FLOPs are `work` each."""
    if seconds is None:
        return None
    return {
        "ms": 1e3 * seconds / images,
        "images_per_second": images / seconds if seconds else None,
        "mfu": None if not work or not seconds else mfu(work * images, seconds, peak),
    }


def _tell(message: str) -> None:
    print(f"benchmark: {message}", file=sys.stderr)


def _format(found: Mapping[str, Any]) -> str:
    whole = found["end_to_end"]
    lines = [
        f"{found['parameters']:,} parameters, {found['dtype']}, batches of {found['batch_size']} "
        f"at {found['image_size']} pixels, {found['units']} units; {found['devices']} x "
        f"{found['device']}, {found['cores']} cores, {found['peak_flops'] / 1e12:.3g} TFLOP/s at "
        "most",
    ]
    if found["synthetic"]:
        lines.append(f"random pictures, already in memory: {found['synthetic']}")
    lines += [
        f"training end to end: {whole['images_per_second']:.1f} images/s, {whole['ms']:.2f} ms an "
        f"image, MFU {whole['mfu']:.1%}, over {found['steps']} steps; compiled in "
        f"{found['compile_seconds']:.0f} s",
        f"{'':<16}{'forward':>34}{'forward and backward':>34}",
        f"{'part':<16}" + 2 * f"{'ms/image':>11}{'images/s':>12}{'MFU':>11}",
    ]
    for name, both in found["parts"].items():
        line = f"{name:<16}"
        for way in ("forward", "training"):
            line += _cells(both[way])
        lines.append(line.rstrip())
    return "\n".join(lines)


def _cells(speed: Mapping[str, float | None] | None) -> str:
    if speed is None:
        return " " * 34
    rate, used = speed["images_per_second"], speed["mfu"]
    shown = "" if rate is None else f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"
    return f"{speed['ms']:>11.3f}{shown:>12}{'' if used is None else f'{used:.1%}':>11}"
