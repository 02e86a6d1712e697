"""launch/rendered.sh: renders, trains, averages and tests, and goes on where it was stopped."""

import os
import subprocess

import pytest

from tests.launch.recorder import recorder

# What the verbs leave behind, as far as the script looks at it; stopped, they leave a part of it.
VERBS = """\
for word in "$@"; do
    case $word in
        --workdir=*) workdir=${word#*=} ;;
        --out=*) out=${word#*=} ;;
        --data_dir=*) data=${word#*=} ;;
    esac
done
case $3 in
    synthesize) mkdir "$out" ;;
    prepare) mkdir "$data" ;;
    train | transfer | export) mkdir -p "${out:-$workdir}" ;;
esac || exit
[[ "$*" != *"$FAIL"* ]] || exit 9
case $3 in
    train) touch "$workdir/final.json" ;;
    warm_start) touch "$out" ;;
    export) echo card >"$out/README.md" ;;
    transfer) echo "scores of $data" >"$out/transfer.md" ;;
esac
"""


@pytest.fixture
def rendered(tmp_path):
    """Runs the script; gives how it ended, and the verbs that it called, with their arguments."""
    recorder(tmp_path, VERBS)

    def run(*argv, fail="nothing", **variables):
        done = subprocess.run(
            ["bash", str(tmp_path / "launch/rendered.sh"), *argv],
            env=os.environ | {"FAIL": fail, "RUNS": "2"} | variables,
            capture_output=True,
            text=True,
        )
        got = tmp_path / "got"
        calls = [line.split()[2:] for line in got.read_text().splitlines()] if got.exists() else []
        got.unlink(missing_ok=True)
        return done, calls

    return run


ALL = [
    *("synthesize", "prepare", "train", "train", "warm_start", "train", "export"),
    *("synthesize", "prepare", "transfer"),
]


def test_it_makes_a_model_of_the_mean_of_runs_and_adds_its_scores_to_the_card(rendered, tmp_path):
    done, calls = rendered("model", BP4D="raw/bp4d")
    assert done.returncode == 0, done.stderr
    assert [call[0] for call in calls] == [*ALL, "prepare", "transfer"]
    mean, sentences = calls[4:6]
    assert {"--workdir=runs/rendered/run0", "--average=runs/rendered/run1"} <= {*mean}
    assert "--config=configs/rendered.py:sentences" in sentences
    assert "--groups=runs/rendered/people.raw/people.csv" in calls[9]
    assert "--raw_dir=raw/bp4d" in calls[10] and "--part=report" in calls[11]
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("card\n\n## Scores on 100 other rendered")
    for data in ("people", "bp4d"):
        assert card.count(f"scores of runs/rendered/{data}\n") == 1


@pytest.mark.parametrize(
    ("stopped", "again"),
    [
        ("synthesize", ALL),
        ("prepare", ALL),
        ("run0", ALL[2:]),
        ("run1 --config.seed=1", ALL[3:]),
        ("warm_start", ALL[4:]),
        (":sentences", ALL[5:]),
        ("export", ALL[6:]),
        ("--subjects=100 ", ALL[6:]),
        ("transfer", ["export", "transfer"]),
        ("nothing", ["export", "transfer"]),
    ],
)
def test_started_again_it_goes_on_where_it_was_stopped(rendered, tmp_path, stopped, again):
    first, _ = rendered("model", fail=stopped)
    assert first.returncode == (0 if stopped == "nothing" else 9)
    done, calls = rendered("model")
    assert done.returncode == 0, done.stderr
    assert [call[0] for call in calls] == again
    assert all("--resume" in call for call in calls if call[0] == "train")
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.count("scores of runs/rendered/people\n") == 1


def test_an_option_is_no_model(rendered):
    done, calls = rendered("--help")
    assert done.returncode == 2 and "usage:" in done.stderr and not calls
