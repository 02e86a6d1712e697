"""The verb `explain`: pictures or a clip in, one page that shows why a model says what it says."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from vlfau_jax.data.crop.registry import finder_for
from vlfau_jax.data.raw.frames import read_picture
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.errors import RunError, UserError, printable
from vlfau_jax.evaluation.covered_regions import CoveredRegion, cover_regions, has_regions
from vlfau_jax.files import new_file, written_whole
from vlfau_jax.inference.explained import Explanation
from vlfau_jax.inference.exported_model import SYNTHETIC_MODEL, ExportedModel
from vlfau_jax.inference.faces import FoundFace
from vlfau_jax.inference.pictures import Picture, find_pictures, passed_over_lines
from vlfau_jax.inference.predict_options import Faces
from vlfau_jax.inference.prediction import DROP_REASONS, LOSSES
from vlfau_jax.inference.shots import Look, Place, Shot, look_with, shots
from vlfau_jax.report.clip import MOST_PEAKS, Clip, PeopleOfClip, gather
from vlfau_jax.report.faces import MAPS, face_view, found_note, unlabelled
from vlfau_jax.report.formats import au_name, unit_name
from vlfau_jax.report.pictures import face_uri
from vlfau_jax.report.templating import render_page
from vlfau_jax.report.timeline import HEIGHT, clip_data, clock, timeline
from vlfau_jax.report.words import colours

MOST_FACES = 100  # a page of more is slow to open; a clip shows any number
_THUMB = 64  # pixels of a face with a hidden region


def explain(
    model: str | Path | None,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    frames_per_second: float = 0.0,
    every: int = 1,
    faces: Faces = "all",
    finder: str = "auto",
    batch_size: int = 8,
    crop_file: str = "",
    verify: str = "",
) -> Path:
    """Writes the page about pictures, or about a clip: a video, or pictures that are its frames.

    Args:
        model: a folder that `export` wrote; None for the one that ships, and a line says so.
        inputs: pictures and folders of pictures, or a video.
        out: the page, a new file.
        frames_per_second: of a clip whose frames the pictures are, in their order; 0: of pictures
            each for itself.
        every: of a clip, the first frame and each n-th after it.
        faces: "all" of a picture, or the "largest" alone.
        finder: finds the faces, see `registry.finder_for`.
        batch_size: the most faces in a run of the program.
        crop_file: the file that the model's crop rule reads, if it reads one.
        verify: the SHA-256 that the model folder must have; "" for any.

    Raises:
        UserError: a folder that is no model, inputs without a picture, too many of them, a page
            that exists, a finder that the model cannot use, an option that would do nothing.
        RunError: no picture shows a face.
    """
    out = new_file("--out", out)
    found = find_pictures(inputs)
    pictures = found.pictures
    video = next((one for one in pictures if one.video), None)
    is_clip = video is not None or frames_per_second > 0
    if video is not None and len(pictures) > 1:
        raise UserError(f"explain: {video.path} is a video; give it alone, a page is of one clip")
    if video is not None and frames_per_second:
        raise UserError(f"--fps: {video.path} is a video, which has its own times; leave --fps out")
    if every > 1 and not is_clip:
        raise UserError("--every: give a video, or --fps=25 for the frames of a clip")
    if not is_clip:
        _check_count(len(pictures), "pictures")
    opened = ExportedModel(model, crop_file, batch_size, verify)
    rule = finder_for(opened.crop_rule, finder)
    if is_clip and rule.READS_TABLE:
        raise UserError(f"explain: crop rule {rule.name} looks pictures up in a table, not frames")
    for line in passed_over_lines(found.passed_over):
        print(line, file=sys.stderr)
    cv2.setNumThreads(0)  # each thread has a picture of its own
    look = look_with(opened, rule, faces)
    with written_whole(out) as partial:
        if is_clip:
            frames = (
                frames_of(pictures, frames_per_second, every)
                if video is None
                else shots([video], every, Place(), _tell)
            )
            page = explain_clip(opened, frames, printable(Path(inputs[0]).name), look)
        else:
            page = explain_pictures(opened, pictures, look)
        partial.write_text(page, encoding="utf-8")
    print(printable(f"{out}: {out.stat().st_size / 1e6:.1f} MB"))
    if opened.synthetic:
        print(SYNTHETIC_MODEL)
    return out


def explain_pictures(model: ExportedModel, pictures: Sequence[Picture], look: Look) -> str:
    """The page about pictures, as HTML.

    Args:
        model: that describes.
        pictures: the files.
        look: gives the faces of a picture, see `shots.look_with`.

    Raises:
        UserError: more faces than a page shows.
        RunError: no picture shows a face.
    """
    named, without = [], []
    for picture in tqdm(pictures, desc="explain", unit="picture"):
        faces, name = _look(look, picture), printable(picture.path.name)
        if faces[0].crop is None:
            reason = faces[0].reason or "no face"
            text = f"{picture.path}: {reason} {faces[0].detail}".strip()
            print(printable(text), file=sys.stderr)
            without.append((name, reason, DROP_REASONS[reason]))
            continue
        for place, face in enumerate(faces):
            number = f", face {place + 1}" if len(faces) > 1 else ""
            named.append((f"{name}{number}", face, found_note(face, place)))
    if not named:
        raise RunError(f"no picture shows a face: {without[0][0]}: {without[0][1]}")
    _check_count(len(named), "faces")
    explained = model.explain(np.stack([face.crop for _, face, _ in named]))
    cards = [
        _card(model, title, face.crop, one, note)
        for (title, face, note), one in zip(named, explained, strict=True)
    ]
    return _render(model, cards, without=without)


def explain_clip(model: ExportedModel, frames: Iterable[Shot], title: str, look: Look) -> str:
    """The page about a clip, as HTML.

    Args:
        model: that describes.
        frames: see `clip.gather`; a generator is read as it is needed.
        title: of the clip.
        look: gives the faces of a frame, see `shots.look_with`.

    Raises:
        RunError: no frame shows a face.
    """
    people = gather(model, tqdm(frames, desc="explain", unit="frame"), look)
    if not people.seen:
        raise RunError(f"{title}: none of {len(people.nobody.times)} frames shows a face")
    shown = people.shown()
    most = max(1, MOST_PEAKS // len(shown))
    peaks = [(number, peak) for number, clip in shown.items() for peak in clip.told(most)]
    explained = model.explain(np.stack([peak.face.crop for _, peak in peaks])) if peaks else []
    cards = []
    for (number, peak), one in zip(peaks, explained, strict=True):
        whose = f"person {number}, " if len(shown) > 1 else ""
        when = clock(people.nobody.times[peak.frame])
        named = f"{whose}{when}, {au_name(peak.au)} at its highest"
        cards.append(_card(model, named, peak.face.crop, one, found_note(peak.face)))
    return _render(model, cards, people=people, shown=shown, title=title)


def frames_of(
    pictures: Sequence[Picture], frames_per_second: float, every: int = 1
) -> Iterator[Shot]:
    """Pictures as the frames of a video: the first, and each n-th after it."""
    for number in range(0, len(pictures), every):
        picture = replace(pictures[number], video=True)
        yield Shot(picture, 0, number + 1, number / frames_per_second)


def _check_count(count: int, what: str) -> None:
    if count > MOST_FACES:
        raise UserError(
            f"explain: {count} {what}; a page shows at most {MOST_FACES}: give fewer, "
            "--faces=largest, or --fps=25 for the frames of a clip"
        )


def _tell(video: Picture, remarks: Sequence[str]) -> None:
    print(printable(f"{video.path}: {'; '.join(remarks)}"), file=sys.stderr)


def _look(look: Look, picture: Picture) -> list[FoundFace]:
    try:
        return look(read_picture(picture.path), picture)
    except Unreadable as error:
        return [FoundFace(None, LOSSES[error.loss], error.detail)]


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
    people: PeopleOfClip | None = None,
    shown: Mapping[int, Clip] | None = None,
    title: str = "",
    without: Sequence[tuple[str, str, str]] = (),
) -> str:
    untaught = sorted(model.untaught)
    clips = [
        {"number": number, "clip": clip, "timeline": timeline(clip, model.thresholds, untaught)}
        for number, clip in (shown or {}).items()
    ]
    return render_page(
        "explain.html.j2",
        part="explain.js.j2",
        model=model,
        cards=cards,
        people=people,
        clips=clips,
        title=title,
        height=HEIGHT,
        clock=clock,
        without=without,
        known=has_regions(model),
        data={
            "charts": [],
            "faces": [card["view"].data for card in cards],
            "clips": [clip_data(one["clip"], untaught) for one in clips],
            **colours(),
        },
    )
