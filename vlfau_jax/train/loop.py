"""The training loop, from an experiment to the last checkpoint."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from vlfau_jax.distributed.agreement import barrier, check_shared, open_connections
from vlfau_jax.distributed.heartbeat import RESTART_ALL
from vlfau_jax.distributed.processes import (
    check_same,
    is_first_process,
    run_on_first,
    set_status,
    stop_requested,
)
from vlfau_jax.errors import RunError
from vlfau_jax.sharding.arrays import fetch, local_rows, shard_batch
from vlfau_jax.train.checkpoint import Checkpoints, params_digest, translate_errors
from vlfau_jax.train.clock import Clock
from vlfau_jax.train.code_version import code_version
from vlfau_jax.train.experiment import Experiment, Settings, TrainOptions, build_experiment
from vlfau_jax.train.memory import peak_memory
from vlfau_jax.train.nonfinite import (
    NONFINITE_FILE,
    NonFiniteError,
    advice,
    describe_step,
    first_faces,
)
from vlfau_jax.train.progress import Progress
from vlfau_jax.train.replaced import begun
from vlfau_jax.train.rounding import computed_on, other_rounding
from vlfau_jax.train.start import (
    InitialParams,
    changed_schedule,
    check_resumable,
    initial_params,
)
from vlfau_jax.train.state import TrainState
from vlfau_jax.train.step import CompiledStep, abstract_batch
from vlfau_jax.train.stop import StopSignals
from vlfau_jax.train.watch import Watchers
from vlfau_jax.train.workdir import (
    FINAL_FILE,
    claimed,
    write_config,
    write_json,
)
from vlfau_jax.train.writer import MetricWriter

__all__ = ["Evaluator", "TrainOptions", "train"]

# (experiment, parameters on the devices, averaged ones where an average is kept) -> scores by name,
# on the subjects of `experiment.scored`.
Evaluator = Callable[[Experiment, Any], Mapping[str, float]]


def train(
    settings: Settings,
    workdir: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    evaluator: Evaluator | None = None,
    watch: Sequence[str] = (),
    shared: bool = True,
) -> dict[str, Any]:
    """Trains an experiment in `workdir` and returns the content of final.json.

    Args:
        settings: the experiment (a dataclass, see `vlfau_jax.cli.settings.Settings`).
        workdir: gets config.json, checkpoints/, metrics.jsonl, tensorboard/ and final.json. Several
            processes (`distributed`) need it, and the data set, on a file system that they
            share; only the first of them writes anything but its part of the checkpoints.
        resume: goes on from the newest checkpoint, if there is one.
        overwrite: removes an earlier run first.
        evaluator: scores subjects who are kept back, every `train.eval_every` steps.
        watch: where metrics go besides, see `vlfau_jax.train.watch`.
        shared: whether all processes see the same `workdir`. Otherwise each has a copy of what was
            there, and only the first process writes into its own, checkpoints included.

    Raises:
        UserError: the experiment cannot run as asked, or the workdir is in use.
        RunError: a value became infinite or NaN; the last good state is saved.
        Interrupted: SIGTERM was received; a checkpoint is saved, if a step was taken.
        KeyboardInterrupt: Ctrl-C was received; the message states what is saved.
    """
    if settings.train.eval_every and evaluator is None:
        raise ValueError("train.eval_every asks for scores, but no evaluator was given")
    with StopSignals() as stop:
        return _train(settings, workdir, resume, overwrite, evaluator, watch, shared, stop)


def _train(
    settings: Settings,
    workdir: Path,
    resume: bool,
    overwrite: bool,
    evaluator: Evaluator | None,
    watch: Sequence[str],
    shared: bool,
    stop: StopSignals,
) -> dict[str, Any]:
    # What cannot run is refused before the workdir is touched.
    experiment = build_experiment(settings)
    initial = None if resume else initial_params(experiment)
    config = asdict(settings)
    check_same("--config", config)
    check_same("data", experiment.dataset.identity)
    check_same("data.descriptions", experiment.captions.descriptions.to_json())
    keep, keep_best = settings.train.keep, settings.train.keep_best
    with ExitStack() as stack:
        claim = claimed(workdir, config, resume=resume, overwrite=overwrite)
        run_on_first("claim", lambda: stack.enter_context(claim))
        if shared:
            check_shared("--workdir", workdir)
        watched = watch if is_first_process() else ()
        watchers = stack.enter_context(Watchers(watched, workdir, config))
        open_connections(experiment.mesh)
        stack.enter_context(translate_errors(workdir))
        checkpoints = stack.enter_context(Checkpoints(workdir, keep, keep_best, shared))
        inference = experiment.inference_record(config)
        run = _Run(experiment, workdir, checkpoints, Clock(), evaluator, watchers, inference, stop)
        run.report_task()
        state, start = run.restore_or_initialise(initial)
        stop.raise_before_steps()
        step = run.compile()
        stop.raise_before_steps()
        state = run.take_steps(state, start, step)
        return run.finish(state)


@dataclass
class _Run:
    """One call of `train`, from the claimed workdir on."""

    experiment: Experiment
    workdir: Path
    checkpoints: Checkpoints
    clock: Clock
    evaluator: Evaluator | None
    watchers: Watchers
    inference: dict[str, Any]
    stop: StopSignals
    step: int = 0  # the one in progress
    begun: bool = False  # whether no earlier run lies aside any more
    step_times: dict[str, float] | None = None  # of this call

    def restore_or_initialise(self, initial: InitialParams | None) -> tuple[TrainState, int]:
        """The state to start from, and the steps taken before it."""
        e = self.experiment
        set_status(self._status)
        check_same("newest checkpoint", self.checkpoints.latest)
        if self.checkpoints.latest is not None:
            state, record = self.checkpoints.restore(
                e.abstract,
                accept=lambda record: check_resumable(self.workdir, record, self.inference, e),
            )
            config = asdict(e.settings)
            run_on_first("config", lambda: write_config(self.workdir, config))
            done = record["progress"]["next_batch"]
            self._report(f"going on from step {done}")
            self.inference["warm_start"] = record["inference"]["warm_start"]
            self.clock = Clock(record["progress"]["seconds"])
            for warning in (
                changed_schedule(e, record["inference"], done),
                other_rounding(record["progress"], computed_on(e.mesh)),
            ):
                if warning:
                    self._report(warning)
            return state, done
        if initial is None:
            self._report("--resume finds no checkpoint; training begins at step 0")
            initial = initial_params(e)
        self.inference["warm_start"] = initial.source
        check_same("warm start", self.inference["warm_start"])
        with self.clock("compile"):
            state = e.initial_state(initial.params)
        return state, 0

    def _status(self) -> str:
        """How far the run came, for the line about a lost process."""
        saved = self.checkpoints.latest
        kept = "no checkpoint" if saved is None else f"the last checkpoint is of step {saved}"
        return f"ended in step {self.step}, {kept}; {RESTART_ALL}"

    def report_task(self) -> None:
        """Prints one line on what is trained, before the minutes in which the step compiles."""
        e = self.experiment
        size = sum(leaf.size for leaf in jax.tree.leaves(e.abstract.params))
        faces = len(e.dataset.training_rows(e.split.train))
        sides = ((len(people), side) for side, people in e.split._asdict().items())
        self._report(
            f"{size:,} parameters, {faces:,} training faces of {e.dataset.name} fold "
            f"{e.settings.data.fold} ({', '.join(f'{n} {side}' for n, side in sides)} subjects); "
            "compiling"
        )
        if e.untaught:
            units = ", ".join(f"AU{au:02d} ({reason})" for au, reason in e.untaught.items())
            self._report(
                f"the training labels teach nothing about {units}: these units are neither scored "
                "nor predicted; train on people in whom they are known to be active and inactive, "
                "or leave them out of data.aus"
            )
        for note in e.dataset.fold_notes(e.settings.data.fold):
            self._report(note)
        if e.settings.objective.of_regions and e.regions is None:
            keys = (f"objective.{name}_weight" for name in e.settings.objective.of_regions)
            self._report(
                f"{' and '.join(keys)} without effect: crop rule {e.dataset.crop['name']} puts "
                "eyes in no fixed place, so nobody knows where a unit shows; prepare the faces "
                "with another rule, or give 0"
            )
        if "global" in e.model.options.captions and not e.global_sentences:
            self._report(
                "no training face has a sentence about the whole face, since a unit is unknown in "
                "each: its captioner learns nothing; choose data.aus that are known together, or "
                "model.global_captions=False"
            )

    def _report_scored_subjects(self) -> None:
        e = self.experiment
        subjects = f"{e.scored} subjects {', '.join(getattr(e.split, e.scored))}"
        caution = (
            ""
            if e.scored == "validation"
            else "; choose nothing by them, or keep some training "
            "subjects back with data.validation_subjects"
        )
        self._report(
            f"train.eval_every={e.settings.train.eval_every} scores the {subjects}{caution}"
        )

    def _report(self, message: str) -> None:
        if is_first_process():
            print(f"{self.workdir}: {message}", file=sys.stderr)

    def compile(self) -> CompiledStep:
        """The step, compiled ahead so that its time does not count as training."""
        e = self.experiment
        with self.clock("compile"):
            step = e.train_step().compile(e.abstract, abstract_batch(e.spec, e.mesh))
            # Its collectives may have groups of devices that `open_connections` did not connect.
            barrier("compiled")
        return step

    def take_steps(self, state: TrainState, start: int, step: CompiledStep) -> TrainState:
        """Trains from step `start` to the last one; step k uses batch k - 1 of the stream."""
        e, o, clock = self.experiment, self.experiment.settings.train, self.clock
        self.stop.response = "saving after this step"
        if o.eval_every:
            self._report_scored_subjects()
        with (
            closing(e.training_batches(start, local_rows(e.mesh, o.batch_size))) as batches,
            MetricWriter(
                self.workdir, start, writes=is_first_process(), watchers=self.watchers
            ) as writer,
            Progress(
                writer, clock, start=start, steps=o.steps, images=o.batch_size, every=o.log_every
            ) as progress,
            self._save_last_good(lambda: state),
        ):
            for k in range(start + 1, o.steps + 1):
                self.step = k
                # All that moves between host and devices is written here as a transfer, and none
                # waits: step k - 1 still runs when batch k is sent and step k is started.
                with jax.transfer_guard("disallow"):
                    with clock("data_wait"):
                        batch = shard_batch(next(batches), e.mesh, o.batch_size)
                    with clock("train"):
                        state, metrics = step(state, batch)
                        progress.started(k, metrics, batch["key"])
                self.checkpoints.check()
                self._check_begun()
                scored = o.eval_every and k % o.eval_every == 0
                mean_f1 = self.score(state, progress) if scored else None
                ending = self.stop.received() or (stop_requested(k) and signal.SIGTERM)
                due = k % o.checkpoint_every == 0 or k == o.steps or (scored and o.keep_best)
                if due or ending:
                    self.save(k, state, progress, mean_f1)
                if ending and k < o.steps:  # after the last step, nothing is left to stop
                    self.checkpoints.wait()
                    barrier("saved")  # the first process may save for all
                    self.stop.raise_for(ending, f"after step {k}, saved; go on with --resume")
        self.step_times = progress.times.summary()
        return state

    def _check_begun(self) -> None:
        """Removes an earlier run that this one replaces, once it has a checkpoint itself."""
        if is_first_process() and not self.begun:
            self.begun = begun(self.workdir)

    def score(self, state: TrainState, progress: Progress) -> float | None:
        """Scores subjects who are kept back, once the newest step is done; returns mean F1."""
        with self.clock("train"):
            jax.block_until_ready(state)
        with self.clock("eval"):
            scores = self.evaluator(self.experiment, state.inference_params)
            progress.scored(self.experiment.scored, scores)
        return scores.get("mean_f1")

    def save(self, k: int, state: TrainState, progress: Progress, mean_f1: float | None) -> None:
        """Starts a checkpoint, once its step is known to be finite."""
        with self.clock("train"):
            progress.flush()
        self._save(k, state, mean_f1)

    @contextmanager
    def _save_last_good(self, newest: Callable[[], TrainState]) -> Iterator[None]:
        """Saves the last good state where a value is not finite, and ends the run with one line.

        `newest` gives the state of any step from the failed one on: none has changed it.
        """
        try:
            yield
        except NonFiniteError as error:
            good = newest().last_good
            step = int(good.step)
            self.checkpoints.wait()
            if self.checkpoints.latest != step:
                self._save(step, good, None)
                self.checkpoints.wait()
            content = describe_step(error, fetch(error.keys), self.experiment.dataset.subjects)
            path = self.workdir / NONFINITE_FILE
            run_on_first("nonfinite", lambda: write_json(path, content))
            raise RunError(
                f"{error}; it saw {first_faces(content)}, all of them in {path}; step {step}, the "
                f"last good one, is saved; {advice(error, int(good.skipped))}"
            ) from None

    def _save(self, k: int, state: TrainState, mean_f1: float | None) -> None:
        with self.clock("checkpoint"):
            done = {
                "next_batch": k,
                "seconds": dict(self.clock.seconds),
                "computed_on": computed_on(self.experiment.mesh),
            }
            record = {"progress": done, "inference": self.inference}
            self.checkpoints.save(k, state, record, mean_f1)

    def finish(self, state: TrainState) -> dict[str, Any]:
        """Waits for the last checkpoint, then writes final.json, which marks the run complete."""
        self.stop.response = "finishing, for all steps are taken"
        with self.clock("checkpoint"):
            self.checkpoints.wait()
        steps, seconds, skipped = int(state.step), self.clock.training, int(state.skipped)
        images = steps * self.experiment.settings.train.batch_size
        final = {
            "step": steps,
            "skipped": skipped,
            "params_digest": params_digest(fetch(state.params)),
            "images_per_second": images / seconds if seconds else None,
            "seconds": self.clock.seconds,
            "step_ms": self.step_times,
            "data_wait_share": self.clock.seconds["data_wait"] / seconds if seconds else None,
            "peak_memory": peak_memory(),
            "code": code_version(),
        }
        run_on_first("final", lambda: write_json(self.workdir / FINAL_FILE, final))
        left_out = f", {skipped} of them skipped" if skipped else ""
        self._report(f"trained to step {steps}{left_out}; {FINAL_FILE}, checkpoints, metrics.jsonl")
        return final
