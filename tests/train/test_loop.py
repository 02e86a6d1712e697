import json
import os
import shutil
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.tiny import SUBJECTS, noise_set
from vlfau_jax.data.read import dataset
from vlfau_jax.errors import Interrupted, RunError, UserError
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.train import loop
from vlfau_jax.train.checkpoint import Checkpoints, load_inference, params_digest
from vlfau_jax.train.experiment import Experiment, build_experiment
from vlfau_jax.train.loop import train
from vlfau_jax.train.provenance import provenance
from vlfau_jax.train.warm_start import save_warm_start
from vlfau_jax.train.workdir import read_config


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def end_at(step, *signals):
    """An evaluator that sends signals to this process at a step."""
    steps = iter(range(1, 100))

    def score(experiment, params):
        if next(steps) == step:
            for number in signals:
                os.kill(os.getpid(), number)
        return {"mean_f1": 0.5}

    return score


def note(experiment):
    """The note of a warm start that fits the experiment and has seen nobody."""
    return provenance((), experiment.captions.aus, experiment.vocabulary.words)


def parameters(experiment, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(scale=0.1, size=leaf.shape).astype(np.float32),
        experiment.abstract.params,
    )


def test_resumed_equals_uninterrupted_bit_for_bit(tiny, tmp_path):
    whole = train(tiny(), tmp_path / "whole")
    train(tiny(steps=2), tmp_path / "parts")
    first = lines(tmp_path / "parts")
    parts = train(tiny(), tmp_path / "parts", resume=True)

    assert whole == json.loads((tmp_path / "whole" / "final.json").read_text())
    assert parts["step"] == whole["step"] == 4
    assert parts["params_digest"] == whole["params_digest"]
    params, record, step = load_inference(tmp_path / "parts")
    assert (params_digest(params), step) == (whole["params_digest"], 4)
    assert record["aus"] == [1, 2, 4, 12] and record["synthetic"]

    told = lines(tmp_path / "parts")
    assert told[:2] == first
    assert [line["step"] for line in told] == [1, 2, 3, 4]
    for line, expected in zip(told, lines(tmp_path / "whole"), strict=True):
        apart = {name for name in line if line[name] != expected[name]}
        assert apart <= {"images_per_second"}

    assert whole["seconds"].keys() == {"train", "eval", "checkpoint", "compile", "data_wait"}
    training = whole["seconds"]["train"] + whole["seconds"]["data_wait"]
    np.testing.assert_allclose(whole["images_per_second"], 4 * 8 / training)
    np.testing.assert_allclose(whole["data_wait_share"], whole["seconds"]["data_wait"] / training)
    assert 0 < whole["step_ms"]["median"] <= whole["step_ms"]["p95"] < 1e3 * training
    assert whole["peak_memory"]["of"] == "process" and whole["peak_memory"]["bytes"] > 1e8

    again = train(tiny(), tmp_path / "parts", resume=True)
    assert again["params_digest"] == whole["params_digest"]


def test_what_is_not_sent_on_purpose_ends_the_run(silent, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "shard_batch", lambda batch, *_: batch)
    with pytest.raises(Exception, match=r"Disallowed host-to-device transfer"):
        train(silent(steps=1), tmp_path)


def averaging(settings, **objective):
    optimizer = replace(settings.optimizer, ema_decay=0.5)
    return replace(
        settings, optimizer=optimizer, objective=replace(settings.objective, **objective)
    )


