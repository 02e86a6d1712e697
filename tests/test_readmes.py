"""The README files: generated parts are current, links lead somewhere, commands are possible."""

import ast
import importlib
import re
import shlex

import pytest

import vlfau_jax
from tests.readmes import COMMAND, ROOT, readmes, refreshed
from tests.test_layers import FLOORS
from vlfau_jax.cli.main import VERBS
from vlfau_jax.cli.settings import check_key

PACKAGE = ROOT / "vlfau_jax"
READMES = readmes()
each_readme = pytest.mark.parametrize(
    "readme", READMES, ids=lambda path: str(path.relative_to(ROOT))
)


def blocks(readme, language):
    """The code blocks of a language, as texts."""
    return re.findall(rf"^```{language}\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL)


@each_readme
def test_generated_parts_are_current(readme):
    text = readme.read_text()
    assert text == refreshed(text, readme.parent), f"refresh it with: {COMMAND}"


@each_readme
def test_links_lead_to_files(readme):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", readme.read_text())
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (readme.parent / target).exists()]
    assert not missing


@each_readme
def test_commands_have_known_verbs_flags_and_keys(readme):
    for block in blocks(readme, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:3] != ["python", "-m", "vlfau_jax"]:
                continue
            verb = VERBS[words[3]]
            known = {flag.name for flag in verb.flags}
            given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
            for flag in given:
                if flag.startswith("config."):
                    check_key(flag)
                else:
                    assert flag in known, f"{line}: no flag --{flag}"
            assert {*verb.required} <= given, line


@each_readme
def test_python_examples_import_what_there_is(readme):
    for block in blocks(readme, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)
        if "vlfau_jax.load" in block:
            assert hasattr(vlfau_jax, "load")


def rooms():
    return [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]


def test_every_room_has_a_readme_with_its_files():
    inside = [path.parent for path in READMES if PACKAGE in path.parents]
    for folder in {*rooms(), *inside, ROOT / "configs", ROOT / "tests"}:
        assert "<!-- begin files -->" in (folder / "README.md").read_text(), folder
    launch = (ROOT / "launch" / "README.md").read_text()
    files = [path.name for path in (ROOT / "launch").iterdir() if path.name != "README.md"]
    assert not [name for name in files if f"({name})" not in launch]


def test_the_readme_is_short_and_links_to_every_room():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    expected = [f"vlfau_jax/{folder.name}/README.md" for folder in rooms()]
    expected += [f"{folder}/README.md" for folder in ("configs", "launch", "tests")]
    assert not [link for link in expected if f"]({link})" not in text]


def test_the_readmes_floors_are_those_of_the_layer_test():
    rows = re.findall(r"^\| (\d) \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    names = [re.findall(r"`(\w+)(?:/|\.py)`", cell) for _, cell in rows]
    assert [int(floor) for floor, _ in rows] == list(range(len(FLOORS)))
    assert [set(floor) for floor in names] == [set(floor) for floor in FLOORS]
