import csv
import hashlib
import json
import operator
import os
import resource
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vlfau_jax.data.raw.disfa_labels import CODED_AUS
from vlfau_jax.data.raw.folder import index_folder
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK
from vlfau_jax.data.sets import SETS
from vlfau_jax.data.synthetic import jobs
from vlfau_jax.data.synthetic.bp4d import BP4D_LAYOUT
from vlfau_jax.data.synthetic.disfa import DISFA_LAYOUT
from vlfau_jax.data.synthetic.folder import FOLDER_LAYOUT
from vlfau_jax.data.synthetic.people import PEOPLE
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS
from vlfau_jax.data.synthetic.trees import frame_runs, write_tree
from vlfau_jax.errors import RunError, UserError, outcome

BP4D_AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
FRAMES = 5


@pytest.fixture(scope="module")
def bp4d(tmp_path_factory):
    out = tmp_path_factory.mktemp("raw") / "bp4d"
    write_tree(BP4D_LAYOUT, out, subjects=4, frames=FRAMES, seed=0, size=64, workers=2)
    return out


@pytest.fixture(scope="module")
def disfa(tmp_path_factory):
    out = tmp_path_factory.mktemp("raw") / "disfa"
    write_tree(DISFA_LAYOUT, out, subjects=4, frames=12, seed=0, size=64, workers=1)
    return out


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def pictures(root, subject, task):
    return sorted((root / "Sequences(2D+3D)" / subject / task).iterdir())


def traps(root, name):
    return [
        t for t in json.loads((root / SYNTHETIC_MARK).read_text())["traps"] if t["trap"] == name
    ]


def test_bp4d_codes(bp4d):
    files = sorted((bp4d / "AUCoding" / "AU_OCC").iterdir())
    assert len(files) == 4 * 8
    unknown = Counter()
    for file in files:
        header, *rows = rows_of(file)
        assert header == [str(k) for k in range(28)]
        numbers = [int(r[0]) for r in rows]
        assert numbers == list(range(numbers[0], numbers[0] + FRAMES))
        for row in rows:
            for au in range(1, 28):
                assert row[au] in ({"0", "1", "9"} if au in BP4D_AUS else {"9"})
                unknown[file.name] += au in BP4D_AUS and row[au] == "9"
    assert {t["file"] for t in traps(bp4d, "unknown_codes")} == {f for f, n in unknown.items() if n}


def test_bp4d_intensities_agree_with_the_codes(bp4d):
    for au in (6, 10, 12, 14, 17):
        files = sorted((bp4d / "AUCoding" / "AU_INT" / f"AU{au:02d}").iterdir())
        assert len(files) == 4 * 8
        for file in files:
            codes = rows_of(bp4d / "AUCoding" / "AU_OCC" / (file.name[:-9] + ".csv"))[1:]
            for (frame, level), code in zip(rows_of(file), codes, strict=True):
                assert frame == code[0]
                expected = {"0": {"0"}, "1": set("12345"), "9": {"9"}}[code[au]]
                assert level in expected


def test_bp4d_pictures_and_their_traps(bp4d):
    missing, truncated, forms = [], [], set()
    for file in sorted((bp4d / "AUCoding" / "AU_OCC").iterdir()):
        subject, task = file.stem.split("_")
        found = {int(p.stem): p for p in pictures(bp4d, subject, task)}
        for row in rows_of(file)[1:]:
            path = found.pop(int(row[0]), None)
            if path is None:
                missing.append((subject, task))
                continue
            forms.add(len(path.stem) - len(str(int(path.stem))))
            blob = path.read_bytes()
            if not blob.endswith(b"\xff\xd9"):
                truncated.append(str(path.relative_to(bp4d)))
                continue
            assert cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR).shape == (
                64,
                64,
                3,
            )
        assert not found
    assert len(missing) == 1
    assert f"{missing[0][0]}/{missing[0][1]}/" in traps(bp4d, "missing_image")[0]["file"]
    assert truncated == [traps(bp4d, "truncated_image")[0]["file"]]
    assert len(forms) > 1, "the padding of frame numbers differs by sequence"


