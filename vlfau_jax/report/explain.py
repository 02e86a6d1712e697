"""The verb `explain`: pictures or a clip in, one page that shows why a model says what it says."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from vlfau_jax.data.raw.frames import read_picture
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.errors import RunError, UserError, printable
from vlfau_jax.evaluation.covered_regions import CoveredRegion, cover_regions, has_regions
from vlfau_jax.files import new_file, written_whole
from vlfau_jax.inference.explained import Explanation
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import FoundFace, Limits
from vlfau_jax.inference.pictures import Picture, find_pictures
from vlfau_jax.inference.prediction import DROP_REASONS, LOSSES
from vlfau_jax.report.clip import Clip, Frame, gather
from vlfau_jax.report.faces import MAPS, face_view, found_note, unlabelled
from vlfau_jax.report.formats import au_name, unit_name
from vlfau_jax.report.pictures import face_uri
from vlfau_jax.report.templating import render_page
from vlfau_jax.report.timeline import HEIGHT, clip_data, clock, timeline
from vlfau_jax.report.words import colours

MOST_FACES = 100  # a page of more is slow to open; a clip shows any number
_THUMB = 64  # pixels of a face with a hidden region


def explain(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    frames_per_second: float = 0.0,
    batch_size: int = 8,
    crop_file: str = "",
    verify: str = "",
) -> Path:
    """Writes the page about pictures, or about a clip whose frames they are.

    Args:
        model: a folder that `export` wrote.
        inputs: pictures and folders of pictures.
        out: the page, a new file.
        frames_per_second: of a clip whose frames the pictures are, in their order; 0: of pictures
            each for itself.
        batch_size: the most faces in a run of the program.
        crop_file: the file that the model's crop rule reads, if it reads one.
        verify: the SHA-256 that the model folder must have; "" for any.

    Raises:
        UserError: a folder that is no model, inputs without a picture, too many of them, a page
            that exists.
        RunError: no picture shows a face.
    """
    out = new_file("--out", out)
    found = find_pictures(inputs)
    pictures = found.pictures
    if not frames_per_second and len(pictures) > MOST_FACES:
        raise UserError(
            f"explain: {len(pictures)} pictures; give at most {MOST_FACES}, or --fps=25 for the "
            "frames of a clip"
        )
    opened = ExportedModel(model, crop_file, min(batch_size, 2 * len(pictures)), verify)
    if frames_per_second and opened.crop_rule.READS_TABLE:
        raise UserError(f"--fps: crop rule {opened.crop_rule.name} looks pictures up in a table")
    cv2.setNumThreads(0)  # each thread has a picture of its own
    with written_whole(out) as partial:
        if frames_per_second:
            page = explain_clip(opened, _frames(pictures, frames_per_second), Path(inputs[0]).name)
        else:
            page = explain_pictures(opened, pictures)
        partial.write_text(page, encoding="utf-8")
    print(printable(f"{out}: {out.stat().st_size / 1e6:.1f} MB"))
    if opened.synthetic:
        print("the model was trained on synthetic faces: it knows nothing of real ones")
    return out


def explain_pictures(model: ExportedModel, pictures: Sequence[Picture]) -> str:
    """The page about pictures, as HTML.

    Raises:
        RunError: no picture shows a face.
    """
    named, without = [], []
    for picture in tqdm(pictures, desc="explain", unit="picture"):
        looked = _look(model, picture)
        if looked.crop is None:
            reason = looked.reason or "no face"
            print(printable(f"{picture.path}: {reason} {looked.detail}".strip()), file=sys.stderr)
            without.append((picture.path.name, reason, DROP_REASONS[reason]))
        else:
            named.append((picture.path.name, looked))
    if not named:
        raise RunError(f"no picture shows a face: {without[0][0]}: {without[0][1]}")
    crops = np.stack([looked.crop for _, looked in named])
    cards = [
        _card(model, title, looked.crop, explained, found_note(looked))
        for (title, looked), explained in zip(named, model.explain(crops), strict=True)
    ]
    return _render(model, cards, without=without)


def explain_clip(
    model: ExportedModel, frames: Iterable[Frame], title: str, limits: Limits | None = None
) -> str:
    """The page about a clip, as HTML.

    Args:
        model: that describes.
        frames: see `clip.gather`; a generator is read as it is needed.
        title: of the clip.
        limits: beyond which a face is doubtful; it is described all the same.

    Raises:
        RunError: no frame shows a face.
    """
    clip = gather(model, tqdm(frames, desc="explain", unit="frame"), limits)
    if not clip.described:
        raise RunError(f"{title}: none of {len(clip.times)} frames shows a face")
    peaks = clip.told()
    explained = model.explain(np.stack([peak.crop for peak in peaks])) if peaks else []
    cards = []
    for peak, one in zip(peaks, explained, strict=True):
        when = clock(clip.times[peak.frame])
        named = f"{when}, {au_name(peak.au)} at its highest"
        cards.append(_card(model, named, peak.crop, one, f"frame {peak.frame + 1}"))
    return _render(model, cards, clip=clip, title=title)


def _frames(pictures: Sequence[Picture], frames_per_second: float) -> Iterator[Frame]:
    for number, picture in enumerate(pictures):
        try:
            image = read_picture(picture.path)
        except Unreadable as error:
            print(printable(f"{picture.path}: {error.detail}"), file=sys.stderr)
            image = None
        yield number / frames_per_second, image


def _look(model: ExportedModel, picture: Picture) -> FoundFace:
    try:
        image = read_picture(picture.path)
    except Unreadable as error:
        return FoundFace(None, LOSSES[error.loss], error.detail)
    return model.look(image, picture.path, picture.root)


def _card(
    model: ExportedModel, title: str, crop: np.ndarray, explained: Explanation, note: str
) -> dict[str, Any]:
    """What the page shows of one face: its card, and what became of it with regions hidden."""
    face = unlabelled(title, crop, explained)
    covered = cover_regions(model, crop, explained.prediction)
    return {
        "view": face_view(face, model.thresholds, note),
        "maps": {name: MAPS[name] for name in face.maps},
        "regions": [_region(one) for one in covered],
        "rows": _rows(model, explained, covered),
    }


def _region(one: CoveredRegion) -> dict[str, Any]:
    return {
        "name": ", ".join(map(au_name, one.aus)),
        "tip": "hidden: where " + ", ".join(map(unit_name, one.aus)) + " would show",
        "image": face_uri(one.image, _THUMB),
    }


def _rows(
    model: ExportedModel, explained: Explanation, covered: Sequence[CoveredRegion]
) -> list[dict[str, Any]]:
    """Of each unit that is on: what became of its score with each region hidden."""
    prediction, rows = explained.prediction, []
    for k, au in enumerate(prediction.aus):
        if not covered or not prediction.active[k] or au in prediction.untaught:
            continue
        own = next((one for one in covered if au in one.aus), None)
        most = max(covered, key=lambda one: one.falls[k])
        rows.append(
            {
                "au": au,
                "probability": float(prediction.probabilities[k]),
                "cells": [
                    {
                        "fall": float(one.falls[k]),
                        "own": one is own,
                        "silenced": bool(one.silenced[k]),
                        "most": one is most and one.falls[k] > 0.05,
                    }
                    for one in covered
                ],
                "control": None if own is None else float(own.control_falls[k]),
            }
        )
    return rows


def _render(
    model: ExportedModel,
    cards: Sequence[dict[str, Any]],
    clip: Clip | None = None,
    title: str = "",
    without: Sequence[tuple[str, str, str]] = (),
) -> str:
    untaught = sorted(model.untaught)
    return render_page(
        "explain.html.j2",
        part="explain.js.j2",
        model=model,
        cards=cards,
        clip=clip,
        title=title,
        timeline=None if clip is None else timeline(clip, model.thresholds, untaught),
        height=HEIGHT,
        clock=clock,
        without=without,
        known=has_regions(model),
        data={
            "charts": [],
            "faces": [card["view"].data for card in cards],
            "clip": None if clip is None else clip_data(clip, untaught),
            **colours(),
        },
    )
