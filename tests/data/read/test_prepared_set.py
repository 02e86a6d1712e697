"""A set on disk: whatever is not as `prepare` wrote it is one line that names the file."""

import json
import os
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.sets import coded, reseal, write_set
from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.pictures import DamagedExample
from vlfau_jax.data.read.prepared_set import PreparedSet, open_set
from vlfau_jax.data.set_record import DIGESTED, DIGESTS, LABELS, METADATA
from vlfau_jax.errors import LONGEST_LINE, RunError, UserError, line, outcome

SUBJECTS = ("F001", "F002")
AGAIN = "restore the set's files or prepare it again"


def opened(data_dir: Path) -> PreparedSet:
    return open_set("bp4d", data_dir, "")


def refused(data_dir: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        opened(data_dir)
    assert "\n" not in str(error.value) and AGAIN in str(error.value)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with a small set, which tests copy."""
    data_dir = tmp_path_factory.mktemp("written")
    write_set(data_dir, "bp4d", coded(np.random.default_rng(1), "bp4d", SUBJECTS, 3))
    return data_dir


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """The folder of a set that a test may damage; `folder.parents[2]` is its data_dir."""
    return next(shutil.copytree(written, tmp_path / "set").glob("bp4d/*/2.0.0"))


def change_metadata(folder: Path, change: Callable[[dict], object]) -> None:
    metadata = json.loads((folder / METADATA).read_text())
    change(metadata)
    (folder / METADATA).write_text(json.dumps(metadata))


def change_codes(folder: Path, change: Callable[[dict], object]) -> None:
    codes = dict(np.load(folder / LABELS))
    change(codes)
    np.savez(folder / LABELS, **codes)


def cast(codes: dict, key: str, dtype: type) -> None:
    codes[key] = codes[key].astype(dtype)


def sides(train: str, test: str) -> dict:
    return {"1": {"train": [train], "test": [test]}}


# What nobody may notice by the values alone.
@pytest.mark.parametrize(
    ("file", "change"),
    [
        (LABELS, lambda c: c.update(occurrence=1 - c["occurrence"])),
        (LABELS, lambda c: c.update(occurrence=c["occurrence"][:, ::-1])),
        (LABELS, lambda c: c["frame"].__setitem__(slice(2), c["frame"][1::-1])),
        (METADATA, lambda m: m["aus"].reverse()),
        (METADATA, lambda m: m["benchmark"].pop()),
        (METADATA, lambda m: m["subjects"]["F001"].update(sex="male")),
        (METADATA, lambda m: [one.update(fold=2) for one in m["subjects"].values()]),
        (METADATA, lambda m: m["crop"].update(digest="1" * 16)),
        (METADATA, lambda m: m.update(synthetic=False)),
    ],
)
def test_changed_labels_and_facts_are_noticed_by_their_digests(folder, file, change):
    opened(folder.parents[2])
    (change_codes if file == LABELS else change_metadata)(folder, change)
    refused(folder.parents[2], rf"2\.0\.0/{file}: is not as `prepare` wrote it")


@pytest.mark.parametrize("file", DIGESTED)
def test_a_cut_file_is_noticed(folder, file):
    os.truncate(folder / file, 40)
    refused(folder.parents[2], f"{file}: is not as `prepare` wrote it")


def test_a_set_without_digests_is_to_be_prepared_again(folder):
    (folder / DIGESTS).unlink()
    refused(folder.parents[2], f"{DIGESTS}: is missing, as in sets of an earlier version")


# Files with new digests: by somebody's program, or by an error in ours.
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("benchmark"), "benchmark is missing"),
        (lambda m: m["subjects"]["F001"].pop("fold"), "subjects.F001.fold is missing"),
        (lambda m: m["subjects"].update(F001=3), "subjects.F001 is 3; should be"),
        (lambda m: m["subjects"]["F001"].update(sex=3), "subjects.F001.sex is 3"),
        (lambda m: m["subjects"]["F001"].update(fold=4), "F001.fold is 4; should be less"),
        (lambda m: m["subjects"]["F001"].update(fold=-1), "F001.fold is -1; should be gr"),
        (lambda m: m["subjects"]["F001"].update(frames=-1), "F001.frames is -1; should be"),
        (lambda m: m["subjects"]["F001"].update(frames=True), "F001.frames is True"),
        (lambda m: m["subjects"]["F001"].update(fold=1), "a fold and others none"),
        (lambda m: m["subjects"]["F001"].update(frames=float("inf")), "Infinity|frames"),
        (lambda m: m.update(subjects={"../F001": m["subjects"]["F001"]}), "subjects"),
        (lambda m: m.update(aus=3), "aus is 3"),
        (lambda m: m.update(aus=[]), "aus is a list of 0"),
        (lambda m: m["aus"].__setitem__(0, 100), "aus.0 is 100; should be less"),
        (lambda m: m["aus"].__setitem__(0, "1"), "aus.0 is '1'"),
        (lambda m: m["aus"].__setitem__(0, 2), "a unit comes twice in aus"),
        (lambda m: m.update(benchmark=[1, 26]), "benchmark should name units of aus"),
        (lambda m: m.update(benchmark=[]), "benchmark is a list of 0"),
        (lambda m: m.update(benchmark=[[1]]), "benchmark.0 is a list of 1"),
        (lambda m: m.update(subjects=["F001"]), "subjects is a list of 1"),
        (lambda m: m.update(subjects={}), "subjects is an object"),
        (lambda m: m.update(crop="none"), "crop is 'none'"),
        (lambda m: m["crop"].pop("name"), "crop.name is missing"),
        (lambda m: m["crop"].update(digest=7), "crop.digest is 7"),
        (lambda m: m["crop"].update(size="24"), "crop.size is '24'"),
        (lambda m: m["crop"].update(size=10**9), "crop.size is 1000000000"),
        (lambda m: m.update(synthetic="no"), "synthetic is 'no'"),
        (lambda m: m.update(frame_offset=1.5), "frame_offset is 1.5"),
        (lambda m: m.update(list_folds={"0": {}}), "list_folds.0"),
        (lambda m: m.update(list_folds={"1": {"train": ["F001"]}}), "list_folds.1.test is missing"),
        (lambda m: m.update(list_folds=sides("F001", "F001")), "list_folds.1 should name subjects"),
        (lambda m: m.update(list_folds=sides("F001", "F003")), "list_folds.1 should name subjects"),
        (lambda m: m.update(moduleName="os"), "moduleName is no key"),
        (lambda m: m.update(layout="else"), "layout is 'else'; should be 'raw', "),
        (lambda m: m["subjects"].update(F003=m["subjects"].pop("F002")), "other subjects"),
    ],
)
def test_metadata_of_another_shape_is_one_line(folder, change, message):
    change_metadata(folder, change)
    reseal(folder)
    file = DIGESTS if message == "other subjects" else METADATA
    refused(folder.parents[2], rf"2\.0\.0/{file}: .*{message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("task"), "holds frame, .*not frame, intensity"),
        (lambda c: c.update(more=c["task"]), "holds .*more"),
        (lambda c: cast(c, "frame", np.int64), r"frame is int64\(6,\), not int32\(6,\)"),
        (lambda c: cast(c, "occurrence", np.int16), "occurrence is int16"),
        (lambda c: c.update(intensity=c["intensity"][:, :-1]), r"intensity is int8\(6, 11\)"),
        (lambda c: c["occurrence"].fill(2), "occurrence holds codes besides -1 to 1"),
        (lambda c: c["intensity"].fill(-2), "intensity holds codes besides -1 to 5"),
        (lambda c: c["intensity"].fill(6), "intensity holds codes besides -1 to 5"),
        (lambda c: c["subject"].fill(0), "subjects are not in the order and numbers of"),
        (lambda c: c.update(task=c["task"][:-1]), r"task is int32\(5,\), not int32\(6,\)"),
        (lambda c: c.update(task=np.array([object()])), "cannot be read: .*pickle"),
    ],
)
def test_labels_of_another_shape_are_one_line(folder, change, message):
    change_codes(folder, change)
    reseal(folder)
    refused(folder.parents[2], rf"2\.0\.0/{LABELS}: {message}")


@pytest.mark.parametrize(
    "kind", ["empty", "cut", "text", "array", "locked", "compressed", "claims"]
)
def test_a_labels_file_that_is_none_is_one_line(folder, kind):
    path = folder / LABELS
    whole = path.read_bytes()
    if kind == "array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind == "compressed":  # a thousandth of what it would become in memory
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("occurrence.npy", bytes(1 << 20))
    elif kind == "claims":
        header = b"{'descr': '|i1', 'fortran_order': False, 'shape': (1152921504606846976,)}"
        array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("occurrence.npy", array)
    else:
        locked = whole[:6] + b"\x01" + whole[7:]  # the archive's bit for an encrypted file
        start = whole.index(b"PK\x01\x02") + 8
        locked = locked[:start] + b"\x01" + locked[start + 1 :]
        cut = whole[: len(whole) // 2]
        path.write_bytes({"empty": b"", "cut": cut, "text": b"x,y\n", "locked": locked}[kind])
    reseal(folder)
    refused(folder.parents[2], rf"labels\.npz: cannot be read: .*{AGAIN}")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": 2}', '{"format": 1, "files": {}, "shards": {}}', "[" * 100_000],
)
def test_digests_of_another_shape_are_one_line(folder, text):
    (folder / DIGESTS).write_text(text)
    refused(folder.parents[2], rf"2\.0\.0/{DIGESTS}: ")


def test_shards_lie_in_the_folder(folder):
    digests = json.loads((folder / DIGESTS).read_text())
    shard = digests["shards"]["F001"][0]
    os.rename(folder / shard["file"], folder.parent / "shard")
    shard["file"] = "../shard"
    (folder / DIGESTS).write_text(json.dumps(digests))
    refused(folder.parents[2], rf"{DIGESTS}: shards\.F001\.0\.file is '\.\./shard'")


def special(path: Path, kind: str) -> None:
    """Puts something else in the place of a file."""
    path.unlink()
    match kind:
        case "missing":
            pass
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            here = Path.cwd()
            os.chdir(path.parent)  # the length of a socket's path is limited
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(path.name)
            os.chdir(here)
        case "sparse":
            with path.open("wb") as file:
                file.truncate(10 << 30)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "socket", "sparse"])
@pytest.mark.parametrize("file", [DIGESTS, *DIGESTED, "shard"])
def test_special_and_huge_files_are_one_line(folder, file, kind):
    name = next(folder.glob("*.array_record*")).name if file == "shard" else file
    special(folder / name, kind)
    wanted = {
        "missing": "No such file|is missing",
        "folder": "is a folder; expected a file",
        "sparse": "has 10737418240 bytes",
    }
    refused(folder.parents[2], f"{name}: .*{wanted.get(kind, 'is no regular file')}")


def test_a_cut_shard_is_noticed_before_anything_is_read(folder):
    shard = next(folder.glob("*F002.array_record*"))
    size = shard.stat().st_size
    os.truncate(shard, size - 1)
    refused(folder.parents[2], f"{shard.name}: has {size - 1} bytes instead of {size}")


@given(data=st.data())
def test_a_flipped_bit_is_noticed_or_changes_nothing(written, tmp_path_factory, data):
    original = next(written.glob("bp4d/*/2.0.0"))
    expected = list(map(opened(written).source().__getitem__, range(6)))
    names = [path.name for path in original.iterdir() if path.name.startswith("bp4d-")]
    names = sorted([*DIGESTED, DIGESTS, *names])
    file = data.draw(st.sampled_from(names))
    content = bytearray((original / file).read_bytes())
    at = data.draw(st.integers(0, 8 * len(content) - 1))
    content[at // 8] ^= 1 << at % 8
    folder = tmp_path_factory.mktemp("flipped") / "bp4d/none_24/2.0.0"
    folder.mkdir(parents=True)
    for path in original.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / file).unlink()
    (folder / file).write_bytes(content)
    try:
        found = opened(folder.parents[2])
    except UserError as error:
        # A bit of digests.json is one of another file's digest, perhaps.
        assert file in str(error) or file == DIGESTS
        return
    assert file not in DIGESTED
    try:
        assert list(map(found.source().__getitem__, range(6))) == expected
    except DamagedExample as error:
        assert file in str(error)
    if file == DIGESTS:
        assert found.digest != opened(written).digest
    with pytest.raises(UserError, match="is not as `prepare` wrote it"):
        found.verify()


def tasks(data_dir: Path) -> tuple[Path, list[Path]]:
    """A prepared set of several sequences a person, and the shards of one of them."""
    folder = next(data_dir.glob("bp4d/*/2.0.0"))
    return folder, sorted(folder.glob("*F004*.array_record-*"))


@pytest.mark.parametrize("digests", ["old", "new"])
def test_exchanged_shards_of_one_person_are_noticed(prepared, tmp_path, digests):
    data_dir = shutil.copytree(prepared, tmp_path / "set")
    folder, (first, second, *_) = tasks(data_dir)
    assert first.stat().st_size == second.stat().st_size
    aside = folder / "aside"
    for source, target in ((first, aside), (second, first), (aside, second)):
        os.rename(source, target)
    if digests == "new":
        reseal(folder)
    found = opened(data_dir)
    pictures = found.source()
    for i in np.flatnonzero(found.codes["subject"] == found.subjects.index("F004"))[:8]:
        with pytest.raises(DamagedExample, match=r"F004\..*: F004, task \d, frame \d+ is in its"):
            pictures[int(i)]
    if digests == "old":
        with pytest.raises(UserError, match=f"{first.name}: is not as `prepare` wrote it"):
            found.verify()


def test_labels_with_new_digests_are_noticed_where_an_example_is_read(folder):
    change_codes(folder, lambda c: c.update(occurrence=1 - c["occurrence"]))
    reseal(folder)
    with pytest.raises(DamagedExample, match=r"F001\.array.*codes are not those of labels\.npz"):
        opened(folder.parents[2]).source()[0]


def test_a_whole_set_passes_the_full_check(prepared):
    opened(prepared).verify()


def test_the_digest_of_a_set_is_of_everything_in_it(folder, written):
    def digest() -> str:
        return open_dataset(DataOptions(data_dir=str(folder.parents[2]))).digests["bp4d"]

    first = digest()
    reseal(folder)
    assert digest() == first == opened(written).digest
    change_metadata(folder, lambda m: m["subjects"]["F001"].update(sex="male"))
    reseal(folder)
    assert digest() != first


def test_too_many_open_files_are_no_damage(folder, monkeypatch):
    pictures = opened(folder.parents[2]).source()

    class Full:
        def __getitem__(self, index: int) -> bytes:
            raise RuntimeError("Failed to open: Too many open files; reading x")

    monkeypatch.setattr(pictures, "_records", Full())
    with pytest.raises(RunError, match=r"too many open files.*ulimit -n") as error:
        pictures[0]
    assert len(line(str(error.value))) <= LONGEST_LINE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**30) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@settings(max_examples=40)
@given(data=st.data())
def test_whatever_is_in_the_files_the_answer_is_one_line(written, tmp_path_factory, data):
    """With new digests, so that every record is parsed."""
    original = next(written.glob("bp4d/*/2.0.0"))
    folder = tmp_path_factory.mktemp("fuzzed") / "bp4d/none_24/2.0.0"
    shutil.copytree(original, folder)
    file = data.draw(st.sampled_from([METADATA, DIGESTS, LABELS]))
    if file == LABELS or data.draw(st.booleans()):
        content = bytearray((folder / file).read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        (folder / file).write_bytes(content)
    else:
        record = json.loads((folder / file).read_text())
        inside = record
        while data.draw(st.booleans()):
            deeper = [one for one in inside.values() if isinstance(one, dict) and one]
            if not deeper:
                break
            inside = data.draw(st.sampled_from(deeper))
        inside[data.draw(st.sampled_from(sorted(inside)) | st.text(max_size=9))] = data.draw(JSON)
        (folder / file).write_text(json.dumps(record))
    if file != DIGESTS:
        reseal(folder)
    try:
        opened(folder.parents[2])
    except UserError as error:
        text, code = outcome(error)
        assert code == 2 and "\n" not in text and str(folder) in text
        assert len(text) <= LONGEST_LINE
