"""Pictures inside a page: faces and maps as data: URIs."""

from __future__ import annotations

import base64

import cv2
import numpy as np

LAYER = 32  # pixels of a map's side in the page; the browser enlarges it over the face
OPACITY = 0.65  # of a map at its highest value
LOSSLESS = 101  # OpenCV's quality of WebP above which no pixel changes


def data_uri(kind: str, data: bytes) -> str:
    """Bytes of the media type `kind`, such as "image/png", as a data: URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def face_uri(image: np.ndarray, width: int) -> str:
    """A face, uint8 [h, w, 3] RGB, as a JPEG of `width` pixels."""
    size = (width, round(width * image.shape[0] / image.shape[1]))
    way = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    resized = cv2.cvtColor(cv2.resize(image, size, interpolation=way), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise RuntimeError(f"cv2.imencode refused an image of shape {resized.shape}")
    return data_uri("image/jpeg", data.tobytes())


def times_even(maps: np.ndarray) -> np.ndarray:
    """Maps [..., h, w] in multiples of attention that is even over the picture.

    Negative values count as zero; a map without attention is zero.
    """
    maps = np.maximum(np.asarray(maps, np.float32), 0.0)
    mean = maps.mean((-1, -2), keepdims=True)
    return np.divide(maps, mean, out=np.zeros_like(maps), where=mean > 0)


def heat_layer(heat: np.ndarray, high: float) -> np.ndarray:
    """A map as a layer to lay over its face: uint8 [LAYER, LAYER, 4] RGBA.

    The map, float [h, w], is enlarged bicubically. From 0 to `high`, the higher a value, the more
    opaque its colour.
    """
    level = np.asarray(heat, np.float32) / max(high, 1e-8)
    level = cv2.resize(level, (LAYER, LAYER), interpolation=cv2.INTER_CUBIC)
    level = np.rint(255 * np.clip(level, 0.0, 1.0)).astype(np.uint8)
    colour = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.dstack([colour, np.rint(OPACITY * level).astype(np.uint8)])


def layer_uri(heat: np.ndarray, high: float) -> str:
    """`heat_layer` of a map as a lossless WebP, which takes half of a PNG's bytes."""
    layer = cv2.cvtColor(heat_layer(heat, high), cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".webp", layer, [cv2.IMWRITE_WEBP_QUALITY, LOSSLESS])
    if not done:
        raise RuntimeError(f"cv2.imencode refused a map of shape {heat.shape}")
    return data_uri("image/webp", data.tobytes())
