"""Whatever is written on the command line ends in one line and an exit code, without a traceback.

By hand, more of them: `python -m tests.cli.test_fuzz 5000 [SEED]`.
"""

import io
import random
import sys
from contextlib import redirect_stderr, redirect_stdout

from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.cli.main import VERBS, main
from vlfau_jax.cli.verb import ConfigFlag

# No value of these can be created as a file or folder, so that every run ends at its check.
PATHS = (
    "",
    "\0",
    "/dev/null",
    "/dev/null/x",
    "/dev/null/\x1b[31m",
    "/dev/null/\udcff",
    "/proc/x/y",
)
PATHS += ("/dev/null/" + "x" * 300, "/dev/null/" + "y/" * 3000, "/dev/null/a\nb", "/dev/full")
NUMBERS = ("0", "-1", "1", "nan", "inf", "-inf", "1e400", "1.5", "", "x", "1_0", "٣", "0x10", "\0")
NUMBERS += ("2147483648", "-9223372036854775809", "9" * 5000, " 1 ", "True", "None", "()", "1,2")
TUPLES = (
    "()",
    "(1,",
    "1",
    "(1,2,3,4)",
    "('a',)",
    "(1e400,)",
    "[" * 200,
    "(" * 5000,
    "(None,)",
    "x",
)
WORDS = (
    "",
    "x",
    "\0",
    "\x1b[31m",
    "\udcff",
    "bp4d",
    "demo",
    "w" * 10_000,
    "last",
    "None",
    "\u202e",
)
COORDINATORS = ("", "x", ":", ":1", "a:99999999", "a:-1", "\0:1", "a:b", "\x1b:x")
CONFIGS = ("demo", "demo:scratch", "demo:x", "bp4d:swin_t", "hardware", "hardware:x", "\udcff", "x")
CONFIGS += (*PATHS, ":", ":x", "demo:\0", "/dev/zero", "configs", "/", "/proc/self/mem", "w" * 5000)
KEYS = (
    "seed",
    "data.fold",
    "data.aus",
    "data.name",
    "data.data_dir",
    "data.mixture_weights",
    "data",
)
KEYS += ("data.flip", "model.depths", "model.mlp_ratio", "model.dtype", "train.batch_size", "x.y")
KEYS += (
    "train.steps",
    "optimizer.learning_rate",
    "mesh.data",
    "objective.dice_ramp",
    "",
    ".",
    "\0",
)
ODD = (
    "--",
    "-",
    "---",
    "x",
    "--=",
    "--nope",
    "--help=1",
    "--flagfile",
    "--undefok=x",
    "--nooverwrite",
)
ODD += (
    "--flagfile=/dev/zero",
    "--config",
    "--config.seed",
    "--noconfig.data.flip",
    "-config.seed=1",
)
ODD += (
    "--version",
    "--helpfull",
    "--config.train={'steps': 1}",
    "\0",
    "\udcff",
    "--",
    "--only_check",
)


def argument(draw):
    """One odd argument of a random verb, by `draw`, which chooses from a sequence."""

    def values(flag):
        if isinstance(flag, ConfigFlag):
            return CONFIGS
        if flag.name == "coordinator":
            return COORDINATORS
        if flag.name in ("workdir", "out", "raw_dir", "data_dir", "model", "source", "crop_file"):
            return PATHS
        return WORDS + NUMBERS

    def given_flag(flag):
        return f"--{flag.name}={draw(values(flag))}"

    verb = VERBS[draw(tuple(VERBS))]
    argv = [verb.name]
    for flag in verb.flags:
        # Without --model the one that ships would be served, until something ends that.
        needed = flag.required or (verb.name, flag.name) == ("serve", "model")
        if needed or draw((True, False, False, False)):
            argv.append(given_flag(flag))
        if isinstance(flag, ConfigFlag) and draw((True, False)):
            argv[-1] = f"--{flag.name}={'hardware' if flag.name == 'hardware' else 'demo'}"
            argv.append("--config.data.data_dir=/dev/null/x")
            for _ in range(draw((0, 1, 2))):
                argv.append(f"--config.{draw(KEYS)}={draw(NUMBERS + TUPLES + WORDS)}")
    if draw((True, False, False)):
        argv.insert(draw(range(len(argv) + 1)), draw(ODD))
    if verb.inputs:
        argv.append(draw(PATHS + WORDS))
    return argv


def check(argv):
    """Runs it; what it prints on stderr is one line where it fails."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(list(argv))
        except SystemExit as stop:
            code = stop.code
    lines = err.getvalue().splitlines()
    assert code in (0, 1, 2), argv
    assert code == 0 or out.getvalue() or [line for line in lines if line.startswith(("er", "fa"))]
    assert sum(line.startswith(("error: ", "failed: ")) for line in lines) <= 1, (argv, lines)
    assert all(len(line) <= 500 and line.isprintable() for line in lines), (argv, lines)
    return code


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_no_command_line_ends_in_a_traceback(data):
    check(argument(lambda some: data.draw(st.sampled_from(some))))


if __name__ == "__main__":
    number, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    rng, codes = random.Random(seed), []
    for _ in range(number):
        codes.append(check(argument(lambda some: rng.choice(some))))
    print({code: codes.count(code) for code in sorted(set(codes))})
