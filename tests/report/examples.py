"""Scores and faces of eight units, as an evaluation hands them to the report."""

import re

import numpy as np

from vlfau_jax.data.text.descriptions import global_description, local_description
from vlfau_jax.evaluation.faces import DescribedFace
from vlfau_jax.facs import DISFA_AUS
from vlfau_jax.inference.explained import WordMaps
from vlfau_jax.inference.prediction import Prediction

HOSTILE = "<script src='https://evil.example/x.js'></script>\"&</style>{{ 7 * 7 }}"
RECORDS = [{"step": s, "total": 2.0 / s, "au": 1.0 / s, "learning_rate": 1e-3} for s in range(1, 9)]


def scores(**changes):
    unit = {
        "precision": 0.8,
        "recall": 0.7,
        "f1": 0.75,
        "accuracy": 0.9,
        "auc": 0.93,
        "positives": 31,
        "frames": 1096,
    }
    floor = {str(au): 0.4 for au in DISFA_AUS}
    return {
        "mean_f1": 0.75,
        "aus": list(DISFA_AUS),
        "per_au": {str(au): dict(unit) for au in DISFA_AUS},
        "floors": {"all_on": 0.4, "best_constant": 0.0},
        "floors_per_au": {"all_on": floor, "best_constant": dict(floor)},
        "explanations": {
            "polarity_accuracy": 0.93,
            "polarity_constant": 0.71,
            "agreement": 0.95,
            "agreement_near": 0.65,
            "global_f1": 0.81,
            "noun_accuracy": None,
            "note": "",
        },
        "captions": ["local", "global"],
        "beams": 1,
        "dataset": "disfa",
        "fold": 1,
        "test_subjects": ["SN003", HOSTILE],
        "frames": 1096,
        "threshold": 0.5,
        "per_dataset": {},
        "validation_subjects": [],
        "label_rule": "active where the intensity is 2 or more",
        "excluded_stretches": "none",
        "layout": "raw",
        "camera": "left",
        "frame_offset": 0,
        "folds": "published",
        "average": "pooled",
        "checkpoint": "last",
        "step": 1500,
        "beginning": "<b>random</b> parameters",
        "image_size": 32,
        "crop_rule": {"name": "cascade", "digest": "0123456789abcdef"},
        "note": "SYNTHETIC FACES",
        "config_digest": "ab" * 32,
        "untaught": {},
        "maps_per_au": {},
        "counterfactual": None,
        "units_scored": len(DISFA_AUS),
        **changes,
    }


def word_maps(sentence, rng):
    """A sentence word by word, with the attention of a softmax over 4 x 4 places."""
    words = tuple(re.findall(r"\s*\S+", sentence))
    maps = np.exp(3 * rng.random((len(words), 4, 4), np.float32))
    return WordMaps(words, maps / maps.sum((1, 2), keepdims=True))


def face(labels, stated=None, title="SN003, task 1, frame 7"):
    """A face that is scored, and whose sentences are, as labelled or as `stated` bool [n] says."""
    rng = np.random.default_rng(0)
    labels = np.asarray(labels, np.int8)
    active = np.asarray(labels == 1 if stated is None else stated)
    sentences = [local_description(au, bool(on)) for au, on in zip(DISFA_AUS, active, strict=True)]
    sentence = global_description(DISFA_AUS, active.tolist(), "person")
    return DescribedFace(
        title=title,
        image=rng.integers(0, 256, (32, 32, 3), np.uint8),
        prediction=Prediction(
            DISFA_AUS,
            np.where(active, 0.9, 0.1),
            active,
            tuple(sentences),
            sentence,
        ),
        labels=labels,
        true_sentence=None,
        spatial_maps=rng.random((8, 4, 4)),
        attention=rng.random((8, 4, 4)),
        states=active.astype(np.int8),
        words=tuple(word_maps(one, rng) for one in sentences),
        global_words=word_maps(sentence, rng),
        chosen_by=("representative",),
        log_loss=0.25,
    )
