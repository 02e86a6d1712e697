"""transfer: an exported model on a part of a prepared set, against scikit-learn."""

import csv
import json

import numpy as np
import pytest
from sklearn import metrics as sk

from tests.report.html_tree import addresses, check_table, parse
from vlfau_jax import load
from vlfau_jax.cli.main import main
from vlfau_jax.data.raw.frames import decode_crop
from vlfau_jax.data.read.prepared_set import open_set
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.records import read_record
from vlfau_jax.studies.parts import people_of
from vlfau_jax.studies.shifts import best_shifts, logit, shifted
from vlfau_jax.studies.transfer_record import Transfer
from vlfau_jax.studies.transfer_table import RENDERED


@pytest.fixture(scope="module")
def answers(prepared, model_folder):
    """Names, probabilities, labels and what is known of all frames, the long way."""
    one = open_set("bp4d", prepared, "")
    model = load(model_folder)
    source = one.source()
    faces = [
        resize(decode_crop(source[k]["image"]), model.image_size)
        for k in range(len(one.codes["frame"]))
    ]
    probabilities = np.stack([p.probabilities for p in model.describe(np.stack(faces))])
    names = np.array(one.subjects)[one.codes["subject"]]
    labels, known = one.codes["occurrence"] == 1, one.codes["occurrence"] >= 0
    columns = [model.aus.index(au) for au in one.aus]
    return one.aus, names, probabilities[:, columns], labels, known


@pytest.fixture(scope="module")
def chosen(prepared, model_folder, tmp_path_factory):
    """The folder that transfer wrote of the part to choose on, and the same of the other part."""
    folder = tmp_path_factory.mktemp("transfer")
    given = [f"--model={model_folder}", f"--data_dir={prepared}"]
    assert main(["transfer", *given, "--part=choose", f"--out={folder}/choose"]) == 0
    shifts = f"--shifts={folder}/choose/transfer.json"
    argv = ["transfer", *given, "--part=report", shifts, f"--out={folder}/report"]
    assert main(argv) == 0
    return folder


def read(folder):
    return json.loads((folder / "transfer.json").read_text())


@pytest.mark.parametrize("part", ["choose", "report"])
def test_scores_are_those_of_scikit_learn(chosen, answers, part):
    aus, names, probabilities, labels, known = answers
    found = read(chosen / part)
    people = sorted(set(names))
    own = [people[0]] if part == "choose" else people[1:]
    assert (found["part"], found["subjects"]) == (part, own)
    rows = np.isin(names, own)
    assert found["frames"] == rows.sum()
    assert list(found["per_au"]) == [str(au) for au in aus]
    f1s, aucs = [], []
    for column, unit in enumerate(found["per_au"].values()):
        keep = rows & known[:, column]
        p, y = probabilities[keep, column], labels[keep, column]
        on = p > np.float32(0.5)
        assert (unit["positives"], unit["frames"]) == (y.sum(), keep.sum())
        if y.any():
            f1s.append(sk.f1_score(y, on))
            assert unit["f1"] == pytest.approx(f1s[-1])
            assert unit["recall"] == pytest.approx(sk.recall_score(y, on))
            assert unit["all_on"] == pytest.approx(sk.f1_score(y, np.ones_like(y)))
            if on.any():
                assert unit["precision"] == pytest.approx(sk.precision_score(y, on))
            best = max(sk.f1_score(y, p >= least) for least in set(p.tolist()))
            assert unit["f1_oracle"] == pytest.approx(best if not y.all() else unit["f1"])
        else:
            names_of = ("f1", "recall", "precision", "auc", "all_on", "f1_oracle")
            assert [unit[name] for name in names_of] == [None] * 6
        if y.any() and not y.all():
            aucs.append(sk.roc_auc_score(y, p))
            assert unit["auc"] == pytest.approx(aucs[-1], abs=1e-6)
        else:
            assert unit["shift"] == 0 and unit["auc"] is None
    assert len(f1s) > 3 and len(aucs) > 3
    assert found["mean"]["f1"] == pytest.approx(np.mean(f1s))
    assert found["mean"]["auc"] == pytest.approx(np.mean(aucs))
    bounds = found["intervals"]["f1"]
    assert bounds is None if part == "choose" else 0 <= bounds[0] < bounds[1] <= 1  # one, or two


