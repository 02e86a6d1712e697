"""What Python gives as a picture, files, arrays and PIL's images, as an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vlfau_jax.data.raw.frames import read_picture

PictureInput = str | Path | np.ndarray | Image.Image

# Of eight bits a channel; what PIL makes of others in RGB is cut off or black.
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


def as_array(picture: PictureInput) -> np.ndarray:
    """A picture as RGB uint8 [h, w, 3], upright where its EXIF data say how it was held.

    Args:
        picture: the path of a file, an array, which is given back as it is, or one of PIL's images,
            whose transparency is dropped as that of files is.

    Raises:
        Unreadable: a path that leads to no picture.
        ValueError: an image of more than eight bits, or of numbers that are no levels.
        TypeError: something else.
    """
    match picture:
        case np.ndarray():
            return picture
        case str() | Path():
            return read_picture(picture)
        case Image.Image():
            if picture.mode not in _MODES:
                raise ValueError(
                    f"PIL image of the mode {picture.mode}; give one of eight bits, or its file"
                )
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    raise TypeError(
        f"a picture is {type(picture).__name__}; give a path, an RGB uint8 array or a PIL image"
    )
