"""Generated sentences word by word with their attention, small enough for the page's script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from vlfau_jax.inference.explained import WordMaps
from vlfau_jax.report.pictures import OPACITY, times_even

MOST_CELLS = 14  # of a map's side; a larger one is averaged down
_LEVELS = 255  # a map's highest level


def words_data(sentences: Sequence[WordMaps]) -> dict[str, Any]:
    """Sentences as the script gets them.

    Returns:
        "sentences": of each its `words` with their spaces; its `scale`, the highest attention of
        its words in multiples of even attention; and `first`, the number of its first word's map.
        "grid": rows and columns of a map; "maps": base64 of one byte a cell, row by row, map after
        map, 0 to 255 for 0 to the sentence's scale.
    """
    found: dict[str, Any] = {"sentences": [], "grid": [0, 0], "maps": ""}
    maps: list[np.ndarray] = []
    for one in sentences:
        values = times_even(one.maps)
        scale = float(values.max(initial=0))
        found["sentences"].append(
            {"words": list(one.words), "scale": float(f"{scale:.4g}"), "first": len(maps)}
        )
        levels = values / max(scale, 1e-8)
        maps += [np.rint(_LEVELS * _small(level)).astype(np.uint8) for level in levels]
    if maps:
        found["grid"] = list(maps[0].shape)
        found["maps"] = base64.b64encode(np.stack(maps).tobytes()).decode()
    return found


def _small(level: np.ndarray) -> np.ndarray:
    height, width = level.shape
    size = (min(width, MOST_CELLS), min(height, MOST_CELLS))
    return cv2.resize(level, size, interpolation=cv2.INTER_AREA)


def colours() -> dict[str, Any]:
    """How the script colours a map, as `pictures.heat_layer` does.

    "palette": base64 of red, green and blue of each of the 256 levels; "opacity" at the highest.
    """
    levels = np.arange(_LEVELS + 1, dtype=np.uint8)[:, None]
    palette = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return {"palette": base64.b64encode(palette.tobytes()).decode(), "opacity": OPACITY}
