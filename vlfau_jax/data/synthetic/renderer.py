"""Renders an identity and fifteen AU intensities as a picture: light, pose and camera.

Without a mesh or a texture file: a relief over the face plane is shaded (Lambert, a soft gloss,
occlusion in furrows) and resampled through the inverse map of the pose, with parallax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vlfau_jax.data.synthetic.features import (
    CHIN_TRAVEL,
    JAW_TRAVEL,
    SIDES,
    Canvas,
    Effects,
    draw_brow,
    draw_cheek,
    draw_chin,
    draw_eye,
    draw_forehead,
    draw_nasolabial,
    draw_nose,
)
from vlfau_jax.data.synthetic.head import (
    ALPHA,
    BLUE,
    HEIGHT,
    OCCLUSION,
    RED,
    Array,
    Head,
    bell,
    linear,
    ramp,
    still_head,
)
from vlfau_jax.data.synthetic.identity import Colour, Identity
from vlfau_jax.data.synthetic.mouth import draw_lips, fold_mouth_skin, mouth_shape

RENDERED_AUS = (1, 2, 4, 6, 7, 9, 10, 12, 14, 15, 17, 23, 24, 25, 26)
FACE_UNIT = 0.340  # of the picture's width, at pose scale 1
MAX_LEVEL = 5.0
NECK_TOP = 0.3  # face units; the body begins below
LUMINANCE = (0.30, 0.59, 0.11)


@dataclass(frozen=True)
class Pose:
    """Yaw to the viewer's right, pitch down, roll clockwise, in degrees; shift in face units."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift_u: float = 0.0
    shift_v: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Light:
    """Key light and ambient light.

    azimuth (to the viewer's right) and elevation in degrees; strengths; colour as linear gains.
    """

    azimuth: float = 20.0
    elevation: float = 25.0
    key: float = 0.85
    ambient: float = 0.35
    colour: Colour = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Backdrop:
    """Plain wall (sRGB at top and bottom), clothes, and the sensor's noise in levels of 255."""

    top: Colour = (0.55, 0.6, 0.65)
    bottom: Colour = (0.4, 0.42, 0.45)
    slant: float = 0.0
    clothes: Colour = (0.2, 0.25, 0.35)
    collar: float = 0.1
    noise: float = 2.0


def _effects(intensities: Mapping[int, float] | Sequence[float], gain: float) -> Effects:
    if not isinstance(intensities, Mapping):
        intensities = dict(zip(RENDERED_AUS, intensities, strict=True))
    # A little concave, so that level 2 is already well visible, as FACS' C is compared to its E.
    return {
        au: (min(max(float(intensities.get(au, 0.0)), 0.0), MAX_LEVEL) / MAX_LEVEL) ** 0.8 * gain
        for au in RENDERED_AUS
    }


def draw_face(
    face: Identity,
    intensities: Mapping[int, float] | Sequence[float],
    blink: float,
    gaze: tuple[float, float],
    size: int,
) -> Canvas:
    """Draws the maps of a face plane; arguments as of `render`."""
    both = _effects(intensities, 1.0)
    drop = JAW_TRAVEL * both[26] - CHIN_TRAVEL * both[17]
    head = still_head(face, size)
    canvas = Canvas(face, head, drop)
    shape = mouth_shape(face, both, drop)
    for side in SIDES:
        e = _effects(intensities, 1 + side * face.asymmetry)
        draw_forehead(canvas, face, e, side)
        draw_cheek(canvas, face, e, side)
        draw_nose(canvas, face, e, side)
        draw_nasolabial(canvas, face, e, side, (shape.half_width, shape.corner + shape.corner_drop))
        fold_mouth_skin(canvas, e, shape, side)
        draw_eye(canvas, face, e, side, blink, gaze)
        draw_brow(canvas, face, e, side)
    draw_chin(canvas, face, both, drop, shape.centre + shape.gap_lower + shape.lower)
    draw_lips(canvas, face, both, shape)
    if face.glasses != "none":
        _draw_glasses(canvas, face)
    return canvas


def _draw_glasses(canvas: Canvas, face: Identity) -> None:
    power = 2.2 if face.glasses == "round" else 4.5
    scale = canvas.head.scale
    for side in SIDES:
        at, s, v = canvas.box(side, 0.0, 0.85, -0.25, 0.30)
        field = (
            np.abs((s - face.eye_spacing - 0.01) / 0.255) ** power
            + np.abs((v - 0.035) / 0.185) ** power
        ) ** (1 / power)
        ring = np.clip((0.012 - np.abs(field - 1) * 0.2) * scale + 0.5, 0, 1)
        bar = np.clip((0.012 - np.abs(v + 0.03)) * scale + 0.5, 0, 1) * ((s < 0.10) | (s > 0.58))
        canvas.paint(at, np.maximum(ring, bar), linear(face.glasses_colour))
        canvas.maps[OCCLUSION][at] *= 1 - 0.8 * ring


