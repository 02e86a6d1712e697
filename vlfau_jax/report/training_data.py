"""`inspect --data`: the faces, labels and captions that an experiment would train on.

Nothing is trained, and no model is built: the data are opened and drawn from as `train` would, with
the same seed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlfau_jax.errors import UserError
from vlfau_jax.files import absolute_folder, created, named, written_together
from vlfau_jax.report.data_page import render_data
from vlfau_jax.report.label_record import label_record, set_counts, subject_counts
from vlfau_jax.report.label_text import augmentation, provenance, table
from vlfau_jax.report.training_faces import LEGEND, TrainingFace, first_faces
from vlfau_jax.train.experiment import ExperimentData, Settings, open_data

FACES, LABELS, COOCCURRENCE = "faces.png", "labels.png", "cooccurrence.png"
RECORD, PAGE = "labels.json", "index.html"
NAMES = (PAGE, FACES, LABELS, COOCCURRENCE, RECORD)
MOST_FACES = 400


def inspect_data(
    settings: Settings,
    out: str | Path,
    *,
    faces: int = 12,
    verify: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Draws the first training faces and counts the labels of an experiment; prints a table.

    Writes faces.png, labels.png, cooccurrence.png, labels.json and index.html into `out`, and
    returns what labels.json holds.

    Args:
        settings: the experiment. Its model and mesh are not read: the stream is the same on any.
        out: the folder.
        faces: how many of the first training faces to draw, 1 to 400.
        verify: read all shards first and compare them with their digests.
        overwrite: replace these files where they exist.

    Raises:
        UserError: data that `train` would refuse, `faces` out of range, files in the way, another
            process that writes them, a shard that is not as `prepare` wrote it.
    """
    if not 1 <= faces <= MOST_FACES:
        raise UserError(f"--faces={faces}: give 1 to {MOST_FACES}")
    folder = absolute_folder("--out", out)

    def refuse_existing() -> None:
        there = [str(folder / name) for name in NAMES if os.path.lexists(folder / name)]
        if there and not overwrite:
            raise UserError(f"{' and '.join(there)} exist; give --overwrite to replace them")

    refuse_existing()
    data = open_data(settings)
    if verify:
        for one in data.dataset.sets:
            one.verify()
            print(f"{one.folder}: {len(one.shards)} shards are as `prepare` wrote them")
    first = first_faces(data, faces)
    record = label_record(data)
    with created("--out", folder), written_together(folder, NAMES) as new:
        refuse_existing()  # another process may have been faster
        with named(folder):
            _write(data, first, record, new)
    print("\n".join([table(record), *data.dataset.fold_notes(settings.data.fold)]))
    print(f"{folder / PAGE}: open it to see {FACES}, {LABELS} and {COOCCURRENCE}")
    return record


def _write(
    data: ExperimentData, faces: Sequence[TrainingFace], record: Mapping[str, Any], folder: Path
) -> None:
    """The five files."""
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
    for file, picture in pictures.items():
        save(picture, folder / file)
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")
    files = {"Faces": FACES, "Labels": LABELS, "Co-occurrence": COOCCURRENCE, "Numbers": RECORD}
    page = render_data(record, faces, about=about, stream=stream, files=files)
    (folder / PAGE).write_text(page, encoding="utf-8")
