"""A card per face: the picture, where the model looked, what it scored and what it says."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.metrics.statements import stated

MAPS_PER_FACE = 5


@dataclass(frozen=True)
class Face:
    """What one card shows.

    Attributes:
        title: subject, task and frame.
        image: uint8 [h, w, 3] RGB, as the model sees it.
        prediction: scores and sentences.
        labels: int8 [n], 1, 0, or -1 where unknown.
        true_sentence: the global description that the labels give, None where one is unknown.
        spatial_maps: float [n, h', w'], where each unit's branch looks (DAIR's s); None where it
            looks everywhere alike.
        attention: float [n, h', w'], the local captioner's attention, averaged over its words;
            None without such a captioner.
    """

    title: str
    image: np.ndarray
    prediction: Prediction
    labels: np.ndarray
    true_sentence: str | None
    spatial_maps: np.ndarray | None
    attention: np.ndarray | None

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps that there are, by the words beside them on the card, from the top."""
        maps = {"branch": self.spatial_maps, "words": self.attention}
        return {name: values for name, values in maps.items() if values is not None}


def choose(probabilities: np.ndarray, labels: np.ndarray, people: np.ndarray, count: int) -> list:
    """Which of m test faces to show: indices, first those that cover the units, then failures.

    Two thirds are taken to show as many true units as may be, each next face the one that adds
    most to what was shown least, whether the model is right about it or not. One third are the
    faces with the most wrong units. Somebody not yet shown goes before somebody shown; ties go to
    the first. `CHOICE` says so on the page.

    probabilities float [m, n]; labels int8 [m, n] in {1, 0, -1}; people int [m], subject numbers.
    """
    wrong = ((probabilities > 0.5) != (labels == 1)) & (labels >= 0)
    on = labels == 1
    chosen: list[int] = []
    shown = np.zeros(labels.shape[1])
    times = {int(person): 0 for person in people}
    for turn in range(min(count, len(labels))):
        failures = turn >= count - count // 3
        worth = wrong.sum(1) if failures else (on / (1.0 + shown[None]) ** 2).sum(1)
        seen = np.array([times[int(person)] for person in people])
        worth = np.where(np.isin(np.arange(len(labels)), chosen), -np.inf, worth)
        # Rank by (how often this person was shown, worth): lexsort's last key is the first.
        best = int(np.lexsort((-worth, seen + np.isinf(worth) * len(labels)))[0])
        chosen.append(best)
        shown += on[best]
        times[int(people[best])] += 1
    return chosen


CHOICE = (
    "Chosen by a rule, not by eye: two thirds of the faces together show as many of the units as "
    "may be, whether the model is right about them or not; the last third are those with the most "
    "wrong units. Every person is shown once before anyone is shown twice."
)


