"""Write the parameters of a run as a file that another run can start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.files import new_file
from vlfau_jax.inference.averaged import averaged
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.train.checkpoint import LAST
from vlfau_jax.train.provenance import provenance, seen_before, seen_people
from vlfau_jax.train.warm_start import save_warm_start


def write_warm_start(
    workdir: str | Path,
    out: str | Path,
    *,
    checkpoint: str = LAST,
    average: Sequence[str | Path] = (),
) -> None:
    """Writes the parameters of `workdir` for `train.warm_start`, as float16 safetensors.

    The file's metadata lists the subjects that the parameters were trained on, those of the run's
    own warm start included, so that a later run can refuse to test on them.

    Args:
        workdir: the run; its prepared set must still be where the run read it.
        out: the file to create.
        checkpoint: "last", "best" or a step. Where it holds a running average of the parameters,
            the average is written.
        average: other runs of the same network; the mean of all runs' parameters is written, see
            `averaged`, and the people are those of all of them.

    Raises:
        UserError: `out` exists, a run of `average` is of another network, or the checkpoint, the
            prepared set or the warm start of an earlier run is missing.
    """
    out = new_file("--out", out)
    first = load_trained(workdir, 1, checkpoint)
    others = [(f"--average={one}", load_trained(one, 1, checkpoint)) for one in average]
    subjects = ()
    for run in (first, *(other for _, other in others)):
        subjects += seen_people(open_dataset(run.data), run.train_subjects)
        subjects += seen_before(run.initial_parameters)
    trained = averaged(first, others)
    metadata = provenance(subjects, trained.aus, trained.vocabulary.words)
    metadata |= {"step": str(trained.step), "config_digest": trained.config_digest}
    metadata |= {"checkpoint": trained.checkpoint}
    save_warm_start(trained.params, out, metadata, new=True)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, step {trained.step}")