def towards(azimuth: float, elevation: float) -> tuple[float, float, float]:
    """Unit vector (right, down, to the viewer) to a light; degrees to the right and up."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return math.sin(a) * math.cos(e), -math.sin(e), math.cos(a) * math.cos(e)


def _direction(light: Light, rotation: Array) -> Array:
    """Unit vector to the key light in the face's own axes (right, down, towards the viewer)."""
    return rotation.T @ np.array(towards(light.azimuth, light.elevation))


def rotation(pose: Pose) -> Array:
    """The rotation of a pose, float64 [3, 3], from the head's axes to the picture's."""
    yaw, pitch, roll = (math.radians(x) for x in (pose.yaw, pose.pitch, pose.roll))
    cy, sy, cp, sp, cr, sr = (
        math.cos(yaw),
        math.sin(yaw),
        math.cos(pitch),
        math.sin(pitch),
        math.cos(roll),
        math.sin(roll),
    )
    turn = np.array(((cy, 0, sy), (0, 1, 0), (-sy, 0, cy)))
    nod = np.array(((1, 0, 0), (0, cp, sp), (0, -sp, cp)))
    tilt = np.array(((cr, -sr, 0), (sr, cr, 0), (0, 0, 1)))
    return tilt @ turn @ nod


def shade(canvas: Canvas, light: Light, rotation: Array) -> Array:
    """Shades face plane and the hair behind it: premultiplied linear RGBA float32 [h, w, 4]."""
    head, maps = canvas.head, canvas.maps
    height = maps[HEIGHT]
    half = np.float32(0.5 * head.scale)
    gu, gv = np.zeros_like(height), np.zeros_like(height)
    np.subtract(height[:, 2:], height[:, :-2], out=gu[:, 1:-1])
    np.subtract(height[2:], height[:-2], out=gv[1:-1])
    gu *= half
    gv *= half
    norm = 1 / np.sqrt(1 + gu * gu + gv * gv)
    lx, ly, lz = (np.float32(x) for x in _direction(light, rotation))
    facing = (lz - lx * gu - ly * gv) * norm
    # Wrapped Lambert: skin scatters, so the terminator is soft.
    lambert = np.square(np.clip((facing + 0.25) / 1.25, 0, None))
    hx, hy, hz = (np.float32(x) for x in _half_vector((lx, ly, lz), rotation))
    gloss = np.clip((hz - hx * gu - hy * gv) * norm, 0, None)
    for _ in range(4):  # to the 16th power
        gloss *= gloss
    open_sky = np.exp(-maps[OCCLUSION])
    strength = (light.key * lambert + light.ambient * (0.75 + 0.25 * norm)) * open_sky
    gain = np.array(light.colour, np.float32)[:, None, None]
    rgb = maps[RED : BLUE + 1] * (strength * gain) + (0.055 * light.key * gloss * open_sky) * gain
    alpha = maps[ALPHA]
    out = np.empty((*height.shape, 4), np.float32)
    back = head.back
    for c in range(3):
        out[..., c] = rgb[c] * alpha + back[c] * (light.key + light.ambient) * (1 - alpha)
    out[..., 3] = alpha + back[3] * (1 - alpha)
    return out


def _half_vector(to_light: tuple[float, float, float], rotation: Array) -> Array:
    half = np.array(to_light) + rotation.T @ np.array((0.0, 0.0, 1.0))
    return half / np.linalg.norm(half)


