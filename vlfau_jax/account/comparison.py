"""Compare the network with the reference in PyTorch: same machine, weights and batch, in turns."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlfau_jax.account.reference import Reference, reference_modules
from vlfau_jax.account.result_file import reported
from vlfau_jax.account.synthetic import Synthetic, synthetic
from vlfau_jax.account.timing import check_seconds, in_turns, spread
from vlfau_jax.data.text.vocabulary import END
from vlfau_jax.errors import RunError
from vlfau_jax.inference.outputs import describe
from vlfau_jax.losses.joint import OF_MAPS
from vlfau_jax.model.layouts import stack_blocks
from vlfau_jax.model.vlfau import VLFAU, normalise
from vlfau_jax.sharding.arrays import shard_batch
from vlfau_jax.train.experiment import Settings
from vlfau_jax.train.rounding import cpu_cores
from vlfau_jax.train.step import abstract_batch

TASKS = ("training", "recognition", "describing")
SENTENCES = "sentences"  # describing less recognition, of the same turn
# What float32 may differ by: relative to the loss and the gradient's norm, and to the largest
# logit. Sums of a whole network's gradient differ more than one network's answers.
_LOSS, _NORM, _LOGITS = 1e-4, 5e-3, 1e-3
_SAME_SENTENCES = 0.95  # of all: a choice between two words can hang on the last bit


def compare(
    settings: Settings,
    *,
    seconds: float = 10.0,
    variants: Sequence[str] = ("eager",),
    tasks: Sequence[str] = TASKS,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Times our network and the reference in turns, on random pictures, and prints the result.

    Both have the same random weights, at which no sentence ends early, so that both write the
    same number of words: the most that a sentence of training has. Dropout and drop path are off in
    both, all action units' sentences are trained, and no average of the parameters is kept: the
    reference has none of them.

    Args:
        settings: the experiment; of its data, only `name`, `aus` and `image_size` are read.
        seconds: how long all take turns.
        variants: of the reference, some of `reference.VARIANTS`.
        tasks: some of `TASKS`; "recognition" and "describing" together give "sentences".
        out: a JSON file for the result, if any.
        overwrite: replace `out` where it exists.

    Returns:
        `ms`: median and quartiles for each task of "ours" and each variant, milliseconds for one
        batch; `ratios`: of each variant's time to ours in the same turn, above 1 where ours is
        faster; `turns`, `checks` and what was measured.

    Raises:
        UserError: the reference or PyTorch is missing, or has no such network; or what `reported`
            raises.
        RunError: in float32, the two disagree.
    """
    check_seconds(seconds)
    reference_modules()

    def measure() -> dict[str, Any]:
        return _measure(_comparable(settings), seconds, variants, tasks)

    return reported(measure, format_comparison, out, overwrite)


def _measure(
    settings: Settings, seconds: float, variants: Sequence[str], tasks: Sequence[str]
) -> dict[str, Any]:
    ours, theirs, checks = _contestants(settings, variants, tasks)
    calls = {
        f"{name} {task}": getattr(contestant, task)
        for task in tasks
        for name, contestant in {"ours": ours, **theirs}.items()
    }
    for call in calls.values():  # compiled by now; PyTorch's allocator knows its sizes
        call()
    taken = in_turns(calls, seconds)
    times = {name: {task: taken[f"{name} {task}"] for task in tasks} for name in ("ours", *theirs)}
    for of in times.values():
        if {"recognition", "describing"} <= of.keys():
            of[SENTENCES] = of["describing"] - of["recognition"]
    return {
        "ms": {
            name: {task: spread(1e3 * values) for task, values in of.items()}
            for name, of in times.items()
        },
        "ratios": {
            name: {task: spread(times[name][task] / times["ours"][task]) for task in times["ours"]}
            for name in theirs
        },
        "turns": len(next(iter(taken.values()))),
        "checks": checks,
        **_setting(settings, ours.synthetic),
    }


