"""The page of `explain`: what is gathered of a clip, what hidden regions tell, what is shown."""

import os
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.inference.films import FILM, frames, write_video
from tests.report.html_tree import parse
from tests.serve.known import KnownModel
from tests.serve.pictures import CROWD, FACE, NO_FACE
from vlfau_jax.cli.main import main
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.evaluation.covered_regions import cover_regions
from vlfau_jax.facs import DISFA_AUS
from vlfau_jax.inference.faces import FoundFace
from vlfau_jax.inference.pictures import Picture, find_pictures
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.inference.shots import Shot, look_with
from vlfau_jax.regions import template
from vlfau_jax.report import clip as clips
from vlfau_jax.report.clip import Clip, PeopleOfClip, gather
from vlfau_jax.report.explain import explain, explain_clip, explain_pictures, frames_of
from vlfau_jax.report.timeline import clip_data, clock, timeline

THRESHOLDS = (0.5,) * 8
CROP = np.full((32, 32, 3), 90, np.uint8)


def prediction(*on, high=0.9, untaught=()):
    """Of DISFA's units those named are on."""
    active = np.isin(DISFA_AUS, on)
    values = np.where(active, high, 0.1).astype(np.float32)
    return Prediction(DISFA_AUS, values, active, None, None, untaught=frozenset(untaught))


def clip_of(*frames):
    clip = Clip(DISFA_AUS)
    for number, one in enumerate(frames):
        seen = None if one is None else (FoundFace(CROP, faces=1), one)
        clip.add(number / 10, seen, "no face" if one is None else "")
    return clip


def shots_of(frames):
    """Times and pictures as the frames of a video."""
    clip = Picture(Path("clip.mp4"), 1, Path(), video=True)
    for number, (time, picture) in enumerate(frames, 1):
        yield Shot(clip, 0, number, time, picture)


def look_of(model, faces="all"):
    return look_with(model, crop_rule("yunetwheel", 64), faces)


