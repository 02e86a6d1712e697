"""`inspect --data`: the same stream as `train`, numbers that are the set's, five files or none."""

import errno
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.data.sets import Person, coded, write_set
from tests.report.examples import HOSTILE
from tests.report.html_tree import addresses, check_table, parse
from vlfau_jax.cli.main import main
from vlfau_jax.cli.settings import resolve
from vlfau_jax.data.read.pipeline import train_iterator
from vlfau_jax.data.text.descriptions import global_description, local_description
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.files import written_together
from vlfau_jax.report import training_data
from vlfau_jax.report.data_page import render_data
from vlfau_jax.report.label_record import drawn_rates
from vlfau_jax.report.label_text import table
from vlfau_jax.report.templating import script
from vlfau_jax.report.training_data import NAMES, inspect_data
from vlfau_jax.report.training_faces import NO_SENTENCE, UNKNOWN, TrainingFace, first_faces
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train import experiment as experiment_module
from vlfau_jax.train import loop
from vlfau_jax.train.experiment import build_experiment, open_data
from vlfau_jax.train.stop import StopSignals

FILES = ("faces.png", "labels.png", "cooccurrence.png", "labels.json", "index.html")
PEOPLE = ("F001", "F002", "F004", "M003", "F024")  # fold 1 tests F004 and M003, F024 is in no fold


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Rendered sets: BP4D with an unknown label and a unit that is never active, and DISFA."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(3)
    people = []
    for person in coded(rng, "bp4d", PEOPLE, 20):
        codes = person.codes("occurrence", 12).copy()
        codes[:, 11] = 0
        codes[2:7, 4] = -1
        people.append(Person(person.name, person.frames, codes))
    write_set(folder, "bp4d", people)
    write_set(folder, "disfa", coded(rng, "disfa", ("SN001", "SN003"), 402))
    return folder


def settings(data_dir, batch_size=8, **data):
    return resolve(
        {
            "seed": 5,
            "data": {"data_dir": str(data_dir), "image_size": 32, **data},
            "model": {
                **{"backbone_width": 8, "depths": (0, 0, 1, 1), "heads": (1, 1, 2, 2)},
                **{"window": 2, "patch": 2, "width": 16, "reduction": 4},
            },
            "train": {"batch_size": batch_size},
            "mesh": {"data": 64},  # of a machine that is not this one
        }
    )


def _on_one_device(chosen):
    return replace(chosen, mesh=MeshOptions(data=1))


@pytest.fixture(scope="module")
def inspected(data_dir, tmp_path_factory):
    """The folder of an inspection of BP4D, and what it returned."""
    out = tmp_path_factory.mktemp("inspected") / "out"
    return out, inspect_data(settings(data_dir, validation_subjects=1), out, faces=3)


def test_the_faces_are_those_of_trains_first_batches(data_dir, monkeypatch):
    seen = []

    def record(*arguments, **options):
        seen.append((arguments, options))
        raise InterruptedError

    experiment = build_experiment(_on_one_device(settings(data_dir, validation_subjects=1)))
    run = loop._Run(experiment, None, None, None, None, None, {}, StopSignals())
    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(experiment_module, "train_iterator", record)
        run.take_steps(None, 0, None)
    ((_, rows, captions, options), stream) = seen[0]
    batches = train_iterator(experiment.dataset, rows, captions, options, **stream)
    first, second = next(batches), next(batches)
    batches.close()
    faces = first_faces(experiment, 11)
    assert len(faces) == 11
    for k, face in enumerate(faces):
        batch, row = (first, k) if k < 8 else (second, k - 8)
        np.testing.assert_array_equal(face.image, batch["image"][row])
        subject, task, frame = batch["key"][row]
        who = experiment.dataset.subjects[subject]
        assert face.title == f"{who}, task {task}, frame {frame}"
        au, known = batch["au"][row] > 0, batch["au_known"][row]
        np.testing.assert_array_equal(face.labels, np.where(known, au, -1))
        for unit, sentence, on, certain in zip(BP4D_AUS, face.sentences, au, known, strict=True):
            assert sentence == (local_description(unit, bool(on)) if certain else "")
        noun = "woman" if who[0] == "F" else "man"
        assert face.sentence == (global_description(BP4D_AUS, au, noun) if known.all() else "")
    assert any(not face.sentence for face in faces), "one of them has an unknown label"


