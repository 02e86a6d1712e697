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


def heat_layer(heat: np.ndarray) -> np.ndarray:
    """A map as a layer to lay over its face: uint8 [LAYER, LAYER, 4] RGBA.

    The map, float [h, w], is enlarged bicubically and stretched from its own lowest to its own
    highest value; the higher, the more opaque its colour. An even map is transparent everywhere.
    """
    heat = np.asarray(heat, np.float32)
    low, high = float(heat.min()), float(heat.max())
    level = (heat - low) / (high - low) if high - low > 1e-8 else np.zeros_like(heat)
    level = cv2.resize(level, (LAYER, LAYER), interpolation=cv2.INTER_CUBIC)
    level = np.rint(255 * np.clip(level, 0.0, 1.0)).astype(np.uint8)
    colour = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.dstack([colour, np.rint(OPACITY * level).astype(np.uint8)])


def layer_uri(heat: np.ndarray) -> str:
    """`heat_layer` of a map as a lossless WebP, which takes half of a PNG's bytes."""
    layer = cv2.cvtColor(heat_layer(heat), cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".webp", layer, [cv2.IMWRITE_WEBP_QUALITY, LOSSLESS])
    if not done:
        raise RuntimeError(f"cv2.imencode refused a map of shape {heat.shape}")
    return data_uri("image/webp", data.tobytes())