def test_stills_are_evenly_spaced_and_bounded_whatever_the_length():
    for count in (1, 239, 240, 241, 480, 481, 2000):
        clip = clip_of(*[prediction(1)] * count)
        assert len(clip.times) == len(clip.probabilities) == count
        numbers = [still.frame for still in clip.stills]
        assert len(numbers) <= clips.MOST_STILLS
        assert len(numbers) >= min(count, clips.MOST_STILLS // 2)
        assert numbers == list(range(0, count, clip.stride))


def test_peaks_are_the_highest_of_units_that_are_on_and_taught():
    clip = clip_of(
        prediction(1, high=0.7),
        prediction(1, 2, high=0.8),
        None,
        prediction(4, high=0.9, untaught=(4,)),
        prediction(1, high=0.75),
    )
    assert {au: peak.frame for au, peak in clip.peaks.items()} == {1: 1, 2: 1}
    assert [peak.frame for peak in clip.told()] == [1], "one frame speaks for both"
    assert clip.described == 4


def test_strips_show_the_highest_of_their_frames_and_gaps():
    frames = [prediction() for _ in range(2000)]
    frames[777] = prediction(2, high=0.95)
    frames[1000:1100] = [None] * 100
    clip = clip_of(*frames)
    found = timeline(clip, THRESHOLDS, untaught=(1,))
    assert (found.start, found.end, found.columns) == (0.0, 199.9, 480)
    untaught, strip = found.strips[:2]
    assert (untaught.path, untaught.highest, untaught.taught) == ("", None, False)
    assert (strip.highest, strip.at) == (pytest.approx(0.95), 77.7)
    assert strip.on == pytest.approx(1 / 1900)
    assert strip.path.count("V5h1") == 1 and strip.path.count("V90h1") > 400
    assert found.gaps.count("h1") == pytest.approx(100 * 480 / 2000, abs=2)


def test_a_clip_without_a_face_has_strips_of_nothing():
    found = timeline(clip_of(None, None), THRESHOLDS, ())
    assert {(strip.path, strip.highest, strip.on) for strip in found.strips} == {("", None, None)}
    assert clip_data(clip_of(None), ())["stills"][0]["scores"] == [None] * 8


def test_times():
    assert [clock(t) for t in (0, 0.04, 59.96, 62.5, 3600)] == [
        *("0:00.0", "0:00.0", "1:00.0", "1:02.5", "60:00.0")
    ]


def test_few_frames_are_in_memory_at_a_time(tmp_path):
    model, pictures = KnownModel(), []
    (tmp_path / "broken.jpg").write_text("no picture")

    def frames():
        for k in range(40):
            there = sum(picture() is not None for picture in pictures)
            assert there <= 3 * model.batch_size + 4, "not all at once"
            picture = np.full((40, 40, 3), 180 * (k % 2), np.uint8)
            pictures.append(weakref.ref(picture))
            name = tmp_path / ("broken.jpg" if k == 3 else "clip")
            source = Picture(name, 1, tmp_path, video=True)
            yield Shot(source, 0, k + 1, k / 5, None if k == 3 else picture)

    def describe(crops):
        return [model.explanation.prediction] * len(crops)

    model.describe = describe
    people = gather(model, frames(), look_of(model))
    (clip,) = people.clips.values()
    assert clip.times == people.nobody.times == [k / 5 for k in range(40)]
    assert (people.seen, clip.described) == (19, 19)
    reasons = [still.reason for still in clip.stills[:5]]
    assert reasons == ["no face", "", "no face", "unreadable", "no face"]


def test_everybody_has_a_clip_of_their_own_from_the_first_frame_on():
    people, face = PeopleOfClip(Clip(DISFA_AUS)), FoundFace(CROP, faces=1)
    scenes = [{}, {0: 1}, {0: 1, 1: 2}, {1: 2}, {1: 2}, {}]
    for number, scene in enumerate(scenes):
        there = {person: (face, prediction(au)) for person, au in scene.items()}
        people.add(number / 10, there, "" if there else "no face")
    assert (people.seen, len(people.nobody.times)) == (4, 6)
    first, second = (people.clips[k] for k in (0, 1))
    assert (first.described, second.described) == (2, 3)
    assert [still.reason for still in first.stills] == [
        *("no face", "", "", "not seen", "not seen", "no face")
    ]
    assert [still.reason for still in second.stills[:3]] == ["no face", "not seen", ""]
    assert (list(first.peaks), list(second.peaks)) == ([1], [2])


def test_a_page_shows_those_who_are_seen_longest_and_no_more_stills_for_several():
    people, face = PeopleOfClip(Clip(DISFA_AUS)), FoundFace(CROP, faces=1)
    for number in range(250):
        there = {k: (face, prediction(1)) for k in range(9) if k >= 2 or not number % 5}
        people.add(number / 10, there, "")
    shown = people.shown()
    assert len(shown) == clips.MOST_PEOPLE and min(shown) >= 2 and list(shown) == sorted(shown)
    stills = [clip.stills for clip in shown.values()]
    assert max(map(len, stills)) <= clips.MOST_STILLS / len(shown)
    for one in stills:
        frames = [still.frame for still in one]
        assert frames == list(range(0, 250, frames[1]))


def test_every_face_of_a_picture_has_a_card_or_the_largest_alone(tmp_path, monkeypatch):
    model = KnownModel()
    (tmp_path / "crowd.jpg").write_bytes(CROWD)
    (tmp_path / "one.jpg").write_bytes(FACE)
    pictures = find_pictures([tmp_path]).pictures
    page = parse(explain_pictures(model, pictures, look_of(model)))
    names = [f"crowd.jpg, face {k}" for k in range(1, 6)]
    assert [h.text for h in page.all("h3")] == [*names, "one.jpg"]
    page = parse(explain_pictures(model, pictures, look_of(model, "largest")))
    assert [h.text for h in page.all("h3")] == ["crowd.jpg", "one.jpg"]
    assert "the largest of 5 faces" in page.text
    monkeypatch.setattr("vlfau_jax.report.explain.MOST_FACES", 5)
    with pytest.raises(UserError, match=r"6 faces; a page shows at most 5: .*--faces=largest"):
        explain_pictures(model, pictures, look_of(model))


def test_a_name_that_is_no_utf8_is_in_the_page(tmp_path):
    model = KnownModel()
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(FACE)
    page = explain_pictures(model, find_pictures([tmp_path]).pictures, look_of(model))
    assert r"caf\xe9.jpg" in page.encode().decode()


def test_a_clip_of_two_people_has_a_timeline_for_each():
    model, look = KnownModel(), look_of(KnownModel())
    left, right = (90, 110, 130), (140, 110, 90)  # two looks

    def picture(both):
        parts = [np.full((40, 60, 3), left, np.uint8), np.full((40, 60, 3), right, np.uint8)]
        return np.hstack(parts if both else parts[:1])

    def looks(image, source, known=None):
        return [
            one
            for x in range(0, image.shape[1], 60)
            for one in look(np.ascontiguousarray(image[:, x : x + 60]), source)
        ]

    frames = [(k / 5, picture(k >= 3)) for k in range(8)]
    page = explain_clip(model, shots_of(frames), "two.mp4", looks)
    assert page.count("<svg") == 16
    heads = [h.text for h in parse(page).all("h3")]
    assert [h.split(" in ")[0] for h in heads[:2]] == ["Person 0", "Person 1"]
    assert any(h.startswith("person 1, 0:00.6, AU01") for h in heads[2:])


class LooksAt:
    """Its AU12 is what is left of the contrast where AU12 shows; AU4 does not care."""

    aus, thresholds, untaught = (4, 12), (0.5, 0.5), {}

    def __init__(self, rule="cascade"):
        self.crop_rule = crop_rule(rule, 64)
        self.reader = SimpleNamespace(
            stated=lambda text: SimpleNamespace(au=int(text[2:4]), active=text.endswith("on"))
        )

    def describe(self, faces):
        where = template(12, self.crop_rule.describe()["parameters"], faces.shape[1])
        found = []
        for face in faces:
            high = min(0.95, float(face[where].std()) / 80)
            said = ("AU04 on", f"AU12 {'on' if high > 0.5 else 'off'}")
            scores = np.array([0.9, high], np.float32)
            found.append(Prediction(self.aus, scores, scores > 0.5, said, None))
        return found


def test_the_region_that_a_score_depends_on_is_found(rng):
    model = LooksAt()
    face = rng.integers(0, 256, (64, 64, 3), np.uint8)
    (before,) = model.describe(face[None])
    brow, corners = cover_regions(model, face, before)
    assert (brow.aus, corners.aus) == ((4,), (12,)), "from the top down"
    np.testing.assert_allclose([brow.falls[0], corners.falls[0], brow.falls[1]], 0, atol=1e-6)
    assert corners.falls[1] > 0.5 > 0.2 > abs(corners.control_falls[1])
    assert list(corners.silenced) == [False, True] and not brow.silenced.any()
    assert (corners.image != face).any() and (corners.image == face).mean() > 0.5


def test_without_fixed_eyes_no_region_is_hidden(rng):
    model = LooksAt()
    face = rng.integers(0, 256, (64, 64, 3), np.uint8)
    (before,) = model.describe(face[None])
    model.crop_rule = crop_rule("none", 64)
    assert cover_regions(model, face, before) == []


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(6):
        (folder / f"{k}.jpg").write_bytes(NO_FACE if k == 2 else FACE)
    return folder


@pytest.fixture(scope="module")
def faces(raw_faces):
    from vlfau_jax.data.raw.frames import read_image

    return [path for path in sorted(raw_faces.rglob("*.jpg")) if read_image(path) is not None][:5]


@pytest.fixture(scope="module")
def pages(model_folder, faces, tmp_path_factory):
    """The page about two pictures and about a clip, of an untrained network."""
    folder = tmp_path_factory.mktemp("explained")
    (folder / "frames").mkdir()
    for k, face in enumerate(faces):
        (folder / "frames" / f"{k}.jpg").write_bytes(face.read_bytes())
    (folder / "frames" / "9.jpg").write_bytes(NO_FACE)
    explain(model_folder, [*faces[:2], folder / "frames" / "9.jpg"], folder / "pictures.html")
    film = write_video(folder / "film.mp4", frames(FILM[:6]))
    argv = ["explain", f"--model={model_folder}", f"--out={folder / 'film.html'}", "--every=2"]
    assert main([*argv, str(film)]) == 0
    argv = ["explain", f"--model={model_folder}", f"--out={folder / 'clip.html'}", "--fps=4"]
    assert main([*argv, "--finder=training", str(folder / "frames")]) == 0
    return {name: folder / f"{name}.html" for name in ("pictures", "clip", "film")}


def test_a_page_about_pictures(pages, faces):
    page = parse(pages["pictures"].read_text())
    assert [h.text for h in page.all("h3")] == [path.name for path in faces[:2]]
    assert "9.jpg: no face" in page.text
    assert "synthetic faces" in page.text and "From labels" not in page.text
    assert "<svg" not in pages["pictures"].read_text()


def test_a_page_about_a_clip(pages):
    text = pages["clip"].read_text()
    people = max(1, text.count('class="person"'))  # of two recordings, in two lights
    assert text.count("<svg") == 12 * people
    assert "6 frames from 0:00.0 to 0:01.2" in parse(text).text
    assert "cascade's confidence" in parse(text).text or "No unit is on" in text


def test_the_flags_are_the_arguments(monkeypatch):
    asked = {}
    monkeypatch.setattr("vlfau_jax.report.explain.explain", lambda *_, **how: asked.update(how))
    flags = ("--fps=5", "--every=2", "--faces=largest", "--finder=training", "--batch_size=3")
    assert main(["explain", "--model=m", "--out=o.html", *flags, "--verify=abc", "a.jpg"]) == 0
    assert asked == {
        "frames_per_second": 5.0,
        "every": 2,
        "faces": "largest",
        "finder": "training",
        "batch_size": 3,
        "crop_file": "",
        "verify": "abc",
    }


def test_a_page_about_a_video(pages):
    """Of two people, by the file's own times."""
    text = pages["film"].read_text()
    assert text.count("<svg") == 24
    assert "3 frames from 0:00.0 to 0:00.4" in parse(text).text
    assert "Person 1" in parse(text).text


def test_what_cannot_be_explained_is_one_line(model_folder, tmp_path, capsys, pictures, faces):
    (tmp_path / "there.html").write_text("mine")
    film = write_video(tmp_path / "film.mp4", frames(FILM[:2]))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(film.read_bytes()[:500])
    cases = (
        ((f"--out={tmp_path / 'there.html'}", str(faces[0])), 2, "exists; name a new file"),
        ((f"--out={tmp_path / 'a.html'}", str(pictures / "2.jpg")), 1, "no picture shows a face"),
        ((f"--out={tmp_path / 'a.html'}", str(tmp_path / "none")), 2, "no such file or folder"),
        ((f"--out={tmp_path / 'a.html'}", "--fps=-1", str(faces[0])), 2, "--fps=-1.0: give 0"),
        ((f"--out={tmp_path / 'no' / 'a.html'}", str(faces[0])), 2, "No such file"),
        ((f"--out={tmp_path / 'a.html'}", "--every=2", str(faces[0])), 2, "--every: give a video"),
        ((f"--out={tmp_path / 'a.html'}", "--fps=5", str(film)), 2, "has its own times"),
        ((f"--out={tmp_path / 'a.html'}", str(film), str(faces[0])), 2, "give it alone"),
        ((f"--out={tmp_path / 'a.html'}", str(cut)), 1, "none of 1 frames shows a face"),
        ((f"--out={tmp_path / 'a.html'}", "--finder=eyes", str(faces[0])), 2, "--finder='eyes'"),
    )
    for argv, code, message in cases:
        assert main(["explain", f"--model={model_folder}", *argv]) == code
        lines = capsys.readouterr().err.splitlines()
        assert message in lines[-1], lines
    assert (tmp_path / "there.html").read_text() == "mine"
    assert not list(tmp_path.glob("*a.html*"))


def test_too_many_pictures_are_no_page(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for k in range(101):
        (folder / f"{k}.jpg").write_bytes(FACE)
    with pytest.raises(UserError, match=r"101 pictures; a page shows at most 100: .*--fps=25"):
        explain(tmp_path, [folder], tmp_path / "a.html")


def test_a_clip_without_a_face_is_no_page():
    frames = [(0.0, np.zeros((40, 40, 3), np.uint8))] * 3
    model = KnownModel()
    with pytest.raises(RunError, match=r"dark: none of 3 frames shows a face"):
        explain_clip(model, shots_of(frames), "dark", look_of(model))


def test_pictures_as_frames_have_the_times_of_their_rate(pictures):
    found = find_pictures([pictures]).pictures
    shots = list(frames_of(found, 4.0, every=2))
    assert [(one.number, one.timestamp) for one in shots] == [(1, 0.0), (3, 0.5), (5, 1.0)]
    assert all(one.source.video for one in shots)