def test_five_files_that_can_be_opened(inspected):
    out, record = inspected
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    for name in FILES[:3]:
        assert cv2.imread(str(out / name)).shape[1] > 1000
    assert json.loads((out / "labels.json").read_text()) == json.loads(json.dumps(record))


def test_the_numbers_are_the_sets(inspected, data_dir):
    _, record = inspected
    codes = dict(np.load(next(data_dir.glob("bp4d/*/*/labels.npz"))))
    sets = record["sets"]
    assert list(sets) == ["training", "validation", "test"]
    assert sets["test"]["subjects"] == ["F004", "M003"]
    assert sorted(sets["training"]["subjects"] + sets["validation"]["subjects"]) == ["F001", "F002"]
    for part in sets.values():
        rows = np.isin(codes["subject"], [sorted(PEOPLE).index(s) for s in part["subjects"]])
        theirs = codes["occurrence"][rows]
        assert part["frames"] == len(theirs) == 20 * len(part["subjects"])
        for i, au in enumerate(BP4D_AUS):
            active, inactive, unknown = ((theirs[:, i] == code).sum() for code in (1, 0, -1))
            assert part["per_au"][str(au)] == {
                "rate": pytest.approx(active / (active + inactive)),
                "active": active,
                "inactive": inactive,
                "unknown": unknown,
            }
        at_once = (theirs == 1).sum(1)
        assert part["mean_active"] == pytest.approx(at_once.mean())
        assert list(part["active_units"].values()) == [(at_once == k).sum() for k in range(13)]
    assert sets["training"]["per_au"]["7"]["unknown"] == 5
    assert {name: person["set"] for name, person in record["subjects"].items()} | {
        "F001": "",
        "F002": "",
    } == {"F001": "", "F002": "", "F004": "test", "M003": "test", "F024": "no set"}
    used = codes["occurrence"][codes["subject"] != sorted(PEOPLE).index("F024")]
    assert record["phi_frames"] == len(used)
    assert record["phi"][0][1] == pytest.approx(np.corrcoef(used[:, 0], used[:, 1])[0, 1])
    assert record["phi"][0][11] is None, "AU24 never changes"


def test_the_protocol_is_recorded(inspected, data_dir):
    _, record = inspected
    assert record["dataset"] == "bp4d"
    assert record["synthetic"] is True
    assert record["note"].startswith("SYNTHETIC FACES")
    assert record["aus"] == list(BP4D_AUS)
    assert record["names"]["12"] == "lip corner puller"
    assert (record["seed"], record["options"]["fold"]) == (5, 1)
    assert record["crop_rule"]["name"] == "none"
    assert record["label_rule"].startswith("active where the occurrence code is 1")
    assert record["excluded_frames"] == {}
    assert record["drawn_rates"] is None
    assert sum(record["class_weights"].values()) == pytest.approx(12, rel=1e-5)
    assert [w for w in record["warnings"] if "training" in w] == [
        "never active in training: AU24 lip pressor"
    ]


def test_the_screen_names_units_rates_and_what_is_wrong(inspected):
    _, record = inspected
    lines = table(record).splitlines()
    (line,) = [line for line in lines if line.startswith("AU12 lip corner puller")]
    assert f"{100 * record['sets']['test']['per_au']['12']['rate']:.1f} %" in line
    assert "warning: never active in training: AU24 lip pressor" in lines
    assert lines[-1].startswith("SYNTHETIC FACES")
    assert any(line.startswith("phi: AU") for line in lines)
    assert "as drawn" not in lines[0]


def test_the_page_holds_everything_and_links_to_the_files(inspected):
    out, record = inspected
    page = parse((out / "index.html").read_text())
    links = {a["href"] for a in page.all("a") if not a["href"].startswith("#")}
    assert links == set(FILES) - {"index.html"}
    others = [a for a in addresses(page) if a not in links and not a.startswith("#")]
    assert len(others) == 3 and all(a.startswith("data:image/jpeg") for a in others)
    for table_ in page.all("table"):
        check_table(table_)
    assert page.all("script")[1].raw == script()
    warnings = [p.text for p in page.all("p", "warn")]
    assert warnings[0].startswith("SYNTHETIC FACES")
    assert "never active in training: AU24 lip pressor" in warnings
    (rates,) = page.all("table", "rates")
    cells = {r.one("th").text: r for r in rates.one("tbody").all("tr")}["AU12lip corner puller"]
    training = record["sets"]["training"]["per_au"]["12"]
    assert [c.text for c in cells.all("td")][1:4] == [
        f"{100 * training['rate']:.1f} %",
        str(training["active"]),
        str(training["unknown"]),
    ]