def test_manifest_states_that_it_is_synthetic(bp4d):
    manifest = json.loads((bp4d / SYNTHETIC_MARK).read_text())
    assert manifest["notice"] == "rendered faces; scores on them say nothing about BP4D or DISFA"
    assert manifest["arguments"] == {"subjects": 4, "frames": FRAMES, "seed": 0, "size": 64}
    assert manifest["counts"]["frames"] == 4 * 8 * FRAMES


def test_fewer_subjects_and_workers_leave_a_subjects_files_as_they_are(bp4d, tmp_path):
    write_tree(BP4D_LAYOUT, tmp_path / "one", subjects=1, frames=FRAMES, seed=0, size=64, workers=1)
    subject = BP4D_LAYOUT.choose_subjects(1)[0]
    of_all = {SYNTHETIC_MARK, PEOPLE}
    mine = [p for p in (tmp_path / "one").rglob("*") if p.is_file() and p.name not in of_all]
    assert len(mine) == 8 * (FRAMES + 6)
    assert all(subject in str(p) for p in mine)
    for path in mine:
        assert (bp4d / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()
    assert rows_of(tmp_path / "one" / PEOPLE) == rows_of(bp4d / PEOPLE)[:2]


def test_disfa_labels_and_videos(disfa):
    lengths, absent = {}, []
    for folder in sorted((disfa / "ActionUnit_Labels").iterdir()):
        for au in CODED_AUS:
            file = folder / f"{folder.name}_au{au}.txt"
            if not file.exists():
                absent.append(str(file.relative_to(disfa)))
                continue
            rows = [tuple(map(int, r)) for r in rows_of(file)]
            assert [r[0] for r in rows] == list(range(1, len(rows) + 1))
            assert all(0 <= r[1] <= 5 for r in rows)
            lengths.setdefault(folder.name, set()).add(len(rows))
        video = cv2.VideoCapture(str(disfa / f"Videos_LeftCamera/LeftVideo{folder.name}_comp.avi"))
        assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12
        assert video.get(cv2.CAP_PROP_FPS) == 20
        assert video.read()[1].shape == (64, 64, 3)
    assert absent == [t["file"] for t in traps(disfa, "missing_labels")]
    assert len(absent) == 1
    short = [s for s, n in lengths.items() if n == {9}]
    assert [f"ActionUnit_Labels/{s}" for s in short] == [
        t["file"] for t in traps(disfa, "short_labels")
    ]
    assert all(n == {12} for s, n in lengths.items() if s not in short)


@pytest.mark.parametrize(("dataset", "own"), [("bp4d", 41), ("disfa", 27)])
def test_subjects_cover_parts_and_sexes_evenly(dataset, own):
    everyone = SETS[dataset].layout.choose_subjects(own + 6)
    assert len(set(everyone)) == own + 6
    assert set(everyone[:own]) == set().union(*SETS[dataset].published.parts)
    assert not set(everyone[own:]) & set().union(*SETS[dataset].published.parts)
    for n in (3, 9, 18, 27):
        shares = [len(set(part) & set(everyone[:n])) for part in SETS[dataset].published.parts]
        assert shares == [n // 3] * 3
        if dataset == "bp4d":
            women = sum(s[0] == "F" for s in everyone[:n])
            assert abs(women - n / 2) <= 1.5
    assert BP4D_LAYOUT.choose_subjects(45)[41:] == ("F024", "M019", "F025", "M020")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"subjects": 0}, "subjects"),
        ({"frames": 3}, "frames"),
        ({"size": 63}, "size"),
        ({"workers": 0}, "workers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_out_of_range(tmp_path, change, named):
    arguments = {"subjects": 1, "frames": 4, "seed": 0, "size": 64, "workers": 1, **change}
    for layout in (BP4D_LAYOUT, DISFA_LAYOUT, FOLDER_LAYOUT):
        with pytest.raises(UserError, match=f"--{named}="):
            write_tree(layout, tmp_path / "x", **arguments)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for taken, message in (
        (tmp_path, "not an empty folder"),
        (tmp_path / "mine.txt", "is not a folder"),
        (tmp_path / "mine.txt" / "raw", "mine.txt is not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            write_tree(BP4D_LAYOUT, taken, subjects=1, frames=4, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("vlfau_jax.data.synthetic.trees.run", stop)
    with pytest.raises(KeyboardInterrupt):
        write_tree(BP4D_LAYOUT, tmp_path / "out", subjects=1, frames=4, seed=0, size=64)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_swept(tmp_path):
    (tmp_path / ".out.partial/AUCoding").mkdir(parents=True)
    write_tree(BP4D_LAYOUT, tmp_path / "out", subjects=1, frames=4, seed=0, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / SYNTHETIC_MARK).is_file()


def test_two_runs_do_not_write_one_tree(tmp_path):
    arguments = {"subjects": 1, "frames": 4, "seed": 0, "size": 64}
    message = "out is being written by another process"
    with jobs.finished_tree(tmp_path / "out"), pytest.raises(UserError, match=message):
        write_tree(BP4D_LAYOUT, tmp_path / "out", **arguments)
    write_tree(BP4D_LAYOUT, tmp_path / "out", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_in_the_way_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".out.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"\.out\.partial is in the way"):
        write_tree(BP4D_LAYOUT, tmp_path / "out", subjects=1, frames=4, seed=0, size=64)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("layout", [BP4D_LAYOUT, DISFA_LAYOUT], ids=["pictures", "videos"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, layout):
    """A limit on the size of files stands in for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises((OSError, RunError)) as error:
            write_tree(layout, tmp_path / "out", subjects=1, frames=40, seed=0, size=160)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    text, code = outcome(error.value)
    assert code == 1 and str(tmp_path) in text
    assert not list(tmp_path.iterdir())


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--out=\. is in use"):
        write_tree(BP4D_LAYOUT, Path("."), subjects=1, frames=4, seed=0, size=64)
    write_tree(BP4D_LAYOUT, Path("raw"), subjects=1, frames=4, seed=0, size=64)
    assert (tmp_path / "raw" / SYNTHETIC_MARK).is_file()


def test_a_killed_process_ends_the_drawing():
    deadly = [SimpleNamespace(frames=1, die=partial(os._exit, 9))] * 2
    with pytest.raises(RunError, match="was killed"):
        jobs.run(operator.methodcaller("die"), deadly, workers=2)


def test_coded_runs_have_the_published_frame_numbers(tmp_path):
    runs = {
        (subject, task): (90 + task, 93 + 2 * task)
        for subject in BP4D_LAYOUT.choose_subjects(4)
        for task in range(1, 9)
    }
    layout = replace(BP4D_LAYOUT, coded_runs={(s, f"T{t}"): run for (s, t), run in runs.items()})
    write_tree(layout, tmp_path / "raw", subjects=4, frames=None, seed=0, size=64)
    for (subject, task), (first, last) in runs.items():
        file = tmp_path / "raw" / "AUCoding" / "AU_OCC" / f"{subject}_T{task}.csv"
        assert [int(row[0]) for row in rows_of(file)[1:]] == list(range(first, last + 1))
        read = {int(p.stem) for p in pictures(tmp_path / "raw", subject, f"T{task}")}
        assert read == set(range(first, last + 1))
    manifest = json.loads((tmp_path / "raw" / SYNTHETIC_MARK).read_text())
    assert manifest["arguments"] == {"subjects": 4, "coded_runs": True, "seed": 0, "size": 64}
    assert {t["trap"] for t in manifest["traps"]} == {"unknown_codes"}, "no frame is lost"
    assert manifest["counts"]["frames"] == sum(last - first + 1 for first, last in runs.values())


def test_coded_runs_are_those_of_all_subjects_and_of_no_more(tmp_path):
    people = BP4D_LAYOUT.choose_subjects(41)
    runs = frame_runs(BP4D_LAYOUT, people, None)
    assert len(runs) == 328
    assert sum(length for _, length in runs.values()) == 146_847
    assert runs["F001", "T1"] == (2440, 553)
    with pytest.raises(UserError, match=r"--subjects=42: .* at most 41"):
        write_tree(BP4D_LAYOUT, tmp_path / "raw", subjects=42, frames=None, seed=0)
    assert not list(tmp_path.iterdir())


# sha256 over the path of every file but people.csv, which is newer than they are (test_people.py),
# and over the labels' bytes: the same on every machine.
DIGESTS = {
    "bp4d": "8bfaff791d84526e54046178bf4f648a7873807db4fea8c8915def0871459e0a",
    "disfa": "e682ec04d21200afe2cd2c3da338f9f4018b4204da09aa1cf715b8fe14826708",
}


@pytest.mark.parametrize("layout", [BP4D_LAYOUT, DISFA_LAYOUT], ids=lambda layout: layout.name)
def test_labels_and_names_stay_as_they_were(tmp_path, layout):
    write_tree(layout, tmp_path / "raw", subjects=2, frames=6, seed=5, size=64)
    digest = hashlib.sha256()
    files = (p for p in (tmp_path / "raw").rglob("*") if p.is_file() and p.name != PEOPLE)
    for path in sorted(files):
        digest.update(str(path.relative_to(tmp_path / "raw")).encode())
        if path.suffix in (".csv", ".txt"):  # pixels may differ in the last bit between machines
            digest.update(path.read_bytes())
    assert digest.hexdigest() == DIGESTS[layout.name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("raw") / "folder"
    write_tree(FOLDER_LAYOUT, out, subjects=4, frames=6, seed=0, size=64, workers=1)
    return out


def test_the_folder_layout_is_the_readers(folder):
    tree = index_folder(folder)
    assert tree.report.synthetic
    assert tree.aus == RENDERED_AUS
    sexes = {"F01": "female", "F03": "female", "M02": "male", "M04": ""}
    assert {(s.subject, s.task): s.sex for s in tree.sequences} == {
        (subject, task): sex for subject, sex in sexes.items() for task in (1, 2)
    }
    assert tree.folds == {"F01": 1, "M02": 2, "F03": 3, "M04": 1}
    assert tree.report.losses["image_missing"] == [
        t["file"] for t in traps(folder, "missing_image")
    ]
    (cut,) = traps(folder, "truncated_image")
    pictures = [Path(p) for s in tree.sequences for p in s.pictures.paths]
    whole = [p.read_bytes().endswith(b"\xff\xd9") for p in pictures]
    assert [str(p.relative_to(folder)) for p in pictures if not whole[pictures.index(p)]] == [
        cut["file"]
    ]
    assert len(pictures) == 4 * 2 * 6 - 1


def test_the_folders_labels_agree_with_each_other(folder):
    tree = index_folder(folder)
    columns = {au: i for i, au in enumerate(tree.aus)}
    blanks = 0
    for sequence in tree.sequences:
        occurrence, intensity = sequence.occurrence, sequence.intensity
        for au in (6, 12):
            codes, levels = occurrence[:, columns[au]], intensity[:, columns[au]]
            assert ((levels >= 1) == (codes == 1)).all()
            assert ((levels == -1) == (codes == -1)).all()
        assert (occurrence[:, columns[26]] == -1).all(), "AU 26 has intensities alone"
        blanks += int((np.maximum(occurrence, intensity) < 0).sum())
    unknown = traps(folder, "unknown_codes")
    assert blanks == sum(int(t["detail"].split()[4]) for t in unknown) > 0
    rates = np.concatenate([s.occurrence for s in tree.sequences])[:, columns[12]]
    assert 0.2 < (rates == 1).mean() < 0.9
