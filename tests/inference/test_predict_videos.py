"""`predict` on videos: rows for every frame, people with numbers, gone on after an interruption."""

import csv
import json
import re
import shutil
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

import vlfau_jax.inference.shots as shots
import vlfau_jax.inference.video as video
from tests.inference.drawings import cartoon
from tests.inference.films import CROWD, FILM, HEIGHT, frames, who, write_video
from vlfau_jax.cli.main import main
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.predict import predict
from vlfau_jax.inference.predict_options import PredictOptions

PLAIN = PredictOptions(batch_size=4)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", frames(FILM))


@pytest.fixture(scope="module")
def inputs(film, pictures):
    """A picture, a video, and another picture."""
    return [pictures / "1.jpg", film, pictures / "2.jpg"]


@pytest.fixture(scope="module")
def whole(model_folder, inputs, tmp_path_factory):
    """The folder of a run with all outputs that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    options = PredictOptions(
        batch_size=4, overlay=True, format="parquet,pyfeat", captions="changes", smooth=0.3
    )
    predict(model_folder, inputs, out, options)
    return out, options


def records(out):
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def of_film(out, film):
    return [record for record in records(out) if record["source"] == str(film)]


def test_every_frame_has_rows_and_people_keep_their_numbers(whole, film):
    found = of_film(whole[0], film)
    assert sorted({record["frame"] for record in found}) == list(range(1, len(FILM) + 1))
    for record in found:
        assert record["timestamp"] == pytest.approx((record["frame"] - 1) / 10)
    given = {}
    for record in found:
        if not FILM[record["frame"] - 1]:
            assert (record["success"], record["face_id"], record["reason"]) == (0, -1, "no face")
        else:
            given.setdefault(who(record, FILM), set()).add(record["face_id"])
    assert given == {"F002": {0}, "F001": {1}}
    assert {record["finder"] for record in found} == {"yunetwheel"}
    assert sum(record["faces"] == 2 for record in found) >= 20
    with (whole[0] / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == str(film)]
    for row, record in zip(rows, found, strict=True):
        assert (int(row["frame"]), int(row["face_id"])) == (record["frame"], record["face_id"])
        box = record["box"]
        assert row["FaceRectX"] == ("" if box is None else str(box[0]))


def test_sentences_are_there_where_a_persons_units_change(whole, film):
    before = {}
    for record in of_film(whole[0], film):
        if not record["success"]:
            continue
        raw = {au: unit["raw_probability"] > 0.5 for au, unit in record["per_au"].items()}
        changed = before.get(record["face_id"]) != raw
        assert (record["sentence"] is not None) == changed
        before[record["face_id"]] = raw
    pictures = [record for record in records(whole[0]) if record["source"] != str(film)]
    assert all(record["sentence"] is not None for record in pictures)


def test_all_outputs_are_there_and_the_video_is_drawn(whole, film):
    out, _ = whole
    names = {path.name for path in out.iterdir()}
    assert names == {
        "predictions.csv",
        "predictions.jsonl",
        "predictions.columns.json",
        "predictions.parquet",
        "predictions.pyfeat.csv",
        "overlay",
    }
    drawn = sorted(path.name for path in (out / "overlay").iterdir())
    assert drawn == ["000001_1.jpg", "000002_film.mp4", "000003_2.jpg"]
    with av.open(str(out / "overlay" / "000002_film.mp4")) as container:
        times = [round(frame.time, 3) for frame in container.decode(video=0)]
    assert times == [k / 10 for k in range(len(FILM))]
    assert cv2.imread(str(out / "overlay" / "000001_1.jpg")) is not None


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_that_is_interrupted_again_and_again_gives_the_same_files(
    model_folder, inputs, whole, tmp_path
):
    expected, options = whole
    look = shots._look
    for last in (5, 15, 22):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt) as end:

            def stops(shot, *arguments, last=last):
                if shot.source.video and shot.number == last:
                    raise KeyboardInterrupt
                return look(shot, *arguments)

            patch.setattr(shots, "_look", stops)
            predict(model_folder, inputs, tmp_path, options)
        assert "rows are kept in" in str(end.value)
    looked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shots, "_look", lambda shot, *a: looked.append(shot) or look(shot, *a))
        predict(model_folder, inputs, tmp_path, options)
    again = [shot.number for shot in looked if shot.source.video]
    assert min(again) > 12, "what was found before is not looked for again"
    assert files(tmp_path) == files(expected)


def test_every_nth_frame_without_sentences_is_quick_and_says_the_same(
    model_folder, film, whole, tmp_path, monkeypatch
):
    def refuse(*_):
        raise AssertionError("the program with sentences was run")

    monkeypatch.setattr(ExportedModel, "describe", refuse)
    options = PredictOptions(batch_size=4, every=5, captions="never")
    predict(model_folder, [film], tmp_path, options)
    found = records(tmp_path)
    assert sorted({record["frame"] for record in found}) == [1, 6, 11, 16, 21, 26]
    raw = {(r["frame"], r["face_id"]): r for r in of_film(whole[0], film) if r["success"]}
    for record in found:
        assert record["sentence"] is None
        if record["success"]:
            other = raw[record["frame"], record["face_id"]]
            for au, unit in record["per_au"].items():
                assert unit["sentence"] is None
                expected = other["per_au"][au]["raw_probability"]
                assert unit["probability"] == pytest.approx(expected, abs=1e-5)


def test_a_crowd_of_five_has_five_rows_a_frame_and_five_numbers(model_folder, tmp_path):
    """As a picture, and as a video in which everybody moves."""
    pictures = list(frames(CROWD, 580))
    crowd = write_video(tmp_path / "crowd.mp4", pictures)
    cv2.imwrite(str(tmp_path / "crowd.png"), pictures[0][..., ::-1])
    options = PredictOptions(batch_size=4, captions="never")
    predict(model_folder, [crowd, tmp_path / "crowd.png"], tmp_path / "out", options)
    filmed, still = of_film(tmp_path / "out", crowd), records(tmp_path / "out")[-5:]
    assert len(filmed) == 5 * len(CROWD)
    given = {}
    for record in filmed:
        given.setdefault(who(record, CROWD), set()).add(record["face_id"])
    assert sorted(map(sorted, given.values())) == [[0], [1], [2], [3], [4]]
    assert [record["face_id"] for record in still] == [0, 1, 2, 3, 4]
    assert {who(record, CROWD) for record in still} == given.keys()
    assert {record["faces"] for record in (*filmed, *still)} == {5}


def test_only_the_largest_face_where_that_is_asked(model_folder, film, tmp_path, capsys):
    predict(model_folder, [film], tmp_path, PredictOptions(batch_size=4, faces="largest", every=3))
    found = records(tmp_path)
    assert len(found) == len({record["frame"] for record in found})
    assert "pictures show other faces, which are not described" in capsys.readouterr().out


def test_damaged_videos_have_a_row_or_what_is_whole(model_folder, film, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "1.mp4").write_bytes(b"")
    (folder / "2.jpg").write_text("words")
    (folder / "3.mov").write_bytes(film.read_bytes()[:2000])
    avi = write_video(folder / "4.avi", frames(FILM[:3] * 8), "mjpeg")
    avi.write_bytes(avi.read_bytes()[: avi.stat().st_size // 3])
    assert main(["predict", f"--model={model_folder}", f"--out={out}", str(folder)]) == 0
    found = records(out)
    faults = [r for r in found if r.get("reason") == "unreadable"]
    assert [r["source"][-5:] for r in faults] == ["1.mp4", "2.jpg", "3.mov"]
    assert faults[0]["detail"] == "an empty file"
    assert any(r["success"] for r in found if r["source"].endswith("4.avi"))
    said = capsys.readouterr()
    assert re.search(r"4\.avi: .*ends after", said.out) and "Traceback" not in said.err
    only = [f"--model={model_folder}", f"--out={tmp_path / 'none'}", str(folder / "1.mp4")]
    assert main(["predict", *only]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("failed: ")]
    assert "no face could be described" in line


def test_what_was_damaged_is_said_after_an_interruption_too(
    model_folder, film, pictures, tmp_path, monkeypatch
):
    cut = write_video(tmp_path / "cut.avi", frames(FILM[:3] * 8), "mjpeg")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
    inputs, out = [cut, film], tmp_path / "out"
    options = PredictOptions(batch_size=4, captions="never", every=3)
    look = shots._look

    def stops(shot, *arguments):
        if shot.index == 1 and shot.number > 12:
            raise KeyboardInterrupt
        return look(shot, *arguments)

    monkeypatch.setattr(shots, "_look", stops)
    with pytest.raises(KeyboardInterrupt):
        predict(model_folder, inputs, out, options)
    monkeypatch.setattr(shots, "_look", look)
    (remark,) = predict(model_folder, inputs, out, options).remarks()
    assert remark.startswith(f"{cut}: ") and remark.count("ends after") == 1


def test_what_a_video_needs_is_said_before_any_work(film, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"`pip install \"av"):
        predict("no model is read", [film], tmp_path)


def test_memory_holds_some_frames_however_many_there_are(model_folder, tmp_path, monkeypatch):
    """The most pictures that are decoded and not yet released, in a video of 120."""
    alive = most = 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    read = shots.read_video

    def counting(*arguments):
        nonlocal alive, most
        for frame in read(*arguments):
            alive += 1
            most = max(most, alive)
            yield frame._replace(image=frame.image.view(Counted))
        return []

    monkeypatch.setattr(shots, "read_video", counting)
    long = write_video(tmp_path / "long.avi", frames(FILM[:2] * 60), "mjpeg")
    with pytest.raises(RunError, match="no face could be described"):
        predict(
            model_folder,
            [long],
            tmp_path / "out",
            PredictOptions(batch_size=16, finder="training", captions="never"),
            limits=shots_limits(),
        )
    assert most <= 16 + 8


def shots_limits():
    """Limits by which every face is too small: nothing is described."""
    from vlfau_jax.inference.faces import Limits

    return Limits(min_face_pixels=5000)


def test_a_drawn_person_in_a_video_is_not_described_without_remark(model_folder, film, tmp_path):
    drawn = write_video(tmp_path / "drawn.mp4", [cartoon(0, HEIGHT)] * 5)
    options = PredictOptions(batch_size=4, captions="never")
    summary = predict(model_folder, [drawn, film], tmp_path / "out", options)
    found = records(tmp_path / "out")
    assert {(r["frame"], r["reason"]) for r in found if r["source"] == str(drawn)} == {
        (frame, "drawn") for frame in range(1, 6)
    }
    assert summary.dropped["drawn"] == 5, "and none of the film's"
    keeping = replace(options, keep_doubtful=True)
    predict(model_folder, [drawn], tmp_path / "all", keeping)
    kept = records(tmp_path / "all")
    assert [(r["success"], r["reason"]) for r in kept] == [(1, "drawn")] * 5


def test_a_webcam_by_its_number(model_folder, tmp_path, monkeypatch):
    class Camera:
        def __init__(self, number):
            self.frames = frames(FILM[:3]) if number == 2 else iter(())

        def isOpened(self):
            return True

        def read(self):
            picture = next(self.frames, None)
            return picture is not None, None if picture is None else picture[..., ::-1].copy()

        def release(self):
            pass

    monkeypatch.setattr(video.cv2, "VideoCapture", Camera)
    monkeypatch.setitem(__import__("sys").modules, "av", None)  # which it does not need
    options = PredictOptions(batch_size=4, camera=2, captions="never")
    predict(model_folder, [], tmp_path, options)
    found = records(tmp_path)
    assert {(r["frame"], r["face_id"]) for r in found} == {
        (k, p) for k in (1, 2, 3) for p in (0, 1)
    }
    assert {r["source"] for r in found} == {"camera:2"}
    with pytest.raises(UserError, match="--camera excludes other inputs"):
        predict(model_folder, ["a.jpg"], tmp_path / "other", options)


def test_of_a_webcam_that_is_interrupted_nothing_is_kept(model_folder, tmp_path, monkeypatch):
    """Its frames do not come again, so that no later run can go on."""

    def camera(*_):
        yield from (
            video.VideoFrame(k, k / 10, picture) for k, picture in enumerate(frames(FILM[:5]), 1)
        )
        raise KeyboardInterrupt

    monkeypatch.setattr("vlfau_jax.inference.predict.camera_frames", camera)
    options = PredictOptions(batch_size=2, camera=0, captions="never")
    with pytest.raises(KeyboardInterrupt, match="nothing is kept"):
        predict(model_folder, [], tmp_path, options)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("vlfau_jax.inference.predict.camera_frames", lambda *_: iter_none())
    with pytest.raises(RunError, match="no face could be described: 0 described"):
        predict(model_folder, [], tmp_path, options)


def iter_none():
    """A camera that gives no frame."""
    return []
    yield


def test_an_older_overlay_is_replaced_only_when_asked(model_folder, pictures, tmp_path):
    options = PredictOptions(batch_size=4, overlay=True)
    predict(model_folder, [pictures / "1.jpg"], tmp_path, options)
    shutil.copy(tmp_path / "overlay" / "000001_1.jpg", tmp_path / "overlay" / "old.jpg")
    with pytest.raises(UserError, match="overlay exist; give --overwrite"):
        predict(model_folder, [pictures / "2.jpg"], tmp_path, options)
    predict(model_folder, [pictures / "2.jpg"], tmp_path, options, overwrite=True)
    assert [path.name for path in (tmp_path / "overlay").iterdir()] == ["000001_2.jpg"]