def test_shifts_of_one_part_are_applied_to_the_other(chosen, answers):
    aus, names, probabilities, labels, known = answers
    one, other = read(chosen / "choose"), read(chosen / "report")
    assert one["shifts"] is None and one["mean"]["f1_shifted"] is None
    assert any(unit["shift"] for unit in one["per_au"].values())
    assert (other["shifts"]["part"], other["shifts"]["subjects"]) == ("choose", one["subjects"])
    assert not set(one["subjects"]) & set(other["subjects"])
    values = []
    for column, au in enumerate(map(str, aus)):
        unit, shift = other["per_au"][au], one["per_au"][au]["shift"]
        assert unit["shift_applied"] == shift
        keep = np.isin(names, other["subjects"]) & known[:, column]
        on = logit(probabilities[keep, column]) + shift > 0
        if labels[keep, column].any():
            values.append(sk.f1_score(labels[keep, column], on))
            assert unit["f1_shifted"] == pytest.approx(values[-1])
    assert values and other["mean"]["f1_shifted"] == pytest.approx(np.mean(values))


def by_hand(answers, chosen, people, aus):
    """Mean F1, F1 shifted and AUC of some people over some units, by scikit-learn."""
    units, names, probabilities, labels, known = answers
    shifts = {au: unit["shift"] for au, unit in read(chosen / "choose")["per_au"].items()}
    values = []
    for au in aus:
        column = units.index(au)
        keep = np.isin(names, people) & known[:, column]
        p, y = probabilities[keep, column], labels[keep, column]
        on = p > np.float32(0.5)
        moved = logit(p) + shifts[str(au)] > 0
        both = y.any() and not y.all()
        auc = sk.roc_auc_score(y, p) if both else np.nan
        f1s = [sk.f1_score(y, a) if y.any() else np.nan for a in (on, moved)]
        values.append([*f1s, auc])
    return np.array(values)


def test_sexes_are_groups_without_a_table(chosen, answers):
    """Means are over the units that both have, whichever those of the table's mean row are."""
    assert read(chosen / "choose")["groups"] == {}  # one person
    found = read(chosen / "report")
    (column,) = found["groups"].values()
    sexes = {"female": "F", "male": "M"}
    people = {sex: [s for s in found["subjects"] if s[0] == sexes[sex]] for sex in sexes}
    assert list(column["groups"]) == ["female", "male"] and list(found["groups"]) == ["sex"]
    every = {sex: by_hand(answers, chosen, own, answers[0]) for sex, own in people.items()}
    shared = ~np.isnan(np.stack([*every.values()])).any(0)
    assert column["aus"] == [au for au, has in zip(answers[0], shared[:, 0], strict=True) if has]
    assert column["auc_units"] == shared[:, 2].sum() > 0
    assert not shared[:, 0].all(), "a unit is in the mean of the table and in no group's"
    for sex, own in people.items():
        one = column["groups"][sex]
        assert one["frames"] == np.isin(answers[1], own).sum()
        assert one["subjects"] == len(own) == 1 and one["f1_interval"] is None
        for k, key in enumerate(("f1", "f1_shifted", "auc")):
            assert one[key] == pytest.approx(every[sex][shared[:, k], k].mean(), abs=1e-6)


def test_a_tables_groups_are_scored(chosen, prepared, model_folder, answers, tmp_path, capsys):
    people = sorted(set(answers[1]))
    table = tmp_path / "groups.csv"
    cells = zip(people, ("light", "dark", "dark"), ("", "x", "x"), strict=True)
    table.write_text("subject,tone,sex\n" + "".join(f"{','.join(row)}\n" for row in cells))
    argv = ["transfer", f"--model={model_folder}", f"--data_dir={prepared}", f"--groups={table}"]
    assert main([*argv, f"--out={tmp_path}/out"]) == 0
    printed = capsys.readouterr().out
    found = read(tmp_path / "out")["groups"]
    assert list(found) == ["sex", "tone"] and set(found["sex"]["groups"]) == {"not stated", "x"}
    for name, own in (("light", people[:1]), ("dark", people[1:])):
        one = found["tone"]["groups"][name]
        values = by_hand(answers, chosen, own, found["tone"]["aus"])
        assert one["f1"] == pytest.approx(values[:, 0].mean())
        assert one["f1_shifted"] is None and one["subjects"] == len(own)
        assert (one["f1_interval"] is None) == (len(own) == 1)
        assert f"tone: {name} " in printed
    low, high = found["tone"]["groups"]["dark"]["f1_interval"]
    assert 0 <= low < high <= 1
    table.write_text("subject,tone\nF001,x\n")
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert f"--groups={table}: no row of" in error and error.count("\n") == 1


