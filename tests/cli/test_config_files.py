"""A config file that is wrong ends in one line, with the place where the user's code fails."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from vlfau_jax.cli.config_files import ConfigParser, expanded
from vlfau_jax.cli.main import main
from vlfau_jax.cli.settings import default_config, resolve
from vlfau_jax.errors import UserError, line

DEFAULT = "from vlfau_jax.cli.settings import default_config as get_config\n"


def parse(path, flag="config"):
    return ConfigParser(flag).parse(str(path))


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "mine.py"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.py: has no function get_config"),
        ("get_config = 3\n", "mine.py: has no function get_config"),
        ("x = 1\ndef get_config(:\n", "mine.py:2: SyntaxError: "),
        ("\x00\x00", "mine.py"),
        (b"\xff\xfe\x00", "mine.py"),
        ("def get_config():\n    return 3\n", "mine.py: get_config() returns int; return an"),
        ("def get_config():\n    pass\n", "mine.py: get_config() returns NoneType; return an"),
        ("import nowhere_at_all\n", "mine.py:1: ModuleNotFoundError: No module named"),
        ("def get_config():\n    return 1 / 0\n", "mine.py:2: ZeroDivisionError: division by"),
        ("def get_config():\n    raise ValueError('a\\nb')\n", "mine.py:2: ValueError: a b"),
        ("def get_config():\n    raise OSError('x')\n", "mine.py:2: OSError: x"),
        ("import sys\nsys.exit(0)\n", "mine.py:2: SystemExit: 0"),
        ("raise KeyError('\\x1b[31m')\n", "mine.py:1: KeyError: "),
        ("def get_config():\n    return get_config()\n", "mine.py:2: RecursionError: "),
        ("def get_config(size):\n    return size\n", "mine.py: TypeError: get_config() missing 1"),
        (
            "from vlfau_jax.cli.settings import default_config\n"
            "def get_config():\n"
            "    config = default_config()\n"
            "    config.trian.steps = 3\n",
            "mine.py:4: AttributeError: ",
        ),
        (
            "import json\ndef get_config():\n    return json.loads('{')\n",
            "mine.py:3: JSONDecodeError: ",
        ),
        (
            "from ml_collections import ConfigDict\n"
            "def get_config():\n    return ConfigDict({'data': {'fld': 1}})\n",
            "mine.py: config.data.fld: no such config key as 'fld'; the nearest is 'fold'",
        ),
    ],
)
def test_a_mistake_of_the_users_code_shows_its_place(file, text, message):
    with pytest.raises(UserError) as error:
        parse(file(text))
    shown = str(error.value)
    assert message in shown and "\n" not in shown


def test_the_place_is_that_of_the_innermost_code_of_the_user(file, monkeypatch):
    path = file("import neighbour_of_mine\ndef get_config():\n    neighbour_of_mine.f()\n")
    neighbour = path.with_name("neighbour_of_mine.py")
    neighbour.write_text("def f():\n    raise ValueError('deep')\n")
    monkeypatch.syspath_prepend(path.parent)
    with pytest.raises(UserError, match=r"neighbour_of_mine\.py:2: ValueError: deep$"):
        parse(path)


def test_arguments_reach_get_config_and_user_errors_stay_as_they_are(file):
    path = file(
        "from vlfau_jax.errors import UserError\n"
        "def get_config(x='none'):\n    raise UserError(f'asked for {x}')\n"
    )
    for given_, word in ((path, "none"), (f"{path}:a:b", "a:b"), (f"{path}:", "")):
        with pytest.raises(UserError, match=f"^asked for {word}$"):
            parse(given_)
    with pytest.raises(UserError, match=r"TypeError: get_config\(\) takes 0"):
        parse(f"{file('def get_config(): pass')}:a")


def make_fifo(path):
    os.mkfifo(path)


def make_sparse(path):
    with path.open("wb") as sparse:
        sparse.truncate(10 << 30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "is a folder; give a file"),
        (make_fifo, "regular file"),
        (make_sparse, "bytes"),
        (lambda path: path.symlink_to("/dev/zero"), "regular file"),
        (lambda path: path.symlink_to(path), "no such file"),
        (lambda path: None, "no such file; give an experiment"),
    ],
)
def test_what_is_no_file_of_code(tmp_path, make, message):
    path = tmp_path / "odd.py"
    make(path)
    with pytest.raises(UserError, match=message):
        parse(path)
    if "no such file" not in message:
        with pytest.raises(UserError, match=message.split(";")[0].replace("a folder", "")):
            expanded([f"--flagfile={path}"])


def test_shipped_files_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "demo.py", "configs/demo.py", "demo:scratch", "disfa:swin_t", "bp4d"):
        assert resolve(parse(name)).train.steps > 1
    assert len(parse("hardware", "hardware").rows) > 5
    Path("demo").mkdir()
    assert resolve(parse("demo")).train.batch_size == 32
    Path("bp4d").write_text(DEFAULT)
    assert resolve(parse("bp4d")) == resolve(default_config()), "one's own file comes first"
    for name in ("../configs/demo", "/configs/demo.py", "configs/x/demo", "__init__", "", "."):
        with pytest.raises(UserError):
            parse(name)


def test_experiments_and_tables_are_told_apart():
    with pytest.raises(UserError, match=r"table of devices and no experiment; .*--hardware=hard"):
        parse("hardware")
    with pytest.raises(UserError, match="--hardware=demo is no table of devices"):
        parse("demo", "hardware")


def test_keys_that_a_file_leaves_out_can_be_set(file, capsys):
    path = file(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'train': {'steps': 5}})\n"
    )
    assert resolve(parse(path)).train.steps == 5
    flags = ["--config.train.batch_size=3", "--config.seed=4", "--noconfig.data.flip"]
    flags += ["--config.model.depths=(2,2,6)"]
    assert main(["train", f"--config={path}", "--workdir=/nowhere/x", *flags]) == 2
    assert capsys.readouterr().err.startswith("error: model.depths=(2, 2, 6): give 4 values")
    assert main(["train", f"--config={path}", "--workdir=/nowhere/x", "--noconfig.data.flp"]) == 2
    assert "nearest is 'flip'" in capsys.readouterr().err


def test_references_between_keys_follow_what_is_set(file):
    config = parse(
        file(
            "from vlfau_jax.cli.settings import default_config\n"
            "def get_config():\n"
            "    config = default_config()\n"
            "    config.train.checkpoint_every = config.train.get_ref('steps')\n"
            "    return config\n"
        )
    )
    config.train.steps = 77
    assert isinstance(config, ConfigDict) and config.train.checkpoint_every == 77


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_file_ends_in_a_traceback(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.py"
    path.write_bytes(b"def get_config():\n    return 3\n" + content)
    for read in (parse, lambda path: expanded([f"--flagfile={path}"])):
        try:
            read(path)
        except UserError as error:
            assert "\n" not in line(str(error))


def test_files_of_flags(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(f"# a comment\n\n// one more\n--a=1 2\n--flagfile={second}\n")
    second.write_text("--b\n")
    assert expanded([f"--flagfile={first}", "-c"]) == ["--a=1 2", "--b", "-c"]
    assert expanded(["-flagfile", str(second)]) == ["--b"]
    assert expanded(["--", f"--flagfile={first}"]) == ["--", f"--flagfile={first}"]
    second.write_text(f"--flagfile={first}\n")
    with pytest.raises(UserError, match="in a circle"):
        expanded([f"--flagfile={first}"])
    second.write_text("--config=configs/demo.py\n--config.data.fld=1\n")
    assert main(["train", f"--flagfile={second}", "--workdir=/nowhere/x"]) == 2
    assert "nearest is 'fold'" in capsys.readouterr().err
    for odd in ("--flagfile", "--flagfile=", "--flagfile=/nowhere/x"):
        assert main(["train", odd]) == 2
        assert capsys.readouterr().err.count("\n") == 1
