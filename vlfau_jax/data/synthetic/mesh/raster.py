"""Triangles to pixels: which triangle a pixel shows, and its colour; compiled by numba.

All arrays are float32 unless said; x to the right, y down, z to the viewer, units of the head.
"""

from __future__ import annotations

import numba
import numpy as np

from vlfau_jax.data.synthetic.head import Array
from vlfau_jax.data.synthetic.renderer import LUMINANCE

SKIN, PAINTED, EYE = 0, 1, 2  # how a triangle is coloured
NOTHING = -1
SHADOW_BIAS = 0.022
EDGE = np.float32(-1e-4)  # neighbours overlap by so much, that no pixel falls between them
SHADOW_SIZE = 112  # of the shadow map
# Wrapped Lambert: how far light reaches behind the terminator in red, green and blue skin.
WRAP = (0.32, 0.20, 0.15)
IRIS, PUPIL = 0.49, 0.18  # half angles on the eyeball, radians
# The opening of an eye is wider than its ball, and ends at the caruncle: one wide ball fills both.
EYE_STRETCH = 1.45


@numba.njit(cache=True, fastmath=True)
def add_moves(points: Array, moves: Array, effects: Array) -> None:
    """Adds to flat places [m, 3] the sum of effects [k] times displacements [k, n, 3], n <= m."""
    for k in range(moves.shape[0]):
        effect = effects[k]
        if effect > 1e-3:
            for v in range(moves.shape[1]):
                points[v, 0] += effect * moves[k, v, 0]
                points[v, 1] += effect * moves[k, v, 1]
                points[v, 2] += effect * moves[k, v, 2]


