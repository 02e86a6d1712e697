"""What is made once all rows of a `predict` are there: corrected rows, other formats, overlays."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlfau_jax.inference import overlay
from vlfau_jax.inference.pictures import Picture
from vlfau_jax.inference.predict_options import PredictOptions
from vlfau_jax.inference.prediction_files import (
    COLUMNS,
    CSV,
    JSONL,
    OVERLAY,
    csv_header,
    csv_row,
    json_line,
    written_path,
)
from vlfau_jax.inference.table_formats import FORMATS
from vlfau_jax.inference.timelines import corrected


def finish(
    folder: Path,
    sources: Sequence[Picture],
    thresholds: Mapping[int, float],
    columns: Mapping[str, Mapping[str, str]],
    options: PredictOptions,
    progress: Path,
) -> None:
    """Writes all files of the result beside the rows, none of which is in memory.

    Args:
        folder: with the rows' predictions.jsonl and predictions.csv.
        sources: the inputs.
        thresholds: of each unit, in their order.
        columns: what `describe_columns` gave.
        options: of `predict`.
        progress: the file that says how far the rows are; removed before they are changed, because
            an interrupted run would take them for the model's.
    """
    aus = tuple(thresholds)
    (folder / COLUMNS).write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")
    rows = folder / JSONL
    if options.smooth or options.baseline != "none":
        rows = folder / f"{JSONL}.corrected"
        _correct(folder / JSONL, rows, folder / CSV, sources, thresholds, options)
    for name in options.formats:
        file, write = FORMATS[name]
        write(folder / file, _records(rows), aus, columns)
    if options.overlay:
        overlay.write_overlays(
            folder / OVERLAY,
            sources,
            lambda source: written_path(source.path),
            _records(rows),
            folder / overlay.MAPS,
            options.every,
            len(aus),
        )
    progress.unlink(missing_ok=True)  # of a camera that gives no frame
    os.replace(rows, folder / JSONL)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _correct(
    model_rows: Path,
    rows: Path,
    table: Path,
    sources: Sequence[Picture],
    thresholds: Mapping[int, float],
    options: PredictOptions,
) -> None:
    """Writes the rows as `corrected` makes them, as lines and as the table."""
    videos = {written_path(source.path) for source in sources if source.video}

    def records() -> Iterator[dict[str, Any]]:
        for record in _records(model_rows):
            yield record | {"video": record["source"] in videos}

    median = options.baseline == "median"
    with (
        rows.open("w", encoding="utf-8") as lines,
        table.open("w", newline="", encoding="utf-8") as cells,
    ):
        writer = csv.writer(cells)
        writer.writerow(csv_header(tuple(thresholds)))
        for record in corrected(records, thresholds, options.smooth, median):
            del record["video"]
            lines.write(json_line(record))
            writer.writerow(csv_row(record, tuple(thresholds)))
