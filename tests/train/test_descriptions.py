"""Experiments with other texts than the paper's: from the option to what an exported model says."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from tests.data import sets
from tests.data.sets import CODED, Person, write_set
from tests.data.text.test_description_file import german
from tests.tiny import tiny_settings
from vlfau_jax.data.crop.none import CentreSquare
from vlfau_jax.data.raw.frames import decode_crop
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.descriptions import STATES, built_in
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.errors import UserError
from vlfau_jax.inference.export import export
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.model_folder import CONFIG
from vlfau_jax.inference.prediction import PredictionDecoder
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.train.experiment import build_experiment
from vlfau_jax.train.loop import train

AUS = (5, 12, 45)  # one of the benchmarks', and two that only a folder has


def coloured(person: int, frame: int, side: int) -> bytes:
    """A picture in the colour of the frame's unit."""
    picture = np.full((side, side, 3), 40, np.uint8)
    picture[..., (frame - 1) % 3] = 220 - 10 * person
    return cv2.imencode(".png", picture)[1].tobytes()


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """A prepared folder of AU 5, 12 and 45, all with intensities.

    Every face shows one of them, and the picture has its colour.
    """
    folder = tmp_path_factory.mktemp("faces")
    levels = np.eye(3, dtype=np.int8)[np.arange(6) % 3] * np.arange(3, 9)[:, None].clip(3, 5)
    people = [
        Person(name, range(1, 7), occurrence=levels > 0, intensity=levels, sex="female")
        for name in ("anna", "bea")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CODED, "folder", (AUS, AUS))
        patch.setattr(sets, "picture", coloured)
        write_set(folder, "folder", people, crop=CentreSquare.create(24).describe())
    return folder


def experiment(faces: Path, **changes):
    """The tiny experiment on the folder, of one kind of texts."""
    settings = tiny_settings(**{"steps": 2, "batch_size": 4, **changes.pop("train", {})})
    data = {"name": "folder", "data_dir": str(faces), "aus": (), "image_size": 16, "threads": 0}
    return replace(settings, data=DataOptions(**{**data, "fold": 0, **changes}))


def file_of(folder: Path, content: dict) -> str:
    path = folder / "texts.json"
    path.write_text(json.dumps(content))
    return str(path)


def own_texts() -> dict:
    """German texts of the folder's units."""
    content = german()
    content["units"]["5"] = content["units"].pop("4")
    content["units"]["45"] = {
        "phrases": ["blinzelt"],
        "active": ["die Augen gehen kurz zu."],
        "inactive": ["die Augen bleiben auf."],
    }
    return content


def test_every_kind_has_its_own_words_and_lengths(faces, tmp_path):
    kinds = ("states", "graded", "paraphrased", file_of(tmp_path, own_texts()))
    found = [build_experiment(experiment(faces, descriptions=kind)) for kind in kinds]
    assert len({e.vocabulary.size for e in found}) == 4  # an option that did nothing would show
    for e, kind in zip(found, kinds, strict=True):
        texts = e.captions.descriptions
        assert set(AUS) <= set(texts.aus) and (kind == kinds[3] or texts == built_in(kind, AUS))
        t = max(len(e.vocabulary.encode(text)) for _, text, fact in texts.facts() if fact.au in AUS)
        assert (
            e.spec["local_tokens"][0] == (4, 3, t) and e.model.vocabulary_size == e.vocabulary.size
        )
        assert e.spec["global_tokens"][0] == (4, e.captions.max_global_tokens)
    assert len({e.spec["local_tokens"][0] for e in found}) >= 3


def test_graded_texts_need_an_intensity(tiny):
    settings = tiny()
    with pytest.raises(UserError, match=r"data\.descriptions='graded': .* codes no intensity") as e:
        build_experiment(replace(settings, data=replace(settings.data, descriptions="graded")))
    assert "\n" not in str(e.value)


def test_the_papers_experiments_keep_their_words(tiny):
    e = build_experiment(tiny())
    assert e.captions.descriptions == STATES and e.vocabulary.size == 166


