"""`python -m vlfau_jax` and the command `vlfau_jax` that pip installs, as processes."""

import os
import signal
import subprocess
import sys
import tomllib

import pytest

from tests.processes import ROOT, TIMEOUT


@pytest.fixture(params=["python -m", "command"])
def command(request, tmp_path):
    """The beginning of a command line, in either form; pip's script as pip writes it."""
    if request.param == "python -m":
        return [sys.executable, "-m", "vlfau_jax"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["vlfau_jax"].partition(":")
    script = tmp_path / "bin" / "vlfau_jax"
    script.parent.mkdir()
    script.write_text(
        f"import sys\nfrom {module} import {function}\n"
        f"if __name__ == '__main__':\n    sys.exit({function}())\n"
    )
    return [sys.executable, script]


def run(argv, cwd, **kwargs):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT, **kwargs
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 75, "failed: ended by SIGTERM before anything was begun; start it again"),
    ],
)
def test_no_import_can_swallow_a_signal(command, tmp_path, number, code, message):
    config = tmp_path / "config.py"
    config.write_text(
        "import os\n"
        f"try: os.kill(os.getpid(), {int(number)})\n"
        "except BaseException: pass\n"
        "def get_config(): raise ValueError('went on')"
    )
    argv = ["train", f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    done = run([*command, *argv], tmp_path)
    assert (done.returncode, done.stderr.strip()) == (code, message)


@pytest.mark.slow
def test_an_experiment_imports_its_neighbour_in_the_current_folder(command, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "first.py").write_text(
        "from vlfau_jax.cli.settings import default_config as get_config\n"
    )
    (folder / "second.py").write_text(
        "from experiments import first\n"
        "def get_config():\n"
        "    config = first.get_config()\n"
        "    config.seed = -5\n"
        "    return config\n"
    )
    argv = ["train", "--config=experiments/second.py", "--workdir=run"]
    done = run([*command, *argv], tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: seed=-5: give 0 to 2**31 - 1\n")


def test_a_reader_that_has_read_enough_ends_it_without_a_traceback(command, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [*command, "--help"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
        )
    assert (done.returncode, done.stderr) == (1, "")


MISTAKE = ["train", "--config=nowhere.py", "--workdir=x"]


def shell(command, line, cwd, **env):
    """A line of the shell; "$@" in it is the command line of the product."""
    argv = ["bash", "-o", "pipefail", "-c", line, "bash", *map(str, command)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, timeout=TIMEOUT, text=True
    )


@pytest.mark.parametrize(
    ("line", "code", "err"),
    [
        ('"$@" --help >&-', 0, ""),
        ('"$@" --help 2>&-', 0, ""),
        ('"$@" --help <&- >&- 2>&-', 0, ""),
        ('"$@" --help >/dev/full', 1, "failed: standard output: No space left on device\n"),
        ('"$@" --help >/dev/full 2>&1', 1, ""),
        (f'"$@" {" ".join(MISTAKE)} >&-', 2, "error: --config=nowhere.py: no such file"),
        (f'"$@" {" ".join(MISTAKE)} 2>&-', 2, ""),
        (f'"$@" {" ".join(MISTAKE)} 2>/dev/full', 2, ""),
        (f'"$@" {" ".join(MISTAKE)} >&- 2>&-', 2, ""),
    ],
)
def test_streams_that_are_closed_or_full(tmp_path, line, code, err):
    done = shell([sys.executable, "-m", "vlfau_jax"], line, tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith(err) and done.stderr.count("\n") <= 1 and (err or not done.stderr)


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    # Libraries print to file descriptors 1 and 2, whatever file they are.
    config = tmp_path / "mine.py"
    config.write_text(
        "import os\n"
        "places = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        "open('places', 'w').write(' '.join(places))\n"
    )
    line = f'"$@" train --config={config} --workdir=x <&- >&- 2>&-'
    assert shell([sys.executable, "-m", "vlfau_jax"], line, tmp_path).returncode == 2
    assert (tmp_path / "places").read_text() == "/dev/null /dev/null /dev/null"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_names_have_no_power_over_any_terminal(tmp_path, env):
    config = tmp_path / "mine.py"
    config.write_text(
        "import sys, os\n"
        "name = 'a\\x1b[31m\\x9b\\rb\\u202e\\u9854' + os.fsdecode(b'\\xff')\n"
        "print(name)\nprint(name, file=sys.stderr)\nraise ValueError(name)\n",
        encoding="utf-8",
    )
    line = f"\"$@\" train --config={config} --workdir=$'x\\xff'"
    done = shell([sys.executable, "-m", "vlfau_jax"], line, tmp_path, **env)
    assert done.returncode == 2
    shown = "a\\x1b[31m\\x9b\\rb\\u202e" + ("\\u9854" if env else "\u9854") + "\\xff"
    assert done.stdout == shown + "\n"
    assert done.stderr.splitlines() == [
        shown,
        f"error: {config}:5: ValueError: {shown}".replace("\\r", " "),
    ]


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import vlfau_jax.__main__", ("absl", "ml_collections", "numpy", "jax")),
        ("from vlfau_jax.cli.main import main; main(['--help'])", ("numpy", "jax")),
        ("from vlfau_jax.cli.main import main; main(['export', '--out='])", ("numpy", "jax")),
        ("from vlfau_jax.cli.main import main; main(['prepare'])", ("jax",)),
    ],
)
def test_what_can_be_answered_at_once_does_not_wait_for_imports(tmp_path, statement, absent):
    code = f"import sys\n{statement}\nassert not {{*sys.modules}} & {{*{absent}}}"
    done = run([sys.executable, "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
