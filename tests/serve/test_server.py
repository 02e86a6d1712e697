"""The verb as people start it: a real model, many clients at once, and how it ends."""

import json
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.inference.drawings import cartoon
from tests.inference.folders import cropped_by
from tests.processes import Process
from tests.serve.conftest import Client
from tests.serve.pictures import malformed, png
from tests.serve.test_requests import ended
from vlfau_jax.cli.main import main
from vlfau_jax.data.crop.registry import finder_for
from vlfau_jax.data.raw.frames import encode_jpeg, read_image, read_picture
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.options import option_kinds
from vlfau_jax.serve.options import ServeOptions

CLIENTS, ROUNDS = 50, 2
LISTENS = re.compile(r"http://127\.0\.0\.1:(\d+)/")


@pytest.fixture(scope="module")
def process(model_folder, tmp_path_factory):
    argv = ["serve", f"--model={model_folder}", "--port=0", "--header_timeout=2"]
    with Process(argv, 1, tmp_path_factory.mktemp("serve") / "logs") as one:
        one.wait_for_log("Ctrl-C stops it")
        yield one


@pytest.fixture(scope="module")
def client(process):
    return Client(int(LISTENS.search(process.log)[1]))


@pytest.fixture(scope="module")
def faces(raw_faces):
    """Files of rendered faces, of which some may not be found."""
    return [p for p in sorted(raw_faces.rglob("*.jpg")) if read_image(p) is not None][:6]


def peak_memory(process):
    """In bytes, since the process began."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def test_a_drawn_face_is_said_to_be_one(client):
    status, answer = client.describe(encode_jpeg(cartoon(0)))
    (face,) = answer["faces"]
    assert (status, face["doubt"]) == (200, "drawn") and "at most 0.2" in face["detail"]


def test_answers_are_those_of_predict(process, client, faces, model_folder):
    model = ExportedModel(model_folder)
    finder = finder_for(model.crop_rule)
    found = [model.look_all(read_picture(path), finder=finder)[0] for path in faces]
    described = 0
    for path, result in zip(faces, model.results(found, keep_doubtful=True), strict=True):
        status, answer = client.describe(path.read_bytes(), "?maps=true")
        assert (status, answer["found"], answer["finder"]) == (200, result.faces, result.finder)
        if result.prediction is None:
            assert (answer["faces"], answer["reason"]) == ([], result.drop_reason)
            continue
        described += 1
        (face,) = answer["faces"]
        assert face["box"] == pytest.approx(result.box, abs=0.01)
        said = result.prediction.to_json()
        assert face["sentence"] == said["sentence"]
        for au, unit in said["per_au"].items():
            assert face["per_au"][au]["sentence"] == unit["sentence"]
            assert face["per_au"][au]["probability"] == pytest.approx(unit["probability"], abs=1e-5)
            (grid,) = {(len(m), len(m[0])) for m in [face["maps"]["branch"][au]]}
            assert np.shape(face["maps"]["words"][au][0]["map"]) == grid
    assert described > 3
    assert client.ask("GET", "/api/model")[0] == 200
    assert json.loads(client.ask("GET", "/api/model")[2])["digest"] == model.digest


def test_fifty_clients_of_every_kind_at_once(process, client, faces):
    """No answer is anything but documented, memory is bounded, and the server goes on."""
    good = faces[0].read_bytes()
    sent = {"good": good, "bomb": png(10_000, 10_000), **malformed()}
    names = list(sent)
    client.describe(good)
    before = peak_memory(process)
    answers = []

    def ask(k):
        for n in range(ROUNDS):
            name = names[(k + n) % len(names)] if k % 2 else "good"
            path = ("/api/describe", "/card")[n % 2]
            status, _, _ = client.ask("POST", path, sent[name], Content_Type="image/jpeg")
            answers.append((name, status))

    slow = [client.raw(b"POST /card HTTP/1.1\r\nHost: x") for _ in range(50)]
    threads = [threading.Thread(target=ask, args=(k,)) for k in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == CLIENTS * ROUNDS
    allowed = {"good": {200}, "bomb": {413}}
    assert {(n, s) for n, s in answers if s not in allowed.get(n, {400})} == set()
    assert all(map(ended, slow))
    # A bomb alone, decoded, is 100 MB of grey and 300 MB of RGB.
    assert peak_memory(process) - before < 150 << 20
    assert client.describe(good)[0] == 200
    assert "Traceback" not in process.log


def test_it_ends_by_ctrl_c_with_requests_under_way(process, client, faces):
    """The last test of the file: the process is gone."""
    client.raw(b"GET / HTTP/1.1\r\nHost: ").close()
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert process.log.splitlines()[-1] == "interrupted"
    assert "synthetic faces" in process.log and "Traceback" not in process.log


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--host=192.0.2.1",), "--host=192.0.2.1 --port=8000: "),
        (("--host=no.such.name.invalid", "--port=0"), "--host=no.such.name.invalid --port=0: "),
        (("--port=99999",), "port=99999: give 0 to 65535"),
        (("--allow_host=a b",), "--allow_host='a b': give a name without port"),
        (("--verify=abc", "--port=0"), "SHA-256"),
        (("--finder=eyes", "--port=0"), "--finder='eyes': expected auto, training or one of"),
    ],
)
def test_mistakes_are_one_line(flags, message, model_folder, capsys):
    code = main(["serve", f"--model={model_folder}", *flags])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and message in err, err


def test_the_flags_are_the_options(monkeypatch):
    asked = []
    monkeypatch.setattr("vlfau_jax.serve.server.serve", lambda *given, **_: asked.append(given[1]))
    given = {"host": "::1", "port": 9, "allow_host": ("box.lan",), "queue": 3, "batch_size": 5}
    given |= {"most_megabytes": 2, "timeout": 7.0, "header_timeout": 4.0}
    given |= {"faces": "largest", "finder": "training"}
    assert given.keys() == option_kinds(ServeOptions).keys()
    flags = [f"--{name}={v[0] if name == 'allow_host' else v}" for name, v in given.items()]
    assert main(["serve", "--model=m", *flags]) == 0
    assert asked == [ServeOptions(**given)]


def test_a_port_that_is_taken_is_named(process, client, model_folder, capsys):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", f"--model={model_folder}", f"--port={port}"]) == 2
    assert f"--port={port}: Address already in use" in capsys.readouterr().err


def test_a_rule_that_reads_a_table_cannot_be_served(model_folder, tmp_path, capsys):
    table = tmp_path / "boxes.csv"
    table.write_text("source,left,top,right,bottom\na.jpg,0,0,9,9\n")
    folder = cropped_by(model_folder, tmp_path, "box", table)
    code = main(["serve", f"--model={folder}", f"--crop_file={table}", "--port=0"])
    assert code == 2 and "looks pictures up in a table" in capsys.readouterr().err