@pytest.mark.slow
def test_a_run_holds_its_texts_and_goes_on_as_if_never_stopped(faces, tmp_path):
    """Two steps and two more are four, texts drawn; then the file is not needed any more."""
    texts = own_texts()
    option = file_of(tmp_path, texts)
    whole = train(experiment(faces, descriptions=option, train={"steps": 4}), tmp_path / "whole")
    train(experiment(faces, descriptions=option), tmp_path / "parts")
    more = experiment(faces, descriptions=option, train={"steps": 4})

    changed = own_texts()
    changed["units"]["5"]["phrases"] = ["runzelt die Brauen"]
    file_of(tmp_path, changed)
    with pytest.raises(UserError, match=r"--resume: .* trained with (vocabulary|descriptions)"):
        train(more, tmp_path / "parts", resume=True)
    # Other texts of the same words are others, too.
    active = texts["units"]["12"]["active"]
    swapped = own_texts()
    swapped["units"]["12"]["active"] = active[::-1]
    file_of(tmp_path, swapped)
    with pytest.raises(UserError, match=r"--resume: .* trained with descriptions"):
        train(more, tmp_path / "parts", resume=True)

    file_of(tmp_path, texts)
    parts = train(more, tmp_path / "parts", resume=True)
    assert parts["params_digest"] == whole["params_digest"]
    Path(option).unlink()

    trained = load_trained(tmp_path / "parts")
    assert trained.descriptions.of(45).phrases == ("blinzelt",)
    export(tmp_path / "parts", tmp_path / "model")
    model = ExportedModel(tmp_path / "model", batch_size=1)
    assert model.descriptions == trained.descriptions and model.aus == AUS
    said = model.reader.read("eine Frau senkt die Brauen und blinzelt.", model.aus)
    assert said == {5: "active", 12: "unsaid", 45: "active"}
    (face,) = model.describe(np.zeros((1, 16, 16, 3), np.uint8))
    assert all(model.reader.read(text, AUS).keys() == {*AUS} for text in face.sentences)

    config = json.loads((tmp_path / "model" / CONFIG).read_text())
    assert config["descriptions"]["units"]["45"]["phrases"] == ["blinzelt"]


@pytest.mark.slow
def test_a_folder_with_other_units_learns_and_speaks_them(faces, tmp_path):
    """What a user does with a folder of AU 5, 12 and 45: every face is told by its own unit."""
    settings = experiment(faces, train={"steps": 120, "batch_size": 12, "checkpoint_every": 500})
    settings = replace(
        settings,
        data=replace(settings.data, min_area=1.0, flip=False, jitter=0.0),
        model=replace(
            settings.model,
            **{"drop_path": 0.0, "dropout": 0.0, "width": 16, "au_embedding": True},
            **{"word_embedding": 32, "hidden": 64, "attention": 16},
        ),
        objective=replace(settings.objective, local_branches=0),
        optimizer=replace(settings.optimizer, decay_steps=0),
    )
    train(settings, tmp_path / "run")
    trained = load_trained(tmp_path / "run")
    assert trained.descriptions == built_in("states", AUS) and trained.aus == AUS
    dataset = build_experiment(settings).dataset
    source = dataset.source(dataset.rows(dataset.subjects))
    images = np.stack([resize(decode_crop(example["image"]), 16) for example in source])
    arrays = jax.device_get(jax.jit(trained.describe)(trained.params, images))
    decoder = PredictionDecoder(AUS, trained.thresholds, trained.vocabulary)
    reader, right = Reader(trained.descriptions), []
    for face, au in zip(decoder.decode(arrays), dataset.labels.au, strict=True):
        said = map(reader.stated, face.sentences)
        right += [fact == (unit, on, 0) for fact, unit, on in zip(said, AUS, au, strict=True)]
        right.append(reader.named(face.sentence) == {AUS[int(au.argmax())]})
    assert np.mean(right) > 0.9
