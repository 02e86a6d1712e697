"""index.html of `inspect --data`: rates, co-occurrence and the first training faces as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlfau_jax.report.label_text import strongest
from vlfau_jax.report.pictures import face_uri
from vlfau_jax.report.templating import render_page
from vlfau_jax.report.training_faces import LEGEND, NO_SENTENCE, UNKNOWN, TrainingFace

FACE = 300  # pixels of a face
MOST_PAIRS = 16
LABELS = {1: "on", 0: "off", -1: "unknown"}


@dataclass(frozen=True)
class FaceView:
    """A training face as the page shows it; `units` are (number, label, sentence)."""

    title: str
    image: str
    sentence: str
    units: tuple[tuple[int, str, str], ...]


def render_data(
    record: Mapping[str, Any],
    faces: Sequence[TrainingFace],
    *,
    about: str,
    stream: str,
    files: Mapping[str, str],
) -> str:
    """The page as HTML.

    Args:
        record: what labels.json holds.
        faces: the first training faces.
        about: where the labels are from.
        stream: how the faces were drawn and changed.
        files: titles and names of the files beside the page.
    """
    aus, active_units = record["aus"], _active_units(record)
    return render_page(
        "data.html.j2",
        record=record,
        about=about,
        stream=stream,
        legend=LEGEND,
        files=files,
        active_units=active_units,
        largest=max(share or 0.0 for _, shares in active_units for share in shares) or 1.0,
        pairs=strongest(record["phi"], aus, MOST_PAIRS),
        faces=[_view(face, aus) for face in faces],
        data={},
    )


def _active_units(record: Mapping[str, Any]) -> list[tuple[int, list[float | None]]]:
    """(k, the share of each set's frames in which k units are active), up to the largest such k."""
    sets = record["sets"].values()
    most = max(int(k) for part in sets for k, n in part["active_units"].items() if n or k == "0")
    return [
        (k, [p["active_units"][str(k)] / p["frames"] if p["frames"] else None for p in sets])
        for k in range(most + 1)
    ]


def _view(face: TrainingFace, aus: Sequence[int]) -> FaceView:
    units = zip(aus, face.labels, face.sentences, strict=True)
    return FaceView(
        title=face.title,
        image=face_uri(face.image, FACE),
        sentence=face.sentence or NO_SENTENCE,
        units=tuple((au, LABELS[int(label)], text or UNKNOWN) for au, label, text in units),
    )