def project(head: Head, plane: Array, pose: Pose, size: int) -> tuple[Array, Array, Array]:
    """Projects a plane [h, w, k], k up to 4, of the head under the pose.

    Returns:
        The picture [size, size, k]; its face units x [1, w], y [h, 1].
    """
    unit = FACE_UNIT * size * pose.scale
    grid = (np.arange(size, dtype=np.float32) + 0.5 - 0.5 * size) / np.float32(unit)
    x, y = (
        grid[None, :] - np.float32(pose.shift_u),
        grid[:, None] - np.float32(pose.shift_v) + np.float32(0.06),
    )
    pivot = np.float32(0.30)
    roll = math.radians(pose.roll)
    a, b = np.float32(math.cos(roll)), np.float32(math.sin(roll))
    p, q = a * x + b * y, a * y - b * x
    cos_yaw, sin_yaw = (
        np.float32(math.cos(math.radians(pose.yaw))),
        np.float32(math.sin(math.radians(pose.yaw))),
    )
    cos_pitch, sin_pitch = (
        np.float32(math.cos(math.radians(pose.pitch))),
        np.float32(math.sin(math.radians(pose.pitch))),
    )
    left, top, scale = np.float32(head.u[0, 0]), np.float32(head.v[0, 0]), np.float32(head.scale)
    u, v = p / cos_yaw, q / cos_pitch
    # A fixed point iteration for the pose's inverse: depth is read at the last estimate.
    for _ in range(2):
        depth = (
            cv2.remap(head.depth, (u - left) * scale, (v - top) * scale, cv2.INTER_LINEAR) - pivot
        )
        u, v = (p - sin_yaw * depth) / cos_yaw, (q - sin_pitch * depth) / cos_pitch
    projected = cv2.remap(plane, (u - left) * scale, (v - top) * scale, cv2.INTER_LINEAR)
    return projected, x, y


def _behind(face: Identity, light: Light, backdrop: Backdrop, x: Array, y: Array) -> Array:
    """Renders wall, neck and shoulders in linear light, float32 [3, size, size]."""
    top, bottom = linear(backdrop.top), linear(backdrop.bottom)
    fall = np.clip(0.35 * (y + 1.5) + backdrop.slant * x, 0, 1)
    out = top + (bottom - top) * fall
    first = int(np.searchsorted(y[:, 0], NECK_TOP))
    y, body = y[first:], out[:, first:]
    s, level, gain = (
        np.abs(x),
        light.key * 0.6 + light.ambient,
        np.array(light.colour, np.float32)[:, None, None],
    )
    neck_half = (0.46 if face.sex == "M" else 0.38) + 0.25 * ramp(y, 1.1, 1.6)
    shoulder = 1.34 + 0.30 * s**1.6
    side, edge = math.sin(math.radians(light.azimuth)), np.float32(40.0)
    bare = np.maximum((neck_half - s) * edge, (y - shoulder) * edge)
    under_chin = level * (0.45 + 0.55 * ramp(y, 1.1, 1.55))
    lit = under_chin * (0.55 + 0.35 * side * np.clip(x / neck_half, -1, 1))
    body += np.clip(bare + 0.5, 0, 1) * (linear(face.skin) * gain * lit - body)
    neckline = np.maximum(shoulder, 1.30 + backdrop.collar * 3 * np.clip(0.5 - s, 0, None))
    folds = level * (0.75 + 0.25 * side * np.clip(x, -1, 1) - 0.2 * bell(s, 0.45, 0.06))
    cloth = np.clip((y - neckline) * edge + 0.5, 0, 1)
    body += cloth * (linear(backdrop.clothes) * gain * folds - body)
    return out


def render(
    face: Identity,
    intensities: Mapping[int, float] | Sequence[float],
    *,
    pose: Pose = Pose(),
    light: Light = Light(),
    backdrop: Backdrop = Backdrop(),
    blink: float = 0.0,
    gaze: tuple[float, float] = (0.0, 0.0),
    size: int = 160,
    rng: np.random.Generator | None = None,
) -> Array:
    """Renders one face, uint8 [size, size, 3], RGB.

    `intensities` are FACS levels 0-5 (fractions allowed), a mapping by AU number or fifteen values
    in the order of RENDERED_AUS. `blink` is 0 (open) to 1 (shut), `gaze` a shift of the irises in
    face units. Without `rng` there is no sensor noise.
    """
    canvas = draw_face(face, intensities, blink, gaze, size)
    turn = rotation(pose)
    plane = shade(canvas, light, turn)
    projected, x, y = project(canvas.head, plane, pose, size)
    planes = np.ascontiguousarray(projected.transpose(2, 0, 1))
    picture = planes[:3] + _behind(face, light, backdrop, x, y) * (1 - planes[3])
    # The exposure compensates a part of the skin's luminance, as automatic exposure does.
    exposure = (0.45 / float(np.dot(np.square(face.skin), LUMINANCE))) ** 0.43
    picture = np.sqrt(np.maximum(picture * np.float32(exposure), 0)) * np.float32(255)
    if rng is not None and backdrop.noise > 0:
        grey = np.float32(backdrop.noise) * rng.standard_normal((size, size), dtype=np.float32)
        tint = np.float32(0.5) * grey[::-1, ::-1]  # a sensor's channels share most of their noise
        picture += grey
        picture[0] += tint
        picture[1] -= tint
        picture[2] += tint
    return np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8).transpose(1, 2, 0))
