"""Verbs of the account of time and memory: benchmark."""

from __future__ import annotations

from absl import flags

from vlfau_jax.cli.verb import CONFIG, Flag, verb
from vlfau_jax.errors import UserError


@verb(
    CONFIG,
    Flag("data", bool, "measure the data pipeline: images/s, time of each stage", False),
    Flag(
        "reference", bool, "compare with the network in PyTorch, tests/reference, in turns", False
    ),
    Flag("compiled", bool, "with --reference: also with its parts under torch.compile", False),
    Flag(
        "tasks",
        str,
        "with --reference: what is compared",
        "training,recognition,describing",
    ),
    Flag("profile", str, "folder for a trace of three training steps, by jax.profiler"),
    Flag("seconds", float, "how long to measure", 10.0),
    Flag("out", str, "JSON file for the numbers"),
    Flag("overwrite", bool, "replace that file", False),
    imports=(
        "vlfau_jax.account.benchmark",
        "vlfau_jax.account.comparison",
        "vlfau_jax.account.data_benchmark",
    ),
)
def benchmark(fv: flags.FlagValues, _: list[str]) -> None:
    """Measure training end to end and by part, the data pipeline, or us beside PyTorch."""
    from vlfau_jax.account.benchmark import benchmark
    from vlfau_jax.account.comparison import TASKS, compare
    from vlfau_jax.account.data_benchmark import benchmark_data
    from vlfau_jax.account.reference import VARIANTS
    from vlfau_jax.cli.settings import resolve

    if fv.data and fv.reference:
        raise UserError("--data and --reference exclude each other; give one")
    for name in ("compiled", "tasks"):
        if fv[name].present and not fv.reference:
            raise UserError(f"--{name}: only --reference compares; give both")
    if fv.profile is not None and (fv.data or fv.reference):
        raise UserError("--profile: only training steps are traced; leave out --data, --reference")
    measured = {"seconds": fv.seconds, "out": fv.out, "overwrite": fv.overwrite}
    if fv.data:
        benchmark_data(resolve(fv.config), **measured)
    elif fv.reference:
        tasks = tuple(dict.fromkeys(filter(None, fv.tasks.split(","))))
        if not tasks or not {*tasks} <= {*TASKS}:
            raise UserError(f"--tasks={fv.tasks}: give some of {','.join(TASKS)}")
        variants = VARIANTS if fv.compiled else VARIANTS[:1]
        compare(resolve(fv.config), tasks=tasks, variants=variants, **measured)
    else:
        benchmark(resolve(fv.config), profile=fv.profile, **measured)
