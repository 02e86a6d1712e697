"""Where no model is named, the one that ships is used, and a line says which; a tiny one here."""

import csv
import shutil

import pytest

import vlfau_jax
from tests.report.html_tree import parse
from vlfau_jax import shipped
from vlfau_jax.cli.main import main
from vlfau_jax.data.raw.frames import read_image, read_picture
from vlfau_jax.errors import UserError
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.prediction_files import CSV, JSONL

ON_A_PAGE = "It is the model that ships with vlfau_jax, configs/rendered"


@pytest.fixture
def folder(model_folder, tmp_path, monkeypatch):
    """The model that ships, in a working directory beside it."""
    there = shutil.copytree(model_folder, tmp_path / "configs" / "rendered")
    monkeypatch.setattr(shipped, "MODEL", there)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return there


@pytest.fixture
def line(folder):
    """What is said, once, of the model."""
    return (
        f"no --model was given: the one that ships is used, {folder}, which was trained on "
        f"rendered faces alone; its card: {folder / 'README.md'}"
    )


@pytest.fixture(scope="module")
def face(raw_faces):
    return next(path for path in sorted(raw_faces.rglob("*.jpg")) if read_image(path) is not None)


def said(capsys):
    """The lines of stderr, without a bar's."""
    return [text for text in capsys.readouterr().err.splitlines() if "it/s" not in text]


def test_predict_writes_rows_and_says_which_model(folder, line, face, tmp_path, capsys):
    assert main(["predict", str(face)]) == 0
    assert said(capsys).count(line) == 1
    rows = csv.DictReader((tmp_path / "work" / "predicted" / CSV).read_text().splitlines())
    assert [row["success"] for row in rows] == ["1"]
    named = ["predict", f"--model={folder}", "--out=named", str(face)]
    assert main(named) == 0
    assert not any("no --model" in text for text in said(capsys)), "one was named"
    for name in (CSV, JSONL):
        assert (tmp_path / "work" / "named" / name).read_bytes() == (
            tmp_path / "work" / "predicted" / name
        ).read_bytes()


def test_predictions_that_are_there_are_refused_as_elsewhere(folder, line, face, tmp_path, capsys):
    assert main(["predict", str(face)]) == 0
    there = tmp_path / "work" / "predicted" / CSV
    before = there.stat().st_mtime_ns
    capsys.readouterr()
    assert main(["predict", str(face)]) == 2
    (only,) = said(capsys)
    assert str(there) in only and "give --overwrite to replace them" in only
    assert there.stat().st_mtime_ns == before
    assert main(["predict", "--overwrite", str(face)]) == 0
    assert there.stat().st_mtime_ns > before


def test_a_model_that_ships_is_verified_as_any(folder, face, capsys):
    argv = ["predict", "--out=o", str(face)]
    assert main([*argv, "--verify=abc"]) == 2
    (only,) = said(capsys)
    assert f"--verify: {folder} has the SHA-256 " in only
    digest = ExportedModel(folder).digest
    assert main([*argv, f"--verify={digest}"]) == 0
    capsys.readouterr()
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert main([*argv, "--overwrite"]) == 2
    assert said(capsys) == [
        f"error: {weights}: changed since it was exported (SHA-256 differs); copy again"
    ]


def test_explain_says_so_on_the_screen_and_on_the_page(folder, line, face, tmp_path, capsys):
    assert main(["explain", "--out=why.html", str(face)]) == 0
    assert said(capsys).count(line) == 1
    assert ON_A_PAGE in parse((tmp_path / "work" / "why.html").read_text()).text


def test_a_page_of_another_model_does_not_say_so(folder, model_folder, face, tmp_path, capsys):
    assert main(["explain", f"--model={model_folder}", "--out=why.html", str(face)]) == 0
    assert not any("no --model" in text for text in said(capsys))
    page = parse((tmp_path / "work" / "why.html").read_text()).text
    assert "ships" not in page and "synthetic faces" in page


def test_serve_says_so_on_the_screen_and_on_the_page(folder, line, capsys, monkeypatch):
    uvicorn = pytest.importorskip("uvicorn", reason="pip install -r requirements-test.txt")
    testclient = pytest.importorskip("starlette.testclient")
    shown = []

    def run(server, sockets):
        client = testclient.TestClient(server.config.app, base_url="http://127.0.0.1")
        shown.extend((client.get("/").text, client.get("/api/model").json()["digest"]))

    monkeypatch.setattr(uvicorn.Server, "run", run)
    assert main(["serve", "--port=0"]) == 0
    assert said(capsys).count(line) == 1
    page, digest = shown
    assert ON_A_PAGE in parse(page).text
    assert digest == ExportedModel(folder).digest


def test_load_without_a_folder(folder, line, face, model_folder, capsys):
    model = vlfau_jax.load(batch_size=1)
    assert said(capsys) == [line]
    assert model.ships
    (result,) = model.predict([read_picture(face)])
    assert result.prediction is not None
    assert vlfau_jax.load(folder, batch_size=1).ships
    assert not vlfau_jax.load(model_folder, batch_size=1).ships
    assert said(capsys) == []


@pytest.mark.parametrize(
    "argv", [("predict", "FACE"), ("explain", "--out=why.html", "FACE"), ("serve", "--port=0")]
)
def test_an_installation_without_it_says_so_and_asks_for_a_model(
    argv, face, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "MODEL", tmp_path / "none" / "rendered")
    assert main([str(face) if word == "FACE" else word for word in argv]) == 2
    (only,) = said(capsys)
    assert only.startswith(f"error: {tmp_path / 'none' / 'rendered'} is missing: ")
    assert "--model=FOLDER" in only
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_load_without_it_is_a_mistake_too(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "MODEL", tmp_path / "none")
    with pytest.raises(UserError, match=r"none is missing: .*--model=FOLDER"):
        vlfau_jax.load()
