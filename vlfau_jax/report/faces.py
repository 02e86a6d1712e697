"""A described face as the page shows it: per unit its label, score, sentence and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlfau_jax.evaluation.faces import DescribedFace
from vlfau_jax.inference.explained import Explanation, WordMaps
from vlfau_jax.inference.faces import FoundFace
from vlfau_jax.report.formats import share
from vlfau_jax.report.pictures import face_uri, layer_uri, times_even
from vlfau_jax.report.words import words_data

WIDTH, THUMB = 372, 96  # pixels of the face on its card and under its small maps
LABELS = {1: "on", 0: "off", -1: "unknown"}
# What a map shows, by its name in DescribedFace.maps.
MAPS = {
    "branch": "attention of the unit's branch",
    "words": "attention of its sentence's words, averaged over the words",
}


@dataclass(frozen=True)
class SentenceView:
    """A local sentence: its text, the state that it states, and whether that is true.

    Attributes:
        text: the sentence as generated.
        state: "states on", "states off" or "states neither".
        verdict: "right", "wrong", or "unjudged" where the label is unknown; "" without labels.
        contradiction: "against its score of 0.90" where it states another state; else "".
        number: its place among the sentences of `FaceView.data`, which are told word by word;
            None for one that is not.
    """

    text: str
    state: str
    verdict: str
    contradiction: str
    number: int | None


@dataclass(frozen=True)
class MapView:
    """A map of one unit, in multiples of even attention.

    Attributes:
        name: whose it is, a key of `MAPS`.
        layer: it as a data: URI.
        highest: its highest value.
        scale: the highest of all such maps of the face, where its colours end.
    """

    name: str
    layer: str
    highest: float
    scale: float


@dataclass(frozen=True)
class UnitView:
    """One action unit of a face; `label` is one of `LABELS`, `verdict` that of the score.

    Both are "" where nobody labelled the face. Of a unit that was not `taught`, score and sentence
    are noise: it is never active nor judged.
    """

    au: int
    label: str
    probability: float
    threshold: float
    taught: bool
    active: bool
    verdict: str
    sentence: SentenceView | None
    maps: tuple[MapView, ...]


@dataclass(frozen=True)
class FaceView:
    """One face: its pictures as data: URIs, its sentences, its units in the model's order.

    `data` is what the script gets: `words_data` of the units' sentences that are told word by word,
    and of the global one, whose place is `sentence_number`. `note` is said beside
    the title of a face that is not `labelled`.
    """

    title: str
    image: str
    thumb: str
    sentence: str | None
    sentence_number: int | None
    true_sentence: str | None
    units: tuple[UnitView, ...]
    chosen_by: tuple[str, ...]
    log_loss: float
    data: Mapping[str, Any]
    labelled: bool = True
    note: str = ""

    @property
    def known(self) -> int:
        """Units with a known label."""
        return sum(unit.verdict != "unjudged" for unit in self.units)

    @property
    def right(self) -> int:
        """Units whose score is right."""
        return sum(unit.verdict == "right" for unit in self.units)


def verdict(active: bool, label: int) -> str:
    """Of an answer: "right", "wrong", or "unjudged" where the label is unknown (-1)."""
    if label < 0:
        return "unjudged"
    return "right" if active == (label == 1) else "wrong"


def _sentence(
    text: str,
    state: int,
    label: int | None,
    active: bool,
    probability: float,
    number: int | None,
) -> SentenceView:
    judged = -1 if label is None else label
    return SentenceView(
        text=text,
        state={1: "states on", 0: "states off", -1: "states neither"}[state],
        verdict=""
        if label is None
        else "wrong"
        if state < 0 <= judged
        else verdict(bool(state), judged),
        contradiction="" if state == active else f"against its score of {share(probability, 2)}",
        number=number,
    )


def unlabelled(title: str, image: np.ndarray, explained: Explanation) -> DescribedFace:
    """What `face_view` takes, of a face uint8 [h, w, 3] that nobody labelled."""
    return DescribedFace(
        title=title,
        image=image,
        prediction=explained.prediction,
        labels=None,
        true_sentence=None,
        spatial_maps=explained.spatial_maps,
        attention=explained.attention,
        states=explained.states,
        words=explained.words,
        global_words=explained.global_words,
    )


def found_note(found: FoundFace, place: int = 0) -> str:
    """What is said of how a face was found, beside its title; `place` is its own by size."""
    notes = []
    if found.confidence is not None:
        finder = found.finder or "the face finder"
        notes.append(f"{finder}'s confidence {found.confidence:.2f}")
    if found.faces > 1:
        size = f"number {place + 1} by size" if place else "the largest"
        notes.append(f"{size} of {found.faces} faces")
    if found.reason:
        notes.append(f"doubtful: {found.reason} ({found.detail})")
    return ", ".join(notes)


def _told(face: DescribedFace) -> dict[int, WordMaps]:
    """The local sentences to tell word by word, by their units' places: of those on or scored on.

    Of a face that nobody labelled, of all units: such a page shows few faces.

    Left out where the words are not the sentence: the face's maps are of a second run of the model,
    in whose batch a tie may end otherwise.
    """
    prediction = face.prediction
    if face.words is None or prediction.sentences is None:
        return {}
    taught = [au not in prediction.untaught for au in prediction.aus]
    return {
        i: one
        for i, one in enumerate(face.words)
        if taught[i]
        and (face.labels is None or prediction.active[i] or face.labels[i] == 1)
        and "".join(one.words) == prediction.sentences[i]
    }


def face_view(face: DescribedFace, thresholds: Sequence[float], note: str = "") -> FaceView:
    """What the card of a face shows; `thresholds` are those of its units, in order.

    `note` is said of a face that nobody labelled.
    """
    prediction = face.prediction
    units = []
    maps = {name: times_even(values) for name, values in face.maps.items()}
    scales = {name: float(values.max()) for name, values in maps.items()}
    told = _told(face)
    numbers = {i: number for number, i in enumerate(told)}
    whole = face.global_words
    if whole is not None and "".join(whole.words) != prediction.sentence:
        whole = None
    spoken = [*told.values(), *([whole] if whole else [])]
    for i, au in enumerate(prediction.aus):
        taught = au not in prediction.untaught
        label = None if face.labels is None else int(face.labels[i])
        active = taught and bool(prediction.active[i])
        probability = float(prediction.probabilities[i])
        sentence = None
        if prediction.sentences is not None and face.states is not None:
            text, state = prediction.sentences[i], int(face.states[i])
            sentence = _sentence(text, state, label, active, probability, numbers.get(i))
        units.append(
            UnitView(
                au=au,
                label="" if label is None else LABELS[label],
                probability=probability,
                threshold=thresholds[i],
                taught=taught,
                active=active,
                verdict="" if label is None else verdict(active, label if taught else -1),
                sentence=sentence,
                maps=tuple(
                    MapView(name, layer_uri(m[i], scales[name]), float(m[i].max()), scales[name])
                    for name, m in maps.items()
                ),
            )
        )
    return FaceView(
        title=face.title,
        image=face_uri(face.image, WIDTH),
        thumb=face_uri(face.image, THUMB),
        sentence=prediction.sentence,
        sentence_number=len(told) if whole else None,
        true_sentence=face.true_sentence,
        units=tuple(units),
        chosen_by=face.chosen_by,
        log_loss=face.log_loss,
        data=words_data(spoken),
        labelled=face.labels is not None,
        note=note,
    )
