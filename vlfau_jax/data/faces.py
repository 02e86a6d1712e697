"""Reading pictures, finding the face and cropping it, by rules that are named and versioned.

An author's checkpoint is known to lose a third of its score on faces cropped another way, so the
rule's digest travels with the data set, the checkpoint and the exported model.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from vlfau_jax.errors import UserError


class Box(NamedTuple):
    """A square in source pixels: its left and top edge and its side."""

    left: float
    top: float
    side: float


@dataclass(frozen=True)
class CropRule:
    """How a face becomes a square picture.

    Attributes:
        name: the rule's name, a key of `RULES`.
        version: counts changes that alter pixels.
        parameters: the rule's numbers.
        size: pixels of the crop's side.
    """

    name: str
    version: int
    parameters: dict[str, Any]
    size: int

    def describe(self) -> dict[str, Any]:
        """The rule as plain JSON values, its digest included."""
        return {**self._content(), "digest": self.digest}

    def _content(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "parameters": dict(self.parameters),
            "size": self.size,
        }

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the rule's canonical JSON."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# OpenCV's alt2 cascade found the face in all of 400 rendered test frames, the default one missed
# two. A cascade's box ends at the lower lip: a tenth more, moved down a little, holds
# brows to a dropped chin. Faces that fill two fifths of the shorter side are looked for first, in
# half the time; only a picture without one is searched for smaller ones.
RULES: dict[str, tuple[int, dict[str, Any]]] = {
    "cascade": (
        1,
        {
            "cascade": "haarcascade_frontalface_alt2.xml",
            "search_side": 160,
            "scale_factor": 1.1,
            "min_neighbors": 3,
            "min_face": [0.4, 0.2],
            "zoom": 1.1,
            "shift_down": 0.07,
            "smooth_frames": 5,
        },
    ),
    "none": (1, {}),
}


def crop_rule(name: str, size: int) -> CropRule:
    """The rule called `name` for crops of `size` pixels; UserError if there is no such rule."""
    if name not in RULES:
        raise UserError(f"--crop={name!r} is not a crop rule; expected one of {', '.join(RULES)}")
    if not 16 <= size <= 1024:
        raise UserError(f"--crop_size={size} is out of range; expected 16 to 1024 pixels")
    version, parameters = RULES[name]
    return CropRule(name, version, dict(parameters), size)


def read_image(path: str | Path, gray: bool = False) -> np.ndarray | None:
    """The picture as uint8 RGB [h, w, 3] (or [h, w] if `gray`); None if it cannot be decoded.

    Raises:
        OSError: the file cannot be read.
    """
    return decode_image(Path(path).read_bytes(), gray)


def decode_image(data: bytes, gray: bool = False) -> np.ndarray | None:
    """Decodes an encoded picture as `read_image` does."""
    if not _is_whole(data):
        return None
    flag = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR_RGB
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:  # such as a header that claims more pixels than OpenCV allows
        return None


def _is_whole(data: bytes) -> bool:
    """False for cut-off files: OpenCV fills them up with grey or fails noisily, by its version."""
    if data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9":
        return True
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # Pillow refuses a file that ends early
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """JPEG bytes of an RGB picture uint8 [h, w, 3]."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(cv2.data.haarcascades + name)


def find_face(image: np.ndarray, rule: CropRule) -> Box | None:
    """Crop box of the largest face in `image`, RGB [h, w, 3] or grey [h, w]; None if there is none.

    The rule "none" takes the centre square of any picture.
    """
    height, width = image.shape[:2]
    if rule.name == "none":
        side = min(height, width)
        return Box((width - side) / 2, (height - side) / 2, side)
    p = rule.parameters
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = p["search_side"] / min(height, width)
    if scale < 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for min_face in p["min_face"]:
        smallest = round(min_face * min(gray.shape))
        found = _cascade(p["cascade"]).detectMultiScale(
            gray, p["scale_factor"], p["min_neighbors"], minSize=(smallest, smallest)
        )
        if len(found):
            break
    else:
        return None
    x, y, w, h = max(found, key=lambda face: face[2]) * (height / gray.shape[0])
    side = w * p["zoom"]
    return Box(x + (w - side) / 2, y + (h - side) / 2 + h * p["shift_down"], side)