def test_the_page_has_a_row_for_every_subject_and_pair(inspected):
    out, record = inspected
    page = parse((out / "index.html").read_text())
    subjects = page.one("table", id="by-subject").one("tbody").all("tr")
    assert [row.one("th").text for row in subjects] == list(record["subjects"])
    assert [row.all("td")[0].text for row in subjects][-1] == "no set"
    cell = subjects[0].all("td")[1]
    unit = next(iter(record["subjects"].values()))["per_au"]["1"]
    assert cell["data-value"] == str(unit["rate"]) and cell.text == f"{100 * unit['rate']:.0f}"
    heat = page.all("table", "heat")[1].one("tbody").all("tr")
    assert heat[0].all("td")[0].text == ""
    assert {td.text for td in heat[11].all("td")[:-1]} == {"-"}, "AU24 never changes"
    assert sum("apart" in td.classes for td in heat[0].all("td")) == sum(
        value is not None and value < 0 for value in record["phi"][0]
    )


def test_hostile_names_stay_text(inspected):
    _, record = inspected
    hostile = json.loads(json.dumps(record))
    hostile |= {"dataset": HOSTILE, "warnings": [HOSTILE]}
    hostile["subjects"][HOSTILE] = hostile["subjects"].pop("F001")
    hostile["sets"]["test"]["subjects"] = [HOSTILE]
    labels = np.array([1, 0, -1] + [0] * 9, np.int8)
    image = np.zeros((8, 8, 3), np.uint8)
    face = TrainingFace(HOSTILE, image, labels, "", (HOSTILE, HOSTILE, "") + ("x",) * 9)
    words = {"about": HOSTILE, "stream": HOSTILE, "files": {"Faces": "faces.png"}}
    page = parse(render_data(hostile, [face], **words))
    harmless = parse(render_data(record, [face], **words))
    assert {e.tag for e in page.all()} == {e.tag for e in harmless.all()}
    assert len(page.all("script")) == 2
    assert page.text.count(HOSTILE) >= 10
    assert not any("evil" in address for address in addresses(page))
    card = page.one("article")
    assert (NO_SENTENCE in card.text, card.text.count(UNKNOWN)) == (True, 1)
    assert card["data-unknown"] == "4"


def test_a_mixture_and_what_is_left_out(data_dir, tmp_path):
    chosen = settings(data_dir, name="bp4d+disfa", mixture_weights=(1.0, 3.0), balance_classes=True)
    record = inspect_data(chosen, tmp_path / "out", faces=1)
    assert record["frames_by_dataset"] == {"bp4d": 80, "disfa": 804 - 5}
    assert record["excluded_frames"] == {"SN001": 5}, "398 to 402 of the stretch 398 to 420"
    assert record["sets"]["training"]["per_au"]["25"]["unknown"] == 40
    assert record["phi"][record["aus"].index(7)][record["aus"].index(25)] is None
    assert set(record["drawn_rates"]) == {str(au) for au in record["aus"]}
    assert record["drawn_rates"]["24"] == 0
    assert record["drawn_rates"]["25"] != record["sets"]["training"]["per_au"]["25"]["rate"]
    assert "as drawn" in table(record).splitlines()[0]
    page = parse((tmp_path / "out" / "index.html").read_text())
    (rates,) = page.all("table", "rates")
    check_table(rates)
    heads = [head.text for head in rates.one("thead").all("tr")[-1].all("th")]
    assert heads == ["unit", *["rate", "active", "unknown"] * 2, "as drawn", "class weight"]


@pytest.fixture
def own(tmp_path):
    """Three people: AU4 always active, AU12 both, AU26 known of the last of each one's frames."""
    codes = [[1, k % 2, -1 if k < 9 else k % 2] for k in range(10)]
    people = [Person(name, range(1, 11), codes) for name in ("anna", "bea", "carl")]
    write_set(tmp_path, "folder", people)
    return tmp_path


