"""`inspect --data`: the faces, labels and captions that an experiment would train on.

Nothing is trained, and no model is built: the data are opened and drawn from as `train` would, with
the same seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlfau_jax.errors import UserError
from vlfau_jax.files import absolute_folder, written_whole
from vlfau_jax.report.data_page import render_data
from vlfau_jax.report.label_record import label_record, set_counts, subject_counts
from vlfau_jax.report.label_text import augmentation, provenance, table
from vlfau_jax.report.training_faces import LEGEND, TrainingFace, first_faces
from vlfau_jax.train.experiment import ExperimentData, Settings, open_data

FACES, LABELS, COOCCURRENCE = "faces.png", "labels.png", "cooccurrence.png"
RECORD, PAGE = "labels.json", "index.html"
MOST_FACES = 400


def inspect_data(
    settings: Settings, out: str | Path, *, faces: int = 12, overwrite: bool = False
) -> dict[str, Any]:
    """Draws the first training faces and counts the labels of an experiment; prints a table.

    Writes faces.png, labels.png, cooccurrence.png, labels.json and index.html into `out`, and
    returns what labels.json holds.

    Args:
        settings: the experiment. Its model and mesh are not read: the stream is the same on any.
        out: the folder.
        faces: how many of the first training faces to draw, 1 to 400.
        overwrite: replace these files where they exist.

    Raises:
        UserError: data that `train` would refuse, `faces` out of range, files in the way.
    """
    if not 1 <= faces <= MOST_FACES:
        raise UserError(f"--faces={faces}: give 1 to {MOST_FACES}")
    folder = absolute_folder("--out", out)
    names = (FACES, LABELS, COOCCURRENCE, RECORD, PAGE)
    there = [str(folder / name) for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{' and '.join(there)} exist; give --overwrite to replace them")
    data = open_data(settings)
    first = first_faces(data, faces)
    record = label_record(data)
    _write(data, first, record, folder)
    print("\n".join([table(record), *data.dataset.fold_notes(settings.data.fold)]))
    print(f"{folder / PAGE}: open it to see {FACES}, {LABELS} and {COOCCURRENCE}")
    return record


def _write(
    data: ExperimentData, faces: Sequence[TrainingFace], record: Mapping[str, Any], folder: Path
) -> None:
    """The five files, each whole or not at all; the page last."""
    # These import matplotlib.
    from vlfau_jax.report.contact_sheet import contact_sheet
    from vlfau_jax.report.cooccurrence_picture import cooccurrence_picture
    from vlfau_jax.report.label_pictures import label_picture
    from vlfau_jax.report.sheets import Heading, save

    aus, name, warning = record["aus"], record["dataset"], record["note"]
    about = provenance(record)
    stream = augmentation(data.settings.data, data.settings.seed)
    views = f"{stream} {LEGEND}"
    frames = f"Over the {record['phi_frames']:,} frames of all sets. {about}"
    pictures = {
        FACES: contact_sheet(faces, aus, Heading(f"Training faces: {name}", views, warning)),
        LABELS: label_picture(
            aus, set_counts(data), subject_counts(data), Heading(f"Labels: {name}", about, warning)
        ),
        COOCCURRENCE: cooccurrence_picture(
            record["phi"], aus, Heading(f"Co-occurrence: {name}", frames, warning)
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, picture in pictures.items():
        with written_whole(folder / file) as partial:
            save(picture, partial)
    with written_whole(folder / RECORD) as partial:
        partial.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    files = {"Faces": FACES, "Labels": LABELS, "Co-occurrence": COOCCURRENCE, "Numbers": RECORD}
    page = render_data(record, faces, about=about, stream=stream, files=files)
    with written_whole(folder / PAGE) as partial:
        partial.write_text(page, encoding="utf-8")