class _Ours:
    """Our network with given weights; every program is compiled when this is made.

    Attributes:
        synthetic: what it computes on.
    """

    def __init__(self, of: Synthetic, params: Any, batch: Any, tasks: Sequence[str]) -> None:
        program = of.program
        if program.model.options.scan_blocks:
            params = params | {"backbone": stack_blocks(params["backbone"])}
        self.synthetic, model = of, program.model
        self._batch = shard_batch(batch, program.mesh)
        self._params = jax.device_put(params, jax.tree.map(_sharding, program.abstract.params))
        image = self._batch["image"]
        if "recognition" in tasks:
            self._score = (
                jax.jit(
                    lambda params, image: model.apply(
                        {"params": params}, normalise(image), method=VLFAU.score
                    )
                )
                .lower(self._params, image)
                .compile()
            )
        if "describing" in tasks:
            most = of.max_words
            self._describe = (
                jax.jit(lambda params, image: describe(model, params, image, most, 1))
                .lower(self._params, image)
                .compile()
            )
        if "training" in tasks:
            inputs = program.abstract, abstract_batch(program.spec, program.mesh)
            self._step = program.train_step().compile(*inputs)
            self._state = program.initial_state(params)

    def training(self) -> dict[str, float]:
        """One step; returns its loss and gradient norm."""
        self._state, metrics = self._step(self._state, self._batch)
        jax.block_until_ready(self._state)
        return {name: float(metrics[name]) for name in ("total", "grad_norm")}

    def recognition(self) -> np.ndarray:
        """AU logits float32 [b, n]."""
        return np.asarray(self._score(self._params, self._batch["image"]))

    def describing(self) -> dict[str, np.ndarray]:
        """Greedy sentences: `local_tokens` int [b, n, t] and `global_tokens` [b, t]."""
        found = jax.block_until_ready(self._describe(self._params, self._batch["image"]))
        return {name: np.asarray(x) for name, x in found.items() if name.endswith("tokens")}


def _sharding(leaf: jax.ShapeDtypeStruct) -> jax.sharding.Sharding:
    return leaf.sharding


def _comparable(settings: Settings) -> Settings:
    """The experiment without what the reference has not."""
    of_maps = {f"{name}_weight": 0.0 for name in OF_MAPS}
    return replace(
        settings,
        model=replace(settings.model, dropout=0.0, drop_path=0.0),
        objective=replace(settings.objective, local_branches=0, **of_maps),
        # Next to nothing: the weights stay as good as the same for all turns and contestants.
        optimizer=replace(
            settings.optimizer, ema_decay=0.0, learning_rate=1e-12, captioner_learning_rate=0.0
        ),
        train=replace(settings.train, device_batch=0),
    )


def _contestants(
    settings: Settings, variants: Sequence[str], tasks: Sequence[str]
) -> tuple[_Ours, dict[str, Reference], dict[str, Any]]:
    """Ours, the variants of the reference by name, and how far their first answers differ."""
    *_, weights = reference_modules()
    of, rng = synthetic(settings), np.random.default_rng(settings.seed)
    looped = of.program.model.clone(options=replace(settings.model, scan_blocks=False))
    params = weights.random_params(looped, rng, *of.program.spec["image"][0][1:3])
    for captioner in ("local_captioner", "global_captioner"):
        if captioner in params:  # no sentence ends before it must
            params[captioner]["logits_bias"][..., END] = -1e3
    batch = of.batch(rng)
    _tell("compiling ours")
    ours = _Ours(of, params, batch, tasks)
    first = {task: getattr(ours, task)() for task in tasks}
    theirs, checks = {}, {}
    for name in variants:
        _tell(f"preparing the reference, {name}")
        reference = Reference(
            name,
            looped,
            params,
            batch,
            class_weights=of.program.class_weights,
            objective=settings.objective,
            optimizer=settings.optimizer,
            max_words=of.max_words,
        )
        answers = {task: getattr(reference, task)() for task in tasks}
        checks[name] = _differences(first, answers)
        if name == "compiled":
            checks[name]["graph_breaks"] = reference.graph_breaks
        if settings.model.dtype == "float32" and jax.default_backend() == "cpu":
            _check(name, checks[name])
        theirs[name] = reference
    return ours, theirs, checks


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """How far two contestants' answers differ, by what is compared."""
    found: dict[str, float] = {}
    if "training" in ours:
        for name, value in theirs["training"].items():
            found[name] = abs(ours["training"][name] / value - 1)
    if "recognition" in ours:
        expected = theirs["recognition"]
        found["logits"] = float(
            np.abs(ours["recognition"] - expected).max() / np.abs(expected).max()
        )
    if ours.get("describing"):
        same = [
            (tokens == theirs["describing"][name]).all(-1).ravel()
            for name, tokens in ours["describing"].items()
        ]
        found["same_sentences"] = float(np.concatenate(same).mean())
        words = {
            name: sum(int((tokens > 0).sum()) for tokens in of["describing"].values())
            for name, of in (("ours", ours), ("theirs", theirs))
        }
        found["words"], found["words_difference"] = words["ours"], words["theirs"] - words["ours"]
    return found