@numba.njit(cache=True, fastmath=True)
def vertex_normals(points: Array, triangles: Array) -> Array:
    """Unit normals [v, 3] of points [v, 3], the mean of their triangles' by area."""
    normals = np.zeros_like(points)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = (
            points[b, 0] - points[a, 0],
            points[b, 1] - points[a, 1],
            points[b, 2] - points[a, 2],
        )
        vx, vy, vz = (
            points[c, 0] - points[a, 0],
            points[c, 1] - points[a, 1],
            points[c, 2] - points[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for k in range(normals.shape[0]):
        n = np.sqrt(normals[k, 0] ** 2 + normals[k, 1] ** 2 + normals[k, 2] ** 2) + 1e-12
        normals[k] /= n
    return normals


@numba.njit(cache=True, fastmath=True)
def rasterize(
    screen: Array, triangles: Array, closed: int, height: int, width: int
) -> tuple[Array, Array]:
    """Finds the nearest triangle of every pixel.

    Args:
        screen: x and y in pixels and nearness, [v, 3]; a pixel's centre is at its index + 0.5.
        triangles: int32 [t, 3].
        closed: so many first triangles are of a closed surface: seen from behind they are hidden.
        height: of the picture.
        width: of the picture.

    Returns:
        int32 [height, width], the triangle or NOTHING; [height, width, 3], the shares of its
        second and third corner, and the nearness.
    """
    found = np.full((height, width), NOTHING, np.int32)
    share = np.empty((height, width, 3), np.float32)
    share[:, :, 2] = -1e9
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = (
            screen[a, 0],
            screen[a, 1],
            screen[b, 0],
            screen[b, 1],
            screen[c, 0],
            screen[c, 1],
        )
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0 or (t < closed and area < 0):
            continue
        left = max(int(min(ax, bx, cx) - 0.5), 0)
        right = min(int(max(ax, bx, cx) + 0.5), width - 1)
        top = max(int(min(ay, by, cy) - 0.5), 0)
        bottom = min(int(max(ay, by, cy) + 0.5), height - 1)
        over = np.float32(1) / area
        one_x, one_y = (cy - ay) * over, -(cx - ax) * over
        two_x, two_y = -(by - ay) * over, (bx - ax) * over
        near_a = screen[a, 2]
        near_b, near_c = screen[b, 2] - near_a, screen[c, 2] - near_a
        for i in range(top, bottom + 1):
            py = np.float32(i) + np.float32(0.5) - ay
            for j in range(left, right + 1):
                px = np.float32(j) + np.float32(0.5) - ax
                one = px * one_x + py * one_y
                two = px * two_x + py * two_y
                if one < EDGE or two < EDGE or one + two > 1 - EDGE:
                    continue
                near = near_a + one * near_b + two * near_c
                if near > share[i, j, 2]:
                    share[i, j, 0], share[i, j, 1], share[i, j, 2] = one, two, near
                    found[i, j] = t
    return found, share


@numba.njit(cache=True, fastmath=True)
def _lit(near: Array, x: float, y: float, z: float) -> float:
    """Share of light that a shadow map [n, n] lets through to a point in its own coordinates."""
    size = near.shape[0]
    i, j = int(y - 0.5), int(x - 0.5)
    if i < 1 or j < 1 or i > size - 3 or j > size - 3:
        return 1.0
    fy, fx = y - 0.5 - i, x - 0.5 - j
    out = 0.0
    for k in range(-1, 3):
        for m in range(-1, 3):
            wy = 1.0 if 0 <= k <= 1 else (1 - fy if k < 0 else fy)
            wx = 1.0 if 0 <= m <= 1 else (1 - fx if m < 0 else fx)
            if near[i + k, j + m] < z + SHADOW_BIAS:
                out += wy * wx
    return out / 9


@numba.njit(cache=True, fastmath=True)
def shade(
    found: Array,
    share: Array,
    triangles: Array,
    kind: Array,
    points: Array,
    normals: Array,
    paint: Array,
    texture_at: Array,
    colour: Array,
    height_at: Array,
    step: Array,
    finish: Array,
    turn: Array,
    lights: Array,
    ambient: Array,
    eyes: Array,
    iris: Array,
    shadow: Array,
    shadow_view: Array,
    camera: Array,
) -> Array:
    """Colours every pixel.

    Args:
        found: of `rasterize`, int32 [h, w].
        share: of `rasterize`.
        triangles: int32 [t, 3].
        kind: SKIN, PAINTED or EYE, int32 [t].
        points: places of the vertices, turned by the pose, [v, 3].
        normals: their unit normals [v, 3].
        paint: linear RGB, gloss and openness to the sky of vertices that have no texture, [v, 5].
        texture_at: column and row of the vertices in the texture, [v, 2].
        colour: texture of linear RGB, [r, c, 3].
        height_at: texture of the relief, [r, c].
        step: texture of the distance between texels to the right and down, [r, c, 2].
        finish: textures of gloss and of occlusion, [2, r, c].
        turn: the pose's rotation [3, 3].
        lights: direction to the light, a unit vector, and linear RGB, [n, 6]; the first casts a
            shadow.
        ambient: linear RGB of the light from above and from below, [2, 3].
        eyes: centre of each eyeball and the unit vector of its gaze, turned by the pose, [2, 6].
        iris: linear RGB of the iris, and of the white, [2, 3].
        shadow: the shadow map, nearness to the light [n, n].
        shadow_view: from a place to the shadow map, [3, 4].
        camera: place of the camera [3].

    Returns:
        [h, w, 4], linear RGB and cover.
    """
    height, width = found.shape
    out = np.zeros((height, width, 4), np.float32)
    n = np.zeros(3, np.float32)
    p = np.zeros(3, np.float32)
    base = np.zeros(3, np.float32)
    for i in range(height):
        for j in range(width):
            t = found[i, j]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            wb, wc = share[i, j, 0], share[i, j, 1]
            wa = 1 - wb - wc
            for k in range(3):
                n[k] = wa * normals[a, k] + wb * normals[b, k] + wc * normals[c, k]
                p[k] = wa * points[a, k] + wb * points[b, k] + wc * points[c, k]
            gloss, occlusion, power = np.float32(0), np.float32(0), 18.0
            sky = np.float32(1)
            if kind[t] == SKIN:
                u = wa * texture_at[a, 0] + wb * texture_at[b, 0] + wc * texture_at[c, 0]
                v = wa * texture_at[a, 1] + wb * texture_at[b, 1] + wc * texture_at[c, 1]
                ci = min(max(int(u), 0), colour.shape[1] - 2)
                ri = min(max(int(v), 0), colour.shape[0] - 2)
                fu, fv = u - ci, v - ri
                w00, w01, w10, w11 = (
                    (1 - fu) * (1 - fv),
                    fu * (1 - fv),
                    (1 - fu) * fv,
                    fu * fv,
                )
                for k in range(3):
                    base[k] = (
                        w00 * colour[ri, ci, k]
                        + w01 * colour[ri, ci + 1, k]
                        + w10 * colour[ri + 1, ci, k]
                        + w11 * colour[ri + 1, ci + 1, k]
                    )
                h00, h01 = height_at[ri, ci], height_at[ri, ci + 1]
                h10, h11 = height_at[ri + 1, ci], height_at[ri + 1, ci + 1]
                gx = ((1 - fv) * (h01 - h00) + fv * (h11 - h10)) / step[ri, ci, 0]
                gy = ((1 - fu) * (h10 - h00) + fu * (h11 - h01)) / step[ri, ci, 1]
                gloss = (
                    w00 * finish[0, ri, ci]
                    + w01 * finish[0, ri, ci + 1]
                    + w10 * finish[0, ri + 1, ci]
                    + w11 * finish[0, ri + 1, ci + 1]
                )
                occlusion = (
                    w00 * finish[1, ri, ci]
                    + w01 * finish[1, ri, ci + 1]
                    + w10 * finish[1, ri + 1, ci]
                    + w11 * finish[1, ri + 1, ci + 1]
                )
                # The relief tilts the normal against its gradient along the surface.
                nx, ny, nz = n[0], n[1], n[2]
                dx = nx * turn[0, 0] + ny * turn[1, 0] + nz * turn[2, 0]
                dy = nx * turn[0, 1] + ny * turn[1, 1] + nz * turn[2, 1]
                for k in range(3):
                    along_x = turn[k, 0] - dx * n[k]
                    along_y = turn[k, 1] - dy * n[k]
                    n[k] -= gx * along_x + gy * along_y
            else:
                for k in range(3):
                    base[k] = wa * paint[a, k] + wb * paint[b, k] + wc * paint[c, k]
                gloss = wa * paint[a, 3] + wb * paint[b, 3] + wc * paint[c, 3]
                sky = wa * paint[a, 4] + wb * paint[b, 4] + wc * paint[c, 4]
                if kind[t] == EYE:
                    e = 0 if base[0] < 0.5 else 1
                    qx, qy, qz = p[0] - eyes[e, 0], p[1] - eyes[e, 1], p[2] - eyes[e, 2]
                    # Along the head's x axis the ball is stretched.
                    along = qx * turn[0, 0] + qy * turn[1, 0] + qz * turn[2, 0]
                    along *= 1 - 1 / EYE_STRETCH
                    qx -= along * turn[0, 0]
                    qy -= along * turn[1, 0]
                    qz -= along * turn[2, 0]
                    q = np.sqrt(qx * qx + qy * qy + qz * qz) + 1e-9
                    n[0], n[1], n[2] = qx / q, qy / q, qz / q
                    cosine = n[0] * eyes[e, 3] + n[1] * eyes[e, 4] + n[2] * eyes[e, 5]
                    angle = np.arccos(min(max(cosine, -1.0), 1.0))
                    edge = min(max((IRIS - angle) / 0.07 + 0.5, 0.0), 1.0)
                    black = min(max((PUPIL - angle) / 0.06 + 0.5, 0.0), 1.0)
                    ring = 1 - 0.55 * min(max((angle - 0.36) / 0.1, 0.0), 1.0)
                    for k in range(3):
                        inner = iris[0, k] * ring * (0.65 + 0.9 * angle)
                        base[k] = iris[1, k] + edge * (inner - iris[1, k])
                        base[k] *= 1 - 0.97 * black
                    power, gloss = 160.0, 2.2
            norm = 1 / (np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + 1e-9)
            for k in range(3):
                n[k] *= norm
            ex, ey, ez = camera[0] - p[0], camera[1] - p[1], camera[2] - p[2]
            e_norm = 1 / (np.sqrt(ex * ex + ey * ey + ez * ez) + 1e-9)
            ex, ey, ez = ex * e_norm, ey * e_norm, ez * e_norm
            if n[0] * ex + n[1] * ey + n[2] * ez < 0:  # a sheet seen from behind
                for k in range(3):
                    n[k] = -n[k]
            open_sky = np.exp(-occlusion) * sky
            up = 0.5 - 0.5 * n[1]
            r = (ambient[0, 0] * up + ambient[1, 0] * (1 - up)) * open_sky
            g = (ambient[0, 1] * up + ambient[1, 1] * (1 - up)) * open_sky
            bl = (ambient[0, 2] * up + ambient[1, 2] * (1 - up)) * open_sky
            sr, sg, sb = np.float32(0), np.float32(0), np.float32(0)
            for m in range(lights.shape[0]):
                lx, ly, lz = lights[m, 0], lights[m, 1], lights[m, 2]
                facing = n[0] * lx + n[1] * ly + n[2] * lz
                lit = np.float32(1)
                if m == 0 and facing > -WRAP[0]:
                    sx = (
                        shadow_view[0, 0] * p[0]
                        + shadow_view[0, 1] * p[1]
                        + shadow_view[0, 2] * p[2]
                        + shadow_view[0, 3]
                    )
                    sy = (
                        shadow_view[1, 0] * p[0]
                        + shadow_view[1, 1] * p[1]
                        + shadow_view[1, 2] * p[2]
                        + shadow_view[1, 3]
                    )
                    sz = (
                        shadow_view[2, 0] * p[0]
                        + shadow_view[2, 1] * p[1]
                        + shadow_view[2, 2] * p[2]
                        + shadow_view[2, 3]
                    )
                    lit = _lit(shadow, sx, sy, sz)
                lit *= open_sky
                r += lights[m, 3] * lit * max((facing + WRAP[0]) / (1 + WRAP[0]), 0.0)
                g += lights[m, 4] * lit * max((facing + WRAP[1]) / (1 + WRAP[1]), 0.0)
                bl += lights[m, 5] * lit * max((facing + WRAP[2]) / (1 + WRAP[2]), 0.0)
                if facing > 0 and gloss > 0:
                    hx, hy, hz = lx + ex, ly + ey, lz + ez
                    h = 1 / (np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
                    spec = max((n[0] * hx + n[1] * hy + n[2] * hz) * h, 0.0)
                    spec = 0.10 * gloss * lit * spec**power
                    sr += lights[m, 3] * spec
                    sg += lights[m, 4] * spec
                    sb += lights[m, 5] * spec
            out[i, j, 0] = base[0] * r + sr
            out[i, j, 1] = base[1] * g + sg
            out[i, j, 2] = base[2] * bl + sb
            out[i, j, 3] = 1
    return out


@numba.njit(cache=True, fastmath=True)
def tone(picture: Array, gain: Array, exponent: float, saturation: float) -> None:
    """Linear light [h, w, 3] to levels 0-255, in place: gain, shoulder, tone curve, colour."""
    for i in range(picture.shape[0]):
        for j in range(picture.shape[1]):
            grey = np.float32(0)
            for k in range(3):
                x = max(picture[i, j, k] * gain[k], np.float32(1e-6))
                # A shoulder keeps highlights from clipping hard.
                x = x * (1 + np.float32(0.16) * x) / (1 + np.float32(0.55) * x)
                x = np.exp(exponent * np.log(x))
                picture[i, j, k] = x
                grey += LUMINANCE[k] * x
            for k in range(3):
                picture[i, j, k] = 255 * (grey + saturation * (picture[i, j, k] - grey))
