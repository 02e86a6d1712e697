"""launch/setup.sh, pyproject.toml, requirements.txt and the README name the same Pythons."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = r"^([\w.-]+)(?:\[.*\])?==(\S+)$"  # those with a marker differ by it
PREFIX = "Programming Language :: Python :: "
PYTHONS = [text.removeprefix(PREFIX) for text in PROJECT["classifiers"] if PREFIX in text]
MINORS = [int(python.removeprefix("3.")) for python in PYTHONS]


def test_the_project_requires_what_it_classifies():
    assert sorted(set(MINORS)) == list(range(MINORS[0], MINORS[-1] + 1))
    assert PROJECT["requires-python"] == f">=3.{MINORS[0]},<3.{MINORS[-1] + 1}"


@pytest.mark.parametrize("file", ["README.md", "requirements.txt", "launch/setup.sh"])
def test_the_text_for_users_names_them(file):
    assert f"Python {', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}" in (ROOT / file).read_text()


@pytest.mark.parametrize("minor", range(MINORS[0] - 1, MINORS[-1] + 2))
def test_setup_takes_them_and_refuses_others(minor):
    """The check of setup.sh, by an interpreter that says it is another one."""
    (check,) = re.findall(r"'(import sys; .*)'", (ROOT / "launch/setup.sh").read_text())
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.version_info = (3, {minor}, 0); {check}"],
        check=False,
    )
    assert (done.returncode == 0) == (minor in MINORS)


def test_setup_tries_each_by_its_name():
    (candidates,) = re.findall(r"for candidate in (.*);", (ROOT / "launch/setup.sh").read_text())
    assert {f"python{python}" for python in PYTHONS} <= set(candidates.split())


def test_files_of_pins_that_are_installed_together_agree():
    pins = {}
    for file in sorted(ROOT.glob("requirements*.txt")):
        found = re.findall(PIN, file.read_text(), re.MULTILINE)
        for name, version in found:
            pins.setdefault(re.sub(r"[-_.]+", "-", name).lower(), {})[version] = file.name
    assert len(pins) > 100
    assert {name: found for name, found in pins.items() if len(found) > 1} == {}
