"""Many requests, one program: what shares a run, what waits, and what is refused."""

import json
import threading

import numpy as np
import pytest

from tests.processes import wait_until
from tests.serve.conftest import served
from tests.serve.pictures import CROWD, FACE, NO_FACE
from vlfau_jax.data.raw.frames import encode_jpeg
from vlfau_jax.serve.answers import MOST_DESCRIBED


def in_threads(count, ask):
    """Starts so many requests; their answers are in the list that is returned, once joined."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def until(true):
    wait_until(true, "it never came to that", every=0.005)


def test_faces_that_wait_share_a_run_of_the_program(model):
    model.gate.clear()
    with served(model) as client:
        first, answers = in_threads(1, lambda: client.describe(FACE))
        model.entered.acquire()  # the first face is being described; those that come now wait
        others, more = in_threads(9, lambda: client.describe(FACE))
        until(lambda: len(client.describer._waiting) == 9)
        model.gate.set()
        for thread in (*first, *others):
            thread.join()
        assert [status for status, _ in (*answers, *more)] == [200] * 10
        assert list(client.describer.runs) == [1, 4, 4, 1], "of at most four"
        assert client.describer.under_way == 0


def test_a_full_queue_refuses_and_is_emptied(model):
    model.gate.clear()
    with served(model, queue=3) as client:
        threads, answers = in_threads(3, lambda: client.describe(FACE))
        until(lambda: client.describer.under_way == 3)
        status, headers, content = client.ask(
            "POST", "/api/describe", FACE, Content_Type="image/jpeg"
        )
        assert (status, int(headers["Retry-After"]) > 0) == (503, True)
        assert "too many requests" in json.loads(content)["error"]
        assert client.ask("GET", "/api/model")[0] == 200, "what needs no place is answered"
        model.gate.set()
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers] == [200] * 3
        assert client.describe(FACE)[0] == 200


def test_what_fails_gives_its_place_back_and_ends_nothing(model, capsys):
    with served(model, queue=2) as client:
        explain = model.explain
        model.explain = lambda crops: 1 // 0
        for _ in range(4):
            status, answer = client.describe(FACE)
            assert (status, answer) == (500, {"error": "the server failed; its screen says why"})
        assert client.describe(b"nothing")[0] == 400
        assert client.describe(NO_FACE)[0] == 200
        model.explain = explain
        assert client.describe(FACE)[0] == 200
        assert client.describer.under_way == 0
    assert capsys.readouterr().err.count("ZeroDivisionError") == 4


def test_who_does_not_wait_keeps_the_place_until_the_work_is_done(model):
    """Otherwise a client that comes and goes would have any number of pictures in memory."""
    model.gate.clear()
    with served(model, queue=1, timeout=0.2) as client:
        status, answer = client.describe(FACE)
        assert (status, answer["error"][:9]) == (503, "took long")
        assert client.describe(FACE)[1]["error"] == "too many requests at once; try again later"
        model.gate.set()
        until(lambda: client.describer.under_way == 0)


@pytest.mark.parametrize("maps", [False, True])
def test_the_answer_holds_what_the_model_says(model, maps):
    with served(model) as client:
        status, answer = client.describe(FACE, f"?maps={str(maps).lower()}")
    assert status == 200
    (face,) = answer["faces"]
    said = model.explanation.prediction.to_json()
    assert {key: face[key] for key in said} == said
    assert (face["confidence"], face["doubt"], answer["found"]) == (0.75, None, 1)
    assert (face["face_id"], face["box"]) == (0, [0.0, 0.0, 40.0, 48.0])
    assert answer["synthetic"] is True
    if not maps:
        assert face["maps"] is None
        return
    found, units = face["maps"], [str(au) for au in model.aus]
    assert list(found["branch"]) == list(found["words"]) == units
    assert found["branch"][units[0]][1][2] == pytest.approx(
        model.explanation.spatial_maps[0, 1, 2], abs=1e-5
    )
    for au, sentence in zip(units, model.explanation.prediction.sentences, strict=True):
        assert "".join(word["text"] for word in found["words"][au]) == sentence
    assert "".join(w["text"] for w in found["sentence"]) == said["sentence"]
    assert sum(map(sum, found["sentence"][0]["map"])) == pytest.approx(1, abs=1e-3)


def test_a_picture_without_a_face_is_an_answer(model):
    with served(model) as client:
        status, answer = client.describe(NO_FACE)
    assert (status, answer["faces"], answer["found"]) == (200, [], 0)
    assert (answer["reason"], answer["detail"]) == ("no face", "none of 40 pixels or more")


def test_every_face_of_a_picture_is_described_and_they_share_runs(model):
    with served(model) as client:
        status, answer = client.describe(CROWD)
        assert (status, answer["found"], answer["reason"]) == (200, 5, None)
        assert [face["face_id"] for face in answer["faces"]] == [0, 1, 2, 3, 4]
        assert answer["finder"] == "yunetwheel"
        assert sum(client.describer.runs) == 5 and max(client.describer.runs) > 1
        status, _, content = client.ask("POST", "/card", CROWD, Content_Type="image/jpeg")
        assert content.count(b"<article") == content.count(b"application/json") == 5
        assert b"number 5 by size of 5 faces" in content


def test_only_the_largest_face_and_another_finder_where_that_is_asked(model):
    with served(model, faces="largest", finder="training") as client:
        _, answer = client.describe(CROWD)
        assert (answer["found"], len(answer["faces"]), answer["finder"]) == (5, 1, "cascade")
        _, _, content = client.ask("GET", "/")
        assert b"of the largest face" in content and b"found by cascade" in content
        facts = json.loads(client.ask("GET", "/api/model")[2])
        assert (facts["finder"], facts["crop_rule"]) == ("cascade", "cascade")


def test_of_a_picture_of_many_faces_the_largest_are_described(model):
    many = encode_jpeg(np.full((8, 8 * 100, 3), 180, np.uint8))
    with served(model) as client:
        status, answer = client.describe(many)
    assert (status, answer["found"], len(answer["faces"])) == (200, 100, MOST_DESCRIBED)