def picture(image: np.ndarray, size: int) -> str:
    """An <img> with the pixels inside it: JPEG, base64; image uint8 [h, w, 3] RGB."""
    shape = (size, round(size * image.shape[0] / image.shape[1]))
    resized = cv2.resize(image, shape, interpolation=cv2.INTER_CUBIC)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(resized, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    if not done:
        raise RuntimeError(f"cv2.imencode refused an image of shape {resized.shape}")
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The face with a map laid over it: uint8 [h, w, 3] RGB of the image's size.

    The map, float [h', w'], is enlarged bicubically and stretched from its own lowest to its own
    highest value; the higher, the more its colour covers the face. An even map covers nothing.
    """
    heat = np.asarray(heat, np.float32)
    low, high = float(heat.min()), float(heat.max())
    if not high - low > 1e-8:
        return image
    h, w, _ = image.shape
    level = cv2.resize((heat - low) / (high - low), (w, h), interpolation=cv2.INTER_CUBIC)
    level = np.clip(level, 0.0, 1.0)
    colour = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    colour = cv2.cvtColor(colour, cv2.COLOR_BGR2RGB)
    cover = 0.65 * level[..., None]
    return np.rint(image * (1 - cover) + colour * cover).astype(np.uint8)


def verdict(said: bool, label: int) -> str:
    """The class that colours an answer: right, wrong, or unjudged where the label is unknown."""
    if label < 0:
        return "unjudged"
    return "right" if said == (label == 1) else "wrong"


def _bars(face: Face, thresholds: Sequence[float]) -> str:
    rows = []
    for i, au in enumerate(face.prediction.aus):
        p, on = float(face.prediction.probabilities[i]), bool(face.prediction.active[i])
        truth = {1: "on", 0: "off", -1: "unknown"}[int(face.labels[i])]
        rows.append(
            f'<span title="{escape(ACTION_UNITS[au].name)}, truly {truth}">'
            f"{'<b>' if truth == 'on' else ''}AU{au:02d}{'</b>' if truth == 'on' else ''}</span>"
            f'<div class="meter"><i class="{verdict(on, int(face.labels[i]))}" '
            f'style="width:{100 * p:.1f}%"></i><u style="left:{100 * thresholds[i]:.1f}%"></u>'
            f"</div><span>{p:.2f}</span>"
        )
    return f'<div class="bars">{"".join(rows)}</div>'


def _maps(face: Face, places: Sequence[int]) -> str:
    if not face.maps:
        return ""
    figures = []
    for i in places:
        au = face.prediction.aus[i]
        ranges = (f"{name} {m[i].min():.3f} to {m[i].max():.3f}" for name, m in face.maps.items())
        pictures = (picture(overlay(face.image, m[i]), 192) for m in face.maps.values())
        figures.append(
            f'<figure title="{"; ".join(ranges)}"><figcaption><b>AU{au:02d}</b>'
            f"{escape(ACTION_UNITS[au].name)}</figcaption>{''.join(pictures)}</figure>"
        )
    verbs = {"branch": "looks", "words": "look"}
    rows = "".join(f"<span>{name} {verbs[name]}</span>" for name in face.maps)
    return f'<div class="maps"><div class="rows">{rows}</div>{"".join(figures)}</div>'


def _sentences(face: Face, sentences: Sequence[str], places: Sequence[int]) -> str:
    items = []
    for i in places:
        au, sentence = face.prediction.aus[i], sentences[i]
        fact = stated(sentence)
        said = fact[1] if fact is not None and fact[0] == au else None
        label = int(face.labels[i])
        colour = "wrong" if said is None and label >= 0 else verdict(bool(said), label)
        tag = {True: "says on", False: "says off", None: "states neither state"}[said]
        if said != face.prediction.active[i]:
            tag += f", against its score of {face.prediction.probabilities[i]:.2f}"
        items.append(
            f'<li class="{colour}"><b>AU{au:02d}</b>{escape(sentence)} <small>({tag})</small></li>'
        )
    return f'<ul class="says">{"".join(items)}</ul>'


def _told(face: Face, told: Sequence[int]) -> str:
    """The sentences about the units `told`, and behind a fold those about all."""
    sentences = face.prediction.sentences
    if sentences is None:
        return ""
    first = (
        _sentences(face, sentences, told)
        if told
        else '<p class="soft">No unit is scored as active, and none is known to be.</p>'
    )
    return (
        f"{first}<details><summary>all {len(sentences)} sentences</summary>"
        f"{_sentences(face, sentences, range(len(sentences)))}</details>"
    )


def card(face: Face, thresholds: Sequence[float]) -> str:
    """The card of one face."""
    active = np.flatnonzero(face.prediction.active)
    by_score = np.argsort(-face.prediction.probabilities, kind="stable")
    missed = np.flatnonzero((face.labels == 1) & ~face.prediction.active)
    mapped = [*by_score[: len(active)], *missed][:MAPS_PER_FACE] or list(by_score[:2])
    known = face.labels >= 0
    right = int(((face.labels == 1) == face.prediction.active)[known].sum())
    truth = face.true_sentence or "not stated: a label of this face is unknown"
    sentence = face.prediction.sentence
    says = "" if sentence is None else f"<b>Says</b> {escape(sentence)}<br>"
    return (
        f'<article class="card face"><header><h3>{escape(face.title)}</h3>'
        f'<p class="soft">{right} of {int(known.sum())} units right</p></header>'
        f"<div>{picture(face.image, 372)}{_bars(face, thresholds)}</div>"
        f'<div><p>{says}<span class="soft"><b>Truth</b> {escape(truth)}</span></p>'
        f"{_maps(face, sorted(mapped, key=int))}{_told(face, [*active, *missed])}</div></article>"
    )
