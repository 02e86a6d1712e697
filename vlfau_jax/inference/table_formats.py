"""Other files of predictions: Parquet, and a CSV with the columns of py-feat's Fex tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from vlfau_jax.errors import UserError
from vlfau_jax.inference.prediction_files import (
    BOX_COLUMNS,
    CSV,
    PARQUET,
    PYFEAT,
    csv_header,
    csv_row,
)

_GROUP = 4096  # rows of a Parquet file that are written together
_TEXTS = ("sentence", "reason", "detail", "finder")

# Those of py-feat's Detectorv1, by which its read_feat (2.1.5) knows a file.
_POSE = ("Pitch", "Roll", "Yaw", "X", "Y", "Z")
_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_POINTS = tuple(f"{axis}_{k}" for axis in "xy" for k in range(68))

Records = Iterable[Mapping[str, Any]]
Descriptions = Mapping[str, Mapping[str, str]]


def pyarrow() -> ModuleType:
    """PyArrow.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"--format=parquet needs the package pyarrow, which is not installed ({error}); "
            "`pip install pyarrow`"
        ) from error
    return pyarrow


def write_parquet(path: Path, records: Records, aus: Sequence[int], columns: Descriptions) -> None:
    """Writes a Parquet file: the CSV's columns, typed, each with its description, and the texts.

    Args:
        path: the file to create.
        records: of predictions.jsonl.
        aus: the units' numbers, in order.
        columns: what `describe_columns` gave.
    """
    arrow = pyarrow()
    kinds = {"frame": arrow.int64(), "face_id": arrow.int32(), "success": arrow.int8()}
    kinds |= {"source": arrow.string()} | dict.fromkeys(_TEXTS, arrow.string())
    kinds |= {f"AU{au:02d}_c": arrow.int8() for au in aus}
    names = [*csv_header(aus), *_TEXTS]
    said = {**columns[CSV], "sentence": "generated sentence about the whole face"}
    schema = arrow.schema(
        arrow.field(
            name,
            kinds.get(name, arrow.float64()),
            metadata={"description": said[name]} if name in said else None,
        )
        for name in names
    )
    iterator = iter(records)
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(iterator, _GROUP)):
            rows = [_cells(record, aus) for record in group]
            arrays = [
                arrow.array(values, schema.field(name).type)
                for name, values in zip(names, zip(*rows, strict=True), strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _cells(record: Mapping[str, Any], aus: Sequence[int]) -> list[Any]:
    row = dict(zip(csv_header(aus), csv_row(record, aus), strict=True))
    probabilities = {f"AU{au:02d}_p" for au in aus}  # which the CSV has as text
    cells = [
        None if cell == "" else float(cell) if name in probabilities else cell
        for name, cell in row.items()
    ]
    return [*cells, *(record.get(name) for name in _TEXTS)]


def write_pyfeat(path: Path, records: Records, aus: Sequence[int], columns: Descriptions) -> None:
    """Writes a CSV that py-feat's `read_feat` takes, with the columns of its detectors.

    A unit's value is its probability. Landmarks, pose and emotions, which this model does not give,
    are empty. Rows without a prediction are there with empty units, as py-feat writes a frame
    without a face. `frame` counts from 0, as py-feat's does.

    Args:
        path: the file to create.
        records: of predictions.jsonl.
        aus: the units' numbers, in order.
        columns: not used; as of `write_parquet`.
    """
    del columns
    units = [f"AU{au:02d}" for au in aus]
    header = ["", "input", "frame", "approx_time", *BOX_COLUMNS, "FaceScore", *_POSE, *units]
    header += [*_EMOTIONS, *_POINTS, "Identity"]
    empty = [""] * (len(_EMOTIONS) + len(_POINTS))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        for k, record in enumerate(records):
            per_au = record["per_au"] or {}
            probabilities = ((per_au.get(str(au)) or {}).get("probability") for au in aus)
            box = record.get("box") or [""] * len(BOX_COLUMNS)
            identity = f"Person_{record['face_id']}" if record.get("box") else ""
            table.writerow(
                [
                    k,
                    record["source"],
                    record["frame"] - 1,
                    _minutes(record["timestamp"]),
                    *box,
                    "" if record["confidence"] is None else record["confidence"],
                    *([""] * len(_POSE)),
                    *("" if p is None else f"{p:.6f}" for p in probabilities),
                    *empty,
                    identity,
                ]
            )


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


Writer = Callable[[Path, Records, Sequence[int], Descriptions], None]
FORMATS: dict[str, tuple[str, Writer]] = {
    "parquet": (PARQUET, write_parquet),
    "pyfeat": (PYFEAT, write_pyfeat),
}


def check_formats(names: Iterable[str]) -> None:
    """Checks the formats of `--format`, and that what they need is installed.

    Raises:
        UserError: an unknown format, or a package that is not installed.
    """
    for name in names:
        if name not in FORMATS:
            raise UserError(f"--format={name}: expected {' or '.join(FORMATS)}, or both with ,")
        if name == "parquet":
            pyarrow()