def test_files_without_groups_still_give_their_shifts(chosen, prepared, model_folder, tmp_path):
    old = read(chosen / "choose")
    del old["groups"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    argv = ["transfer", f"--model={model_folder}", f"--data_dir={prepared}", "--part=report"]
    assert main([*argv, f"--shifts={tmp_path}/old.json", f"--out={tmp_path}/out"]) == 0
    assert read(tmp_path / "out") == read(chosen / "report")


def test_the_files_hold_the_same_and_say_whose_faces_they_are(chosen, model_folder):
    folder = chosen / "report"
    record = read_record(folder / "transfer.json", Transfer)
    page = parse((folder / "transfer.html").read_text())
    for table in page.all("table"):
        check_table(table)
    assert all(address.startswith(("#", "data:")) for address in addresses(page))
    bars, numbers, groups = page.all("table")
    for table in (bars, numbers):
        assert len(table.one("tbody").all("tr")) == len(record.per_au)
    sexes = record.groups["sex"].groups
    for name, row in zip(sexes, groups.one("tbody").all("tr"), strict=True):
        one, texts = sexes[name], [cell.text for cell in row.all("td")]
        assert row.one("th").text == f"sex: {name}"
        assert (texts[2], texts[5]) == (f"{one.f1:.3f}", f"{one.f1_shifted:.3f}")
        assert texts[-2:] == [str(one.subjects), str(one.frames)]
    ranked = sum(unit.auc is not None for unit in record.per_au.values())
    over = str(ranked) if ranked == len(record.per_au) else f"{ranked} of {len(record.per_au)}"
    assert f"mean AUC over {over} units" in page.one(class_="figures").text
    first = bars.one("tbody").all("tr")[0].all("td")
    unit = next(iter(record.per_au.values()))
    assert first[3].text == ("-" if unit.f1 is None else f"{unit.f1:.3f}")
    assert RENDERED in page.one("header").text and "SYNTHETIC" in page.one("p", "warn").text
    text = (folder / "transfer.md").read_text()
    assert RENDERED in text and "SYNTHETIC" in text and "no result" in text
    cells = dict.fromkeys(record.columns, "")
    for name, one in sexes.items():
        cells |= {key: f"{getattr(one, key):.3f}" for key in ("auc", "f1", "f1_shifted")}
        cells["frames"] = str(one.frames)
        assert f"| sex: {name} | {' | '.join(cells.values())} |" in text
    assert "By sex (people: female 1, male 1): means over the units of which" in text
    trained = load(model_folder).trained_on["subjects"]
    assert record.same_names and record.same_names == tuple(sorted({*trained} & {*record.subjects}))
    assert f"people of a set bp4d called {', '.join(record.same_names)}; if that was" in text
    with (folder / "transfer.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["au"]) for line in lines] == list(record.per_au)
    values = [one.f1_shifted for one in record.per_au.values()]
    assert [line["f1_shifted"] for line in lines] == ["" if v is None else str(v) for v in values]
    assert "shift_applied" not in (chosen / "choose" / "transfer.csv").read_text()


def test_shifts_by_those_who_are_scored_are_no_result(chosen, prepared, model_folder, capsys):
    given = [f"--model={model_folder}", f"--data_dir={prepared}", "--dataset=bp4d"]
    given.append(f"--shifts={chosen}/choose/transfer.json")
    assert main(["transfer", *given]) == 0
    (own,) = read(chosen / "choose")["subjects"]
    out = capsys.readouterr().out
    assert f"{own} chose the shifts and are scored with them" in out
    assert main(["transfer", *given, "--part=report"]) == 0
    assert "chose the shifts and are" not in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 2, 3, 9, 18, 41])
