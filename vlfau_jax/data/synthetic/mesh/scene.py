"""Where a face is filmed: lights, background, clothes, a hand before it, and the camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vlfau_jax.data.synthetic.head import Array
from vlfau_jax.data.synthetic.mesh.raster import BRIGHTEST, add_grain, tone
from vlfau_jax.data.synthetic.renderer import LUMINANCE

CURVE = np.linspace(0, float(BRIGHTEST) ** 0.5, 2048)  # roots of light that `tone` is told for
Colours = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Camera:
    """How the picture is taken.

    Attributes:
        distance: from the head, face units; near cameras make noses large.
        blur: standard deviation in pixels of a picture of 160.
        motion: length in such pixels and direction in radians of a blur by movement.
        noise: standard deviation of the sensor's noise, levels of 255.
        exposure: factor of the light.
        contrast: exponent of the tone curve, 1 the usual.
        saturation: of the colours, 1 the usual, 0 grey.
        cast: factors of red, green and blue.
        pixels: share of the picture's pixels that the sensor had.
    """

    distance: float
    blur: float
    motion: tuple[float, float]
    noise: float
    exposure: float
    contrast: float
    saturation: float
    cast: tuple[float, float, float]
    pixels: float


@dataclass(frozen=True)
class Scene:
    """The surroundings of one sequence.

    Attributes:
        lights: rows of azimuth (to the viewer's right) and elevation in degrees, linear RGB.
        ambient: linear RGB of the light from above and from below.
        camera: how it is filmed.
        clothes: linear RGB.
        collar: how far the neckline lies below the shoulders, 0 to 0.25.
        background: seed of what is behind.
        hand: seed of a hand before the face, or -1.
    """

    lights: tuple[tuple[float, ...], ...]
    ambient: Colours
    camera: Camera
    clothes: tuple[float, float, float]
    collar: float
    background: int
    hand: int


def _rgb(values: Array) -> tuple[float, float, float]:
    r, g, b = (float(x) for x in values)
    return r, g, b


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draws the surroundings of a sequence."""
    white = 1 + rng.normal(0, (0.06, 0.02, 0.07))
    key = rng.uniform(0.4, 1.1)
    lights = [(rng.uniform(-65, 65), rng.uniform(-5, 60), *(key * white))]
    for _ in range(rng.integers(0, 3)):
        tint = white * (1 + rng.normal(0, (0.15, 0.08, 0.15)))
        strength = rng.uniform(0.05, 0.5) * key
        lights.append((rng.uniform(-110, 110), rng.uniform(-20, 60), *(strength * tint)))
    sky = rng.uniform(0.15, 0.60)
    above = sky * white * (1 + rng.normal(0, 0.05, 3))
    below = sky * rng.uniform(0.4, 1.0) * (1 + rng.normal(0, 0.10, 3))
    soft = rng.random() < 0.35
    camera = Camera(
        distance=float(rng.choice((rng.uniform(4.5, 8), rng.uniform(8, 25)))),
        blur=float(rng.uniform(0, 1.2)) if soft else 0.0,
        motion=(float(max(0.0, rng.normal(-1.6, 1.6))), float(rng.uniform(0, np.pi))),
        noise=float(rng.exponential(1.5)),
        exposure=float(np.exp(rng.normal(0.30, 0.25))),
        contrast=float(np.exp(rng.normal(0, 0.16))),
        saturation=float(rng.choice((0.0, rng.uniform(0.5, 1.4)), p=(0.08, 0.92))),
        cast=_rgb(np.exp(rng.normal(0, (0.06, 0.03, 0.08)))),
        pixels=float(rng.choice((1.0, rng.uniform(0.35, 1.0)), p=(0.7, 0.3))),
    )
    return Scene(
        lights=tuple(tuple(float(x) for x in light) for light in lights),
        ambient=(_rgb(above), _rgb(below)),
        camera=camera,
        clothes=_rgb(np.square(rng.uniform(0.05, 0.95, 3) * rng.uniform(0.4, 1.0))),
        collar=float(rng.uniform(0, 0.25)),
        background=int(rng.integers(0, 2**31)),
        hand=int(rng.integers(0, 2**31)) if rng.random() < 0.06 else -1,
    )


@lru_cache(maxsize=4)
def background(seed: int, size: int) -> Array:
    """What is behind a head: walls, clutter, textures; linear RGB float32 [size, size, 3]."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0.05, 0.95, (2, 2, 3)) * rng.uniform(0.3, 1.0)
    if rng.random() < 0.5:  # a plain wall
        corners = corners[:1, :1] * rng.uniform(0.75, 1.05, (2, 2, 1))
    out = cv2.resize(corners.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.poisson(3) if rng.random() < 0.6 else 0):
        colour = tuple(float(x) for x in rng.uniform(0, 1, 3))
        centre = tuple(int(v) for v in rng.uniform(0, size, 2))
        if rng.random() < 0.5:
            other = tuple(int(v) for v in rng.uniform(0, size, 2))
            cv2.rectangle(out, centre, other, colour, -1)
        else:
            axes = tuple(int(v) for v in rng.uniform(0.05, 0.4, 2) * size)
            cv2.ellipse(out, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    if rng.random() < 0.5:
        cells = int(rng.integers(4, 40))
        rough = rng.normal(0, 0.08, (cells, cells, 1)).astype(np.float32)
        rough = cv2.resize(rough, (size, size), interpolation=cv2.INTER_CUBIC)
        out = out + rough[..., None]
    blur = float(rng.uniform(0.3, 0.05 * size)) * size / 160
    return np.square(np.clip(cv2.GaussianBlur(out, (0, 0), blur), 0.01, 1))


def develop(
    linear: Array, camera: Camera, exposure: float, size: int, rng: np.random.Generator | None
) -> Array:
    """Makes the picture that the camera gives of linear light: uint8 [size, size, 3].

    Args:
        linear: float32 [h, h, 3], h at least `size`.
        camera: blur, noise, tone.
        exposure: factor of the light besides the camera's own.
        size: pixels of the picture.
        rng: of the noise; None for none.
    """
    scale = linear.shape[0] / 160
    if camera.blur > 0.2:
        linear = cv2.GaussianBlur(linear, (0, 0), camera.blur * scale)
    length = camera.motion[0] * scale
    if length > 1.5:
        linear = cv2.filter2D(linear, -1, _streak(length, camera.motion[1]))
    sensor = max(32, round(size * camera.pixels))
    picture = cv2.resize(linear, (sensor, sensor), interpolation=cv2.INTER_AREA)
    gain = np.array(camera.cast, np.float32) * np.float32(exposure * camera.exposure)
    curve = (CURVE**camera.contrast).astype(np.float32)
    tone(picture, gain, curve, np.float32(camera.saturation), np.float32(LUMINANCE))
    if rng is not None and camera.noise > 0:
        grain = rng.standard_normal((sensor, sensor), dtype=np.float32)
        add_grain(picture, grain * np.float32(camera.noise))
    if sensor != size:
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _streak(length: float, direction: float) -> Array:
    reach = int(np.ceil(length / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for t in np.linspace(-0.5, 0.5, 4 * reach + 1):
        x, y = reach + length * t * np.cos(direction), reach + length * t * np.sin(direction)
        kernel[round(float(y)), round(float(x))] = 1
    return kernel / kernel.sum()