@pytest.mark.slow
def test_an_average_and_a_ramp_survive_a_resume_and_the_average_answers(tiny, tmp_path):
    scored = []

    def score(experiment, params):
        scored.append(params_digest(params))
        return {}

    def run(name, resume=False, **train_options):
        base = tiny(eval_every=2, **train_options)
        base = replace(base, data=replace(base.data, fold=1))
        settings = averaging(base, local_ramp=(1, 3))
        return train(settings, tmp_path / name, resume=resume, evaluator=score)

    whole = run("whole")
    run("parts", steps=2)
    parts = run("parts", resume=True)
    assert parts["params_digest"] == whole["params_digest"]
    found = [load_inference(tmp_path / name) for name in ("whole", "parts")]
    digests = [params_digest(params) for params, _, _ in found]
    assert digests[0] == digests[1] != whole["params_digest"]
    assert scored == [scored[0], digests[0]] * 2
    assert found[0][1]["ema_decay"] == 0.5
    told = [
        [(line["local_weight"], line["total"]) for line in lines(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert told[0] == told[1]
    assert [weight for weight, _ in told[0]] == [0, 0, 0.5, 1]


@pytest.mark.slow
def test_a_resume_onto_other_faces_or_another_schedule_is_told(
    silent, tmp_path, monkeypatch, capsys
):
    train(silent(steps=3), tmp_path / "run")
    settings = silent(steps=4)
    settings = replace(settings, optimizer=replace(settings.optimizer, decay_steps=0))
    other = replace(noise_set(), crop={"name": "none", "size": 20, "digest": "1" * 16})
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "open_set", lambda *_: other)
        with pytest.raises(UserError, match=r"with crop .*cascade.*gives .*none"):
            train(silent(steps=4), tmp_path / "run", resume=True)

    bent = silent(steps=3)
    bent = replace(bent, optimizer=settings.optimizer)
    train(bent, tmp_path / "bent")
    assert "note:" not in capsys.readouterr().err
    train(settings, tmp_path / "bent", resume=True)
    assert "now reaches its end at step 4, not 3" in capsys.readouterr().err


def test_scores_of_nobody_are_refused_before_training(tiny, tmp_path):
    settings = tiny(eval_every=2)
    everybody = replace(settings, data=replace(settings.data, fold=0))
    with pytest.raises(UserError, match=r"train\.eval_every=2.*fold=0"):
        train(everybody, tmp_path / "run", evaluator=lambda *_: {})
    assert not (tmp_path / "run").exists()


def test_a_damaged_file_of_the_run_is_named_or_kept_aside(silent, tmp_path, capsys):
    run = tmp_path / "run"
    train(silent(steps=1), run)
    (run / "metrics.jsonl").write_text('{]\n{"step": 1}\n')
    train(silent(steps=2), run, resume=True)
    assert "1 damaged lines were moved to metrics.damaged.jsonl" in capsys.readouterr().err
    assert [line["step"] for line in lines(run)] == [1, 2]
    (run / "config.json").write_text("{]\n")
    with pytest.raises(UserError, match="damaged"):
        train(silent(), run, resume=True)


def test_a_checkpoint_of_another_run_is_not_resumed(silent, tmp_path):
    train(silent(steps=1), tmp_path / "run")
    other = silent(steps=1)
    train(replace(other, seed=9), tmp_path / "other")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "other" / "checkpoints")
    with pytest.raises(UserError, match=r"checkpoint of .* is of another config: seed=3 \(was 9\)"):
        train(silent(steps=2), tmp_path / "run", resume=True)


def test_a_resume_onto_other_labels_is_refused(silent, tmp_path, monkeypatch):
    train(silent(steps=1), tmp_path / "run")
    noise = noise_set()
    inverted = dict(noise.codes) | {"occurrence": -1 - noise.codes["occurrence"]}
    monkeypatch.setattr(
        dataset, "open_set", lambda *_: replace(noise, codes=inverted, digest="0" * 64)
    )
    with pytest.raises(UserError, match=r"--resume: .* trained with other labels, pictures or peo"):
        train(silent(steps=2), tmp_path / "run", resume=True)


@pytest.mark.slow
def test_sigterm_saves_and_a_resume_goes_on(silent, tmp_path, capsys):
    def tested(**changes):
        settings = silent(**changes)
        return replace(settings, data=replace(settings.data, fold=1))

    whole = train(tested(), tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="ended by SIGTERM after step 3, saved"):
        train(tested(eval_every=1), tmp_path / "parts", evaluator=end_at(3, signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is before
    told = "train.eval_every=1 scores the test subjects M003; choose nothing by them"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "parts" / "final.json").exists()
    assert [line["test_mean_f1"] for line in lines(tmp_path / "parts")] == [0.5] * 3
    parts = train(tested(), tmp_path / "parts", resume=True)
    assert parts["params_digest"] == whole["params_digest"]
    assert parts["seconds"]["eval"] > 0


@pytest.mark.parametrize(
    ("times", "message"), [(1, r"^after step 2, saved; go on with --resume$"), (2, r"^$")]
)
def test_ctrl_c_saves_and_a_second_one_ends_at_once(silent, tmp_path, capfd, times, message):
    settings = silent(eval_every=1)
    settings = replace(settings, data=replace(settings.data, fold=1))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=message):
        train(settings, tmp_path / "run", evaluator=end_at(2, *[signal.SIGINT] * times))
    assert signal.getsignal(signal.SIGINT) is before
    assert "saving after this step; Ctrl-C again ends at once" in capfd.readouterr().err
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        assert checkpoints.latest == (2 if times == 1 else None)


def sending(number, function):
    """A function to which a signal comes while it is at work."""

    def called(*arguments, **how):
        os.kill(os.getpid(), number)
        return function(*arguments, **how)

    return called


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_where_no_step_runs_loses_nothing(silent, tmp_path, monkeypatch, number, kind):
    settings = silent(steps=1)
    with monkeypatch.context() as before:
        before.setattr(Experiment, "train_step", sending(number, Experiment.train_step))
        message = "before its first step; nothing is lost, start again with --resume$"
        with pytest.raises(kind, match=message):
            train(settings, tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    # One that comes during the last save finds all done.
    monkeypatch.setattr(Checkpoints, "wait", sending(signal.SIGTERM, Checkpoints.wait))
    assert train(settings, tmp_path / "run", resume=True)["step"] == 1
    assert (tmp_path / "run" / "final.json").exists()


@pytest.mark.slow
def test_a_warm_start_is_where_training_begins(tiny, tmp_path):
    experiment = build_experiment(tiny())
    path = tmp_path / "w.safetensors"
    digests = []
    for seed in (0, 1):
        save_warm_start(parameters(experiment, seed), path, note(experiment), "float32")
        settings = tiny(steps=1, warm_start=str(path))
        final = train(settings, tmp_path / "run", overwrite=True)
        digests.append(final["params_digest"])
    # Warm-up starts at a rate of 0, so one step leaves the parameters as they were.
    assert digests[1] == params_digest(parameters(experiment, 1))
    assert digests[0] != digests[1]
    _, record, _ = load_inference(tmp_path / "run")
    assert record["warm_start"]["file"] == str(path)
    assert record["warm_start"]["people"] == "0"


@pytest.mark.slow
def test_a_backbone_file_replaces_the_backbone_alone(tiny, tmp_path):
    begun = [tiny(steps=1)]
    experiment = build_experiment(begun[0])
    given = parameters(experiment, 0)
    path = tmp_path / "backbone.safetensors"
    save_warm_start({"backbone": given["backbone"]}, path, {}, "float32")
    model = replace(begun[0].model, backbone_weights=str(path))
    begun.append(replace(begun[0], model=model))
    found = []
    for name, settings in zip(("random", "given"), begun, strict=True):
        train(settings, tmp_path / name)
        params, record, _ = load_inference(tmp_path / name)
        found.append(params)
        assert record["model"]["backbone_weights"] == ""  # exports are made of this record
    # Warm-up starts at a rate of 0, so one step leaves the parameters as they were.
    assert params_digest(found[1]["backbone"]) == params_digest(given["backbone"])
    assert params_digest(found[0]["backbone"]) != params_digest(given["backbone"])
    rest = [{part: tree[part] for part in tree if part != "backbone"} for tree in found]
    assert params_digest(rest[0]) == params_digest(rest[1])

    both = replace(begun[1], train=replace(begun[1].train, warm_start="w.safetensors"))
    with pytest.raises(UserError, match=r"train\.warm_start.*model\.backbone_weights"):
        train(both, tmp_path / "both")
    save_warm_start(given, path, {}, "float32")
    with pytest.raises(UserError, match=r"model\.backbone_weights=.* does not fit.*is unknown"):
        train(begun[1], tmp_path / "whole")


@pytest.mark.slow
def test_a_value_that_is_not_finite_ends_the_run(tiny, tmp_path):
    experiment = build_experiment(tiny())
    params = parameters(experiment, 0)
    bias = params["global_captioner"]["logits_bias"]
    bias[:] = 3e38
    bias[::2] *= -1
    path = tmp_path / "w.safetensors"
    save_warm_start(params, path, note(experiment), "float32")
    with pytest.raises(RunError, match=r"step 1: the term 'global' is (inf|nan); .* step 0, the"):
        train(tiny(warm_start=str(path)), tmp_path / "run")
    found, _, step = load_inference(tmp_path / "run")
    assert (step, params_digest(found)) == (0, params_digest(params))


def test_what_cannot_run_is_refused_before_the_workdir_is_touched(tiny, tmp_path):
    with pytest.raises(UserError, match=r"train\.warm_start=nowhere: cannot be read"):
        train(tiny(warm_start="nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="no evaluator"):
        train(tiny(eval_every=1), tmp_path / "run")


@pytest.mark.slow
def test_progress_goes_to_stderr(tiny, tmp_path, capsys):
    train(tiny(log_every=2), tmp_path / "run")
    out, err = capsys.readouterr()
    assert not out
    assert "4/4" in err and "images/s" in err and "local" in err
    assert [line["step"] for line in lines(tmp_path / "run")] == [2, 4]


def test_what_happened_is_told(tiny, tmp_path, capsys):
    train(tiny(steps=1), tmp_path / "run", resume=True)
    told = capsys.readouterr().err
    assert "training faces of bp4d fold 0 (4 train, 0 validation, 0 test subjects)" in told
    assert "run: --resume finds no checkpoint; training begins at step 0" in told
    assert "run: trained to step 1; final.json" in told
    assert "no training face" not in told
    train(tiny(steps=2), tmp_path / "run", resume=True)
    told = capsys.readouterr().err
    assert "run: going on from step 1" in told and "warning" not in told


def test_a_resume_on_another_number_of_threads_is_told_once(silent, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PJRT_NPROC", "9")  # of more than eight devices, or their number counts
    train(silent(steps=1), tmp_path / "run")
    monkeypatch.setenv("PJRT_NPROC", "10")
    train(silent(steps=2), tmp_path / "run", resume=True)
    told = capsys.readouterr().err
    assert told.count("warning: trained on 1 x cpu, 9 threads so far, now on 1 x cpu, 10") == 1
    train(silent(steps=3), tmp_path / "run", resume=True)
    assert "warning" not in capsys.readouterr().err


def test_units_that_the_labels_cannot_teach_are_told_and_recorded(
    silent, tmp_path, monkeypatch, capsys
):
    settings = silent(steps=1)
    settings = replace(settings, data=replace(settings.data, fold=1))
    noise, split = noise_set(), build_experiment(settings).split
    occurrence = noise.codes["occurrence"].copy()
    theirs = np.isin(noise.subjects, split.train)[noise.codes["subject"]]
    for au, code in {1: -1, 2: 0, 4: 1}.items():
        column = occurrence[:, noise.aus.index(au)]
        column[theirs] = code
        column[~theirs] = [0, 1] * (sum(~theirs) // 2) + [1] * (sum(~theirs) % 2)
    codes = dict(noise.codes) | {"occurrence": occurrence}
    monkeypatch.setattr(dataset, "open_set", lambda *_: replace(noise, codes=codes))
    train(settings, tmp_path / "run")
    told = [line for line in capsys.readouterr().err.splitlines() if "teach nothing about" in line]
    reasons = "AU01 (never known), AU02 (never active), AU04 (always active): these units"
    assert len(told) == 1 and reasons in told[0]
    trained = load_trained(tmp_path / "run")
    assert trained.untaught == {1: "never known", 2: "never active", 4: "always active"}


@pytest.mark.slow
def test_weights_that_cannot_be_leave_the_earlier_run_alone(silent, tmp_path):
    train(silent(steps=1), tmp_path / "run")
    before = (tmp_path / "run" / "final.json").read_text()
    settings = silent(steps=1)
    bad = replace(settings, data=replace(settings.data, mixture_weights=(0.5, 0.5)))
    with pytest.raises(UserError, match=r"data\.mixture_weights=\(0\.5, 0\.5\): bp4d is one set"):
        train(bad, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "final.json").read_text() == before
    assert load_inference(tmp_path / "run")[2] == 1


@pytest.mark.slow
def test_a_resume_onto_data_read_otherwise_is_refused(silent, tmp_path, monkeypatch):
    train(silent(steps=1), tmp_path / "run")
    person, others = noise_set().subject_facts["F001"], (*SUBJECTS[1:], "M009")
    for changes, message in (
        ({"frame_offset": 1}, "with frame_offset 0, but noise_bp4d gives 1"),
        ({"camera": "right"}, 'with camera null, but noise_bp4d gives "right"'),
        ({"layout": "me_graphau"}, 'with layout "raw", but noise_bp4d gives "me_graphau"'),
        ({"synthetic": False}, "with synthetic true, but"),
        ({"digest": "0" * 64}, 'with other labels, pictures or people .* gives {"bp4d": "0000'),
        ({"subject_facts": {one: person | {"frames": 4} for one in SUBJECTS}}, "with frames"),
        (
            {"subjects": others, "subject_facts": dict.fromkeys(others, person)},
            "with train_subjects .*F001.*gives .*M009",
        ),
    ):
        other = replace(noise_set(), **changes)
        monkeypatch.setattr(dataset, "open_set", lambda *_, other=other: other)
        with pytest.raises(UserError, match=message) as error:
            train(silent(steps=2), tmp_path / "run", resume=True)
        assert "\n" not in str(error.value)
    assert load_inference(tmp_path / "run")[2] == 1
    assert read_config(tmp_path / "run")["train"]["steps"] == 1
    assert (tmp_path / "run" / "final.json").exists()


@pytest.mark.slow
def test_a_checkpoint_of_an_earlier_version_goes_on(silent, tmp_path, monkeypatch):
    later = ("layout", "camera", "frame_offset", "frames", "set_digests", "folds")
    record = Experiment.inference_record

    def earlier(self, config):
        return {key: value for key, value in record(self, config).items() if key not in later}

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "inference_record", earlier)
        train(silent(steps=1), tmp_path / "run")
    assert train(silent(steps=2), tmp_path / "run", resume=True)["step"] == 2


@pytest.mark.slow
def test_faces_without_a_sentence_are_told(tiny, tmp_path, monkeypatch, capsys):
    told = "no training face has a sentence about the whole face"
    noise = noise_set()
    occurrence = noise.codes["occurrence"].copy()
    # Every frame knows three of the four units, AU1 and AU2 in turn.
    for au, start in ((1, 0), (2, 1)):
        occurrence[start::2, noise.aus.index(au)] = -1
    other = replace(noise, codes=dict(noise.codes) | {"occurrence": occurrence})
    monkeypatch.setattr(dataset, "open_set", lambda *_: other)
    train(tiny(steps=1), tmp_path / "run")
    assert told in capsys.readouterr().err
    silent = tiny(steps=1)
    silent = replace(silent, model=replace(silent.model, global_captions=False))
    train(silent, tmp_path / "run", overwrite=True)
    assert told not in capsys.readouterr().err