def test_few_sentences_and_units_that_never_change_are_warned_about(own, tmp_path):
    def warned(**data):
        out = tmp_path / "out"
        chosen = settings(own, name="folder", **data)
        return inspect_data(chosen, out, faces=1, overwrite=True)["warnings"]

    always = [f"always active in {side}: AU04 brow lowerer" for side in ("training", "test")]
    found = warned()
    assert [w for w in found if w.startswith("always active in training")] == [
        "always active in training: AU04 brow lowerer, AU26 jaw drop"
    ]
    assert any(w.startswith("a sentence about the face in 2 of 20 training faces") for w in found)
    assert warned(aus=(4, 12)) == always
    found = warned(aus=(26,))
    assert "no known label of these units in 18 training faces: left out" in found
    assert not any("sentence" in w for w in found)


def test_drawn_rates_are_those_of_a_long_stream(data_dir):
    chosen = settings(data_dir, batch_size=800, balance_classes=True, jitter=0.0)
    experiment = open_data(chosen)
    rates = drawn_rates(experiment)
    batches = experiment.training_batches()
    batch = next(batches)
    batches.close()
    for i, au in enumerate(BP4D_AUS):
        known = batch["au_known"][:, i]
        assert batch["au"][known, i].mean() == pytest.approx(rates[str(au)], abs=0.07)


def test_a_second_inspect_into_one_folder_is_refused(data_dir, tmp_path):
    with (
        written_together(tmp_path, NAMES),
        pytest.raises(UserError, match="is being written by another process"),
    ):
        inspect_data(settings(data_dir), tmp_path, faces=1, overwrite=True)


def test_nothing_is_overwritten_unless_asked(inspected, data_dir):
    out, _ = inspected
    chosen = settings(data_dir)
    with pytest.raises(UserError, match=r"faces\.png and .* exist; give --overwrite"):
        inspect_data(chosen, out)
    (out / "mine.txt").write_text("mine")
    inspect_data(chosen, out, faces=1, overwrite=True)
    assert "validation" not in json.loads((out / "labels.json").read_text())["sets"]
    assert (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--data must be given"),
        (("--data", "--config.data.data_dir=/nowhere"), "/nowhere"),
        (("--data", "--faces=0"), "--faces=0"),
        (("--data", "--faces=401"), "--faces=401"),
        (("--data", "--faces=many"), "faces"),
        (("--data", "--config.data.fold=9"), "data.fold=9"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(capsys, data_dir, tmp_path, flags, message):
    argv = ["inspect", "--config=configs/demo.py", f"--out={tmp_path / 'out'}"]
    code = main([*argv, f"--config.data.data_dir={data_dir}", *flags])
    _, err = capsys.readouterr()
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_from_the_command_line(capsys, data_dir, tmp_path):
    config = ("--config=configs/demo.py", f"--config.data.data_dir={data_dir}")
    code = main(["inspect", "--data", *config, f"--out={tmp_path / 'out'}", "--faces=2"])
    out, _ = capsys.readouterr()
    assert code == 0
    assert "AU12 lip corner puller" in out
    assert f"{tmp_path / 'out' / 'index.html'}" in out


def test_two_do_not_write_one_page_and_a_failure_changes_none(
    inspected, data_dir, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    chosen = settings(data_dir)
    inspect_data(chosen, out, faces=1)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def beside(*_: object, **__: object) -> None:
        with pytest.raises(UserError, match=r"out/index\.html is being written by another"):
            inspect_data(chosen, out, faces=2, overwrite=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training_data, "render_data", beside)  # the page is the last to be written
    with pytest.raises(OSError, match=f"No space left on device: '{out}'"):
        inspect_data(chosen, out, faces=2, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(OSError, match="No space left"):
        inspect_data(chosen, tmp_path / "new", faces=2)
    assert not (tmp_path / "new").exists()


def test_the_full_check_reads_every_shard(capsys, data_dir, tmp_path):
    changed = shutil.copytree(data_dir, tmp_path / "changed")
    inspect_data(settings(changed), tmp_path / "a", faces=1, verify=True)
    assert "shards are as `prepare` wrote them" in capsys.readouterr().out
    shard = next(changed.glob("bp4d/*/*/*.array_record*"))
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1  # between the records: no example changes
    shard.write_bytes(content)
    inspect_data(settings(changed), tmp_path / "b", faces=1)
    argv = ["inspect", "--config=configs/demo.py", f"--config.data.data_dir={changed}", "--data"]
    assert main([*argv, "--verify", f"--out={tmp_path / 'c'}"]) == 2
    assert f"{shard.name}: is not as `prepare` wrote it" in capsys.readouterr().err