def test_nobody_is_in_both_parts(count, rng):
    everybody = [f"F{k:03d}" for k in range(count)]
    mixed = rng.permutation(everybody).tolist()
    choose, report = people_of(mixed, "choose"), people_of(mixed, "report")
    assert people_of(mixed, "all") == tuple(everybody)
    assert sorted(choose + report) == everybody and not set(choose) & set(report)
    assert len(choose) == -(-count // 3)
    assert choose == tuple(everybody[k] for k in range(count) if k % 3 == 0)


def frames(probabilities, labels, known=None, untaught=()):
    p = np.asarray(probabilities, np.float32).T
    y = np.asarray(labels, bool).T
    known = np.ones(y.shape, bool) if known is None else known
    aus = (1, 2, 4, 12)[: p.shape[1]]
    return ScoredFrames(aus, p, p > np.float32(0.5), y, known, untaught)


def test_a_shift_moves_the_best_threshold_to_the_units_own():
    scored = frames([[0.1, 0.2, 0.3, 0.05]], [[0, 1, 1, 0]])
    (shift,) = best_shifts(scored, (0.5,)).values()
    middle = (0.1 + 0.2) / 2
    assert shift == pytest.approx(np.log((1 - middle) / middle), abs=1e-6)
    assert scored.per_au[1]["f1"] == 0
    assert shifted(scored, {1: shift}, (0.5,)).per_au[1]["f1"] == 1
    (other,) = best_shifts(scored, (0.8,)).values()
    assert other == pytest.approx(shift + np.log(4), abs=1e-6)
    assert shifted(scored, {1: other}, (0.8,)).per_au[1]["f1"] == 1


def test_what_cannot_be_chosen_is_left():
    p = [[0.1, 0.9, 0.3]] * 4
    y = [[0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 1, 1]]
    known = np.ones((3, 4), bool)
    known[1, 2] = False  # the only positive
    scored = frames(p, y, known, untaught=(12,))
    assert best_shifts(scored, (0.5,) * 4) == {1: 0, 2: 0, 4: 0, 12: 0}
    np.testing.assert_array_equal(shifted(scored, {}, (0.5,) * 4).active, scored.active)


def test_shifts_are_exact_at_the_ends_and_among_neighbours(rng):
    """Saturated scores, and scores that are neighbours among float32, are told apart as well."""
    for low in (0.7, 0.2, 1 - 2.0**-23, 1e-30, 0.0):
        p = np.array([low, np.nextafter(np.float32(low), np.float32(1)), 0.0], np.float32)
        for own in rng.uniform(0.1, 0.9, 20).tolist():
            scored = frames([p], [[0, 1, 0]])
            assert shifted(scored, best_shifts(scored, (own,)), (own,)).per_au[1]["f1"] == 1
    for own in rng.uniform(0.1, 0.9, 20).tolist():
        p, y = rng.choice(np.linspace(0, 1, 9, dtype=np.float32), 40), rng.random(40) < 0.4
        scored = frames([p], [y])
        found = shifted(scored, best_shifts(scored, (own,)), (own,)).per_au[1]["f1"]
        best = max(sk.f1_score(y, p >= least) for least in set(p.tolist()) - {0.0})
        assert found == pytest.approx(best)


def test_mistakes_are_one_line(chosen, prepared, model_folder, silent_folder, tmp_path, capsys):
    model, data = f"--model={model_folder}", f"--data_dir={prepared}"
    (tmp_path / "broken.json").write_text("{}")
    for argv, message in (
        ([model, f"--data_dir={tmp_path}"], "holds no prepared set"),
        ([model, data, "--dataset=disfa"], "holds no prepared disfa"),
        ([model, data, "--dataset=faces"], "--dataset"),
        ([model, data, "--variant=none_8"], "selects no set"),
        ([model, data, "--part=half"], "--part"),
        ([f"--model={tmp_path}/none", data], "none"),
        ([data], "--model"),
        ([model, data, f"--out={chosen}/choose"], "holds transfer.json; give --overwrite"),
        ([model, data, "--overwrite"], "--overwrite: without --out nothing is written"),
        ([model, data, f"--shifts={tmp_path}/none.json"], "none.json"),
        ([model, data, f"--shifts={tmp_path}/broken.json"], "broken.json: model is missing"),
        (
            [f"--model={silent_folder}", data, f"--shifts={chosen}/choose/transfer.json"],
            "chosen for the model",
        ),
    ):
        assert main(["transfer", *argv]) == 2, argv
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


def test_other_units_and_other_crops_are_refused(prepared, model_folder, monkeypatch, capsys):
    from dataclasses import replace

    from vlfau_jax.studies import transfer

    opened = open_set("bp4d", prepared, "")
    argv = ["transfer", f"--model={model_folder}", f"--data_dir={prepared}"]
    for other, message in (
        (replace(opened, aus=tuple(range(50, 50 + len(opened.aus)))), "no action unit is common"),
        (replace(opened, crop=dict(opened.crop) | {"name": "none"}), "faces cropped by none"),
    ):
        monkeypatch.setattr(transfer, "open_set", lambda *_, other=other: other)
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    less = dict(opened.crop) | {"size": 80, "digest": "0" * 16}
    monkeypatch.setattr(transfer, "open_set", lambda *_: replace(opened, crop=less))
    assert main([*argv, "--part=choose"]) == 0  # crops of another size are resized


def test_several_sets_need_a_name(prepared, model_folder, tmp_path, capsys):
    for name in ("bp4d", "disfa"):
        (tmp_path / name).symlink_to(prepared / "bp4d")
    assert main(["transfer", f"--model={model_folder}", f"--data_dir={tmp_path}"]) == 2
    assert "holds bp4d and disfa; give --dataset" in capsys.readouterr().err