def smooth_boxes(
    frames: Sequence[int], boxes: Sequence[Box | None], rule: CropRule
) -> list[Box | None]:
    """Takes each box's median over its neighbours in time, so that crops do not jump.

    Args:
        frames: ascending frame numbers of the boxes; only frames at most half the rule's
            `smooth_frames` away are neighbours.
        boxes: None stays None: a lost face is not guessed from its neighbours.
        rule: the crop rule; without `smooth_frames` nothing changes.
    """
    reach = rule.parameters.get("smooth_frames", 1) // 2
    found = [(frame, box) for frame, box in zip(frames, boxes, strict=True) if box is not None]
    if not found or not reach:
        return list(boxes)
    numbers = np.array([frame for frame, _ in found])
    values = np.array([box for _, box in found])
    smoothed: list[Box | None] = []
    for frame, box in zip(frames, boxes, strict=True):
        near = slice(*np.searchsorted(numbers, (frame - reach, frame + reach + 1)))
        smoothed.append(box and Box(*np.median(values[near], axis=0)))
    return smoothed


def crop(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cuts `box` out of RGB `image` as uint8 [size, size, 3]; edges repeat where it sticks out."""
    height, width = image.shape[:2]
    left, top, side = round(box.left), round(box.top), max(1, round(box.side))
    before_x, before_y = max(0, -left), max(0, -top)
    after_x, after_y = max(0, left + side - width), max(0, top + side - height)
    if before_x or before_y or after_x or after_y:
        image = cv2.copyMakeBorder(
            image, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE
        )
    patch = image[top + before_y :, left + before_x :][:side, :side]
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(patch, (size, size), interpolation=method)


def find_and_crop(image: np.ndarray, rule: CropRule) -> np.ndarray | None:
    """The face of a single picture as uint8 [size, size, 3], or None: what `predict` does."""
    box = find_face(image, rule)
    return None if box is None else crop(image, box, rule.size)


class Crop(NamedTuple):
    """A cropped face as JPEG bytes, or None and the kind of loss (a key of integrity.LOSSES)."""

    image: bytes | None
    loss: str


def crop_frames(frames: Sequence[int], paths: Sequence[str], rule: CropRule) -> list[Crop]:
    """Crops the image files of one sequence; `frames` are their ascending numbers."""
    cv2.setNumThreads(0)  # one process per core already; OpenCV's own threads would fight them
    found = [_find_in_file(path, rule) for path in paths]
    boxes = smooth_boxes(frames, [box for box, _ in found], rule)
    return [
        Crop(None, loss) if box is None else _crop_file(path, box, rule.size)
        for path, box, (_, loss) in zip(paths, boxes, found, strict=True)
    ]


def losses_without_face(paths: Sequence[str], rule: CropRule) -> list[str] | None:
    """Each file's kind of loss if all of them are lost; None as soon as one shows a face."""
    cv2.setNumThreads(0)
    losses = []
    for path in paths:
        box, loss = _find_in_file(path, rule)
        if box is not None:
            return None
        losses.append(loss)
    return losses


def _find_in_file(path: str, rule: CropRule) -> tuple[Box | None, str]:
    """The face's box, or None and the kind of loss."""
    image = _try_read(path, gray=True)
    if image is None:
        return None, "image_unreadable"
    box = find_face(image, rule)
    return box, "no_face" if box is None else ""


def _crop_file(path: str, box: Box, size: int) -> Crop:
    image = _try_read(path)  # again: a whole sequence of full frames would not fit into memory
    if image is None:
        return Crop(None, "image_unreadable")
    return Crop(encode_jpeg(crop(image, box, size)), "")


def _try_read(path: str, gray: bool = False) -> np.ndarray | None:
    try:
        return read_image(path, gray)
    except OSError:  # a dangling link, a folder named 5.jpg, a file of somebody else's
        return None
