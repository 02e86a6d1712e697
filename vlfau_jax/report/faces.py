"""A card per face: the picture, where the model looked, what it scored and what it says."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from vlfau_jax.evaluation.faces import DescribedFace
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.metrics.statements import stated

MAPS_PER_FACE = 5


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


def _bars(face: DescribedFace, thresholds: Sequence[float]) -> str:
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


def _maps(face: DescribedFace, places: Sequence[int]) -> str:
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


def _sentences(face: DescribedFace, sentences: Sequence[str], places: Sequence[int]) -> str:
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


def _told(face: DescribedFace, told: Sequence[int]) -> str:
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


def card(face: DescribedFace, thresholds: Sequence[float]) -> str:
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