def _check(name: str, found: Mapping[str, float]) -> None:
    """Raises RunError where the same work was not done."""
    bounds = {"total": _LOSS, "grad_norm": _NORM, "logits": _LOGITS, "words_difference": 0}
    for what, bound in bounds.items():
        if not abs(found.get(what, 0)) <= bound:
            raise RunError(f"the reference ({name}) differs in {what} by {found[what]:.2g}")
    if found.get("same_sentences", 1) < _SAME_SENTENCES:
        raise RunError(
            f"the reference ({name}) writes only {found['same_sentences']:.0%} of our sentences"
        )


def _tell(message: str) -> None:
    print(f"benchmark: {message}", file=sys.stderr)


def _setting(settings: Settings, of: Synthetic) -> dict[str, Any]:
    """What was measured, and on what."""
    local_words, global_words = of.max_words
    return {
        "batch_size": settings.train.batch_size,
        "image_size": settings.data.image_size,
        "units": len(of.program.captions.aus),
        "words": [local_words, global_words],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(of.program.abstract.params)),
        "dtype": settings.model.dtype,
        "device": jax.devices()[0].device_kind,
        "processor": platform.processor() or platform.machine(),
        "cores": cpu_cores(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "torch", "transformers")},
    }


def format_comparison(found: Mapping[str, Any]) -> str:
    """The result as a table for the screen."""
    lines = [
        f"{found['parameters']:,} parameters, {found['dtype']}, batches of {found['batch_size']} "
        f"at {found['image_size']} pixels, {found['units']} units, sentences of "
        f"{found['words'][0]} and {found['words'][1]} words; {found['device']}, "
        f"{found['cores']} cores; {found['turns']} turns",
        "ms a batch (median, quartiles); PyTorch's time over ours in the same turn",
        f"{'':<14}{'ours':>24}"
        + "".join(f"{f'PyTorch {name}':>24}{'ratio':>20}" for name in found["ratios"]),
    ]
    for task, ours in found["ms"]["ours"].items():
        line = f"{task:<14}{_quartiles(ours, 0):>24}"
        for name, ratios in found["ratios"].items():
            line += f"{_quartiles(found['ms'][name][task], 0):>24}"
            line += f"{_quartiles(ratios[task], 2):>20}"
        lines.append(line)
    for name, checks in found["checks"].items():
        shown = ", ".join(f"{what.replace('_', ' ')} {value:.3g}" for what, value in checks.items())
        lines.append(f"ours and PyTorch {name}: {shown}")
    return "\n".join(lines)


def _quartiles(of: Mapping[str, float], digits: int) -> str:
    return f"{of['median']:.{digits}f} ({of['lower']:.{digits}f}-{of['upper']:.{digits}f})"
