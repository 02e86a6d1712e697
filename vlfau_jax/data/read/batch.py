"""The batch: the contract between the data pipeline and the model.

    key            dtype    shape            range and meaning
    image          uint8    [b, h, w, 3]     RGB; normalised on the device
    au             float32  [b, n]           1 active, 0 inactive or unknown
    au_known       bool     [b, n]           False where unknown, or not coded by the data set
    local_tokens   int32    [b, n, t]        <start> words <end> pads; all pad where unknown
    global_tokens  int32    [b, tg]          the same, about the units that the face's data set
                                             codes; all pad where any of those is unknown
    valid          bool     [b]              False for rows that pad a batch
    key            int32    [b, 3]           subject's index in the sorted subjects, task, frame
    view           float32  [b, 3]           left, top and side of the part of the crop that the
                                             image shows, as shares of the crop's side; or of a
                                             square that holds the whole crop: side > 1

b images, h and w pixels, n action units, t and tg tokens. Rows that are not valid are all zero.
"""

from __future__ import annotations

import numpy as np

from vlfau_jax.data.text.vocabulary import END, PAD, SPECIAL_TOKENS, START

Batch = dict[str, np.ndarray]
Spec = dict[str, tuple[tuple[int, ...], np.dtype]]


def spec(
    *, batch_size: int, image_size: int, units: int, max_local_tokens: int, max_global_tokens: int
) -> Spec:
    """Shape and dtype of every key of a batch; tokens count <start> and <end>."""
    b = batch_size
    return {
        "image": ((b, image_size, image_size, 3), np.dtype(np.uint8)),
        "au": ((b, units), np.dtype(np.float32)),
        "au_known": ((b, units), np.dtype(np.bool_)),
        "local_tokens": ((b, units, max_local_tokens), np.dtype(np.int32)),
        "global_tokens": ((b, max_global_tokens), np.dtype(np.int32)),
        "valid": ((b,), np.dtype(np.bool_)),
        "key": ((b, 3), np.dtype(np.int32)),
        "view": ((b, 3), np.dtype(np.float32)),
    }


def zeros(of: Spec) -> Batch:
    """A batch of padding rows: nothing is known or valid."""
    return {key: np.zeros(shape, dtype) for key, (shape, dtype) in of.items()}


def fake(
    of: Spec, rng: np.random.Generator, *, vocabulary_size: int, unknown_rate: float = 0.1
) -> Batch:
    """A random batch that `check` accepts: random pixels, labels and words; some are unknown."""
    batch = zeros(of)
    b, n = batch["au"].shape
    batch["image"] = rng.integers(0, 256, batch["image"].shape, np.uint8)
    batch["au_known"] = rng.random((b, n)) >= unknown_rate
    batch["au"] = ((rng.random((b, n)) < 0.5) & batch["au_known"]).astype(np.float32)
    batch["local_tokens"] = _fake_rows(
        batch["local_tokens"].shape, batch["au_known"], rng, vocabulary_size
    )
    batch["global_tokens"] = _fake_rows(
        batch["global_tokens"].shape, batch["au_known"].all(1), rng, vocabulary_size
    )
    batch["valid"][:] = True
    batch["key"] = np.stack([np.zeros(b), np.ones(b), np.arange(b)], 1).astype(np.int32)
    side = rng.uniform(0.5, 1.0, (b, 1))
    batch["view"] = np.hstack([rng.random((b, 2)) * (1 - side), side]).astype(np.float32)
    return batch


def _fake_rows(
    shape: tuple[int, ...], written: np.ndarray, rng: np.random.Generator, vocabulary_size: int
) -> np.ndarray:
    rows = rng.integers(len(SPECIAL_TOKENS), vocabulary_size, shape, np.int32)
    end = rng.integers(1, shape[-1], shape[:-1])[..., None]
    place = np.arange(shape[-1])
    rows = np.where(place < end, rows, np.where(place == end, END, PAD))
    rows[..., 0] = START
    return np.where(written[..., None], rows, PAD).astype(np.int32)


def check(batch: Batch, of: Spec, coded: np.ndarray | None = None) -> None:
    """Checks a batch against the table above.

    Args:
        batch: the batch.
        of: its shapes and dtypes.
        coded: bool [b, n], the units that each face's data set codes; None for all.

    Raises:
        ValueError: a shape, a dtype or values are wrong; it names the first such key.
    """
    if batch.keys() != of.keys():
        raise ValueError(f"batch keys are {sorted(batch)}, not {sorted(of)}")
    for key, (shape, dtype) in of.items():
        found = (batch[key].shape, batch[key].dtype)
        if found != (shape, dtype):
            raise ValueError(f"batch[{key!r}] is {found[1]}{found[0]}, not {dtype}{shape}")
    au, known = batch["au"], batch["au_known"]
    if not np.isin(au, (0, 1)).all() or au[~known].any():
        raise ValueError("batch['au'] holds values besides 0 and 1, or 1 where a label is unknown")
    if known[~batch["valid"]].any():
        raise ValueError("batch['au_known'] is True in a row that is not valid")
    _check_views(batch["view"], batch["valid"])
    _check_rows("local_tokens", batch["local_tokens"], known)
    coded = np.ones_like(known) if coded is None else coded
    if known[~coded].any():
        raise ValueError("batch['au_known'] is True where the data set codes nothing")
    whole = (known | ~coded).all(1) & known.any(1)
    _check_rows("global_tokens", batch["global_tokens"], whole)


def _check_views(view: np.ndarray, valid: np.ndarray) -> None:
    place, side = view[:, :2], view[:, 2:]
    inside = (place >= 0).all(1) & (side > 0).all(1) & (place + side <= 1 + 1e-6).all(1)
    around = (place <= 0).all(1) & (place + side >= 1 - 1e-6).all(1)
    if not (inside | around)[valid].all() or view[~valid].any():
        raise ValueError(
            "batch['view'] is neither inside the crop nor around it, or not zero in a padding row"
        )


def _check_rows(key: str, rows: np.ndarray, written: np.ndarray) -> None:
    if rows[~written].any():
        raise ValueError(f"batch[{key!r}] has words where labels are unknown")
    rows = rows[written]
    after_end = np.cumsum(rows == END, -1) - (rows == END)
    if (rows[:, 0] != START).any() or ((rows == END).sum(-1) != 1).any():
        raise ValueError(f"batch[{key!r}] has a row without one <start> in front and one <end>")
    if ((after_end > 0) != (rows == PAD)).any():
        raise ValueError(f"batch[{key!r}] has a pad before <end> or a word after it")
