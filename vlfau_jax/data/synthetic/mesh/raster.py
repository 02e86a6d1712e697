"""Triangles to pixels: which triangle a pixel shows, and its colour; compiled by numba.

All arrays are float32 unless said; x to the right, y down, z to the viewer, units of the head.
Numbers are float32, too: with a literal of Python, numba would go on in float64, at half the speed.
"""

from __future__ import annotations

import numpy as np

from vlfau_jax.data.synthetic.head import Array
from vlfau_jax.data.synthetic.mesh.compiled import compiled

SKIN, PAINTED, EYE = 0, 1, 2  # how a triangle is coloured
NOTHING = -1
ZERO, HALF, ONE, TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-9)
SHADOW_BIAS = np.float32(0.022)
EDGE = np.float32(-1e-4)  # neighbours overlap by so much, that no pixel falls between them
FAR_EDGE = ONE - EDGE
MARGIN = np.float32(0.01)  # pixels about a triangle's box, for the same reason
SHADOW_SIZE = 112  # of the shadow map
# Wrapped Lambert: how far light reaches behind the terminator in red, green and blue skin.
WRAP_RED, WRAP_GREEN, WRAP_BLUE = np.float32(0.32), np.float32(0.20), np.float32(0.15)
IRIS, PUPIL = np.float32(0.49), np.float32(0.18)  # half angles on the eyeball, radians
# The opening of an eye is wider than its ball, and ends at the caruncle: one wide ball fills both.
EYE_STRETCH = np.float32(1.45)
BRIGHTEST = np.float32(4)  # light that the tone curve is told for


@compiled
def add_moves(points: Array, moves: Array, effects: Array) -> None:
    """Adds to flat places [m, 3] the sum of effects [k] times displacements [k, n, 3], n <= m."""
    for k in range(moves.shape[0]):
        effect = effects[k]
        if effect > np.float32(1e-3):
            for v in range(moves.shape[1]):
                points[v, 0] += effect * moves[k, v, 0]
                points[v, 1] += effect * moves[k, v, 1]
                points[v, 2] += effect * moves[k, v, 2]


@compiled
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
        n = np.sqrt(normals[k, 0] ** 2 + normals[k, 1] ** 2 + normals[k, 2] ** 2) + TINY
        normals[k] /= n
    return normals


@compiled
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
    share[:, :, 2] = np.float32(-1e9)
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
        if area == ZERO or (t < closed and area < ZERO):
            continue
        # From the first to the last pixel whose centre lies in the box; many boxes have none.
        left = max(int(min(ax, bx, cx) + HALF - MARGIN), 0)
        right = min(int(max(ax, bx, cx) - HALF + MARGIN), width - 1)
        top = max(int(min(ay, by, cy) + HALF - MARGIN), 0)
        bottom = min(int(max(ay, by, cy) - HALF + MARGIN), height - 1)
        if left > right or top > bottom:
            continue
        over = ONE / area
        one_x, one_y = (cy - ay) * over, -(cx - ax) * over
        two_x, two_y = -(by - ay) * over, (bx - ax) * over
        near_a = screen[a, 2]
        near_b, near_c = screen[b, 2] - near_a, screen[c, 2] - near_a
        for i in range(top, bottom + 1):
            py = np.float32(i) + HALF - ay
            for j in range(left, right + 1):
                px = np.float32(j) + HALF - ax
                one = px * one_x + py * one_y
                two = px * two_x + py * two_y
                if one < EDGE or two < EDGE or one + two > FAR_EDGE:
                    continue
                near = near_a + one * near_b + two * near_c
                if near > share[i, j, 2]:
                    share[i, j, 0], share[i, j, 1], share[i, j, 2] = one, two, near
                    found[i, j] = t
    return found, share


@compiled
def _lit(near: Array, x: float, y: float, z: float) -> float:
    """Share of light that a shadow map [n, n] lets through to a point in its own coordinates."""
    size = near.shape[0]
    i, j = int(y - HALF), int(x - HALF)
    if i < 1 or j < 1 or i > size - 3 or j > size - 3:
        return ONE
    fy, fx = y - HALF - np.float32(i), x - HALF - np.float32(j)
    z += SHADOW_BIAS
    out = ZERO
    for k in range(4):
        row = (ONE - fx) if near[i + k - 1, j - 1] < z else ZERO
        row += ONE if near[i + k - 1, j] < z else ZERO
        row += ONE if near[i + k - 1, j + 1] < z else ZERO
        row += fx if near[i + k - 1, j + 2] < z else ZERO
        out += row * ((ONE - fy) if k == 0 else fy if k == 3 else ONE)
    return out * np.float32(1 / 9)


@compiled
def _eye(
    eye: Array, iris: Array, turn: Array, px: float, py: float, pz: float
) -> tuple[float, float, float, float, float, float]:
    """Red, green, blue and normal of an eyeball at a place; for the arrays see `shade`."""
    nx, ny, nz = px - eye[0], py - eye[1], pz - eye[2]
    # Along the head's x axis the ball is stretched.
    along = nx * turn[0, 0] + ny * turn[1, 0] + nz * turn[2, 0]
    along *= ONE - ONE / EYE_STRETCH
    nx -= along * turn[0, 0]
    ny -= along * turn[1, 0]
    nz -= along * turn[2, 0]
    norm = ONE / (np.sqrt(nx * nx + ny * ny + nz * nz) + TINY)
    cosine = (nx * eye[3] + ny * eye[4] + nz * eye[5]) * norm
    angle = np.arccos(min(max(cosine, -ONE), ONE))
    edge = min(max((IRIS - angle) / np.float32(0.07) + HALF, ZERO), ONE)
    black = min(max((PUPIL - angle) / np.float32(0.06) + HALF, ZERO), ONE)
    black = ONE - np.float32(0.97) * black
    ring = min(max((angle - np.float32(0.36)) / np.float32(0.1), ZERO), ONE)
    ring = (ONE - np.float32(0.55) * ring) * (np.float32(0.65) + np.float32(0.9) * angle)
    return (
        (iris[1, 0] + edge * (iris[0, 0] * ring - iris[1, 0])) * black,
        (iris[1, 1] + edge * (iris[0, 1] * ring - iris[1, 1])) * black,
        (iris[1, 2] + edge * (iris[0, 2] * ring - iris[1, 2])) * black,
        nx,
        ny,
        nz,
    )


@compiled
def _mirrored(nx: float, ny: float, nz: float, hx: float, hy: float, hz: float, kind: int) -> float:
    """How much a surface mirrors, 0-1; hx, hy, hz: between light and camera, of any length."""
    h = ONE / (np.sqrt(hx * hx + hy * hy + hz * hz) + TINY)
    spec = max((nx * hx + ny * hy + nz * hz) * h, ZERO)
    two = spec * spec
    spec = two * two
    spec *= spec
    spec *= spec  # to the 16th
    if kind == EYE:  # to the 160th, else to the 18th
        two = spec * spec
        spec = two * two
        spec *= spec
    return spec * two


@compiled
def shade(
    picture: Array,
    found: Array,
    share: Array,
    triangles: Array,
    kind: Array,
    points: Array,
    normals: Array,
    paint: Array,
    texture_at: Array,
    texture: Array,
    relief: Array,
    turn: Array,
    lights: Array,
    ambient: Array,
    eyes: Array,
    iris: Array,
    shadow: Array,
    shadow_view: Array,
    camera: Array,
) -> None:
    """Colours every pixel that shows a triangle; the others stay.

    Args:
        picture: linear RGB [h, w, 3], written in place.
        found: of `rasterize`, int32 [h, w].
        share: of `rasterize`.
        triangles: int32 [t, 3].
        kind: SKIN, PAINTED or EYE, int32 [t].
        points: places of the vertices, turned by the pose, [v, 3].
        normals: their unit normals [v, 3].
        paint: linear RGB, gloss and openness to the sky of vertices that have no texture, [v, 5].
        texture_at: column and row of the vertices in the texture, [v, 2].
        texture: linear RGB, gloss, and texels in a unit of length to the right and down, [r, c, 6].
        relief: height and occlusion, [r, c, 2].
        turn: the pose's rotation [3, 3].
        lights: direction to the light, a unit vector, and linear RGB, [n, 6]; the first casts a
            shadow.
        ambient: linear RGB of the light from above and from below, [2, 3].
        eyes: centre of each eyeball and the unit vector of its gaze, turned by the pose, [2, 6].
        iris: linear RGB of the iris, and of the white, [2, 3].
        shadow: the shadow map, nearness to the light [n, n].
        shadow_view: from a place to the shadow map, [3, 4].
        camera: place of the camera [3].
    """
    height, width = found.shape
    last_row, last_column = texture.shape[0] - 2, texture.shape[1] - 2
    for i in range(height):
        for j in range(width):
            t = found[i, j]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            wb, wc = share[i, j, 0], share[i, j, 1]
            wa = ONE - wb - wc
            nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
            ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
            nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
            px = wa * points[a, 0] + wb * points[b, 0] + wc * points[c, 0]
            py = wa * points[a, 1] + wb * points[b, 1] + wc * points[c, 1]
            pz = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
            if kind[t] == SKIN:
                u = wa * texture_at[a, 0] + wb * texture_at[b, 0] + wc * texture_at[c, 0]
                v = wa * texture_at[a, 1] + wb * texture_at[b, 1] + wc * texture_at[c, 1]
                ci = min(max(int(u), 0), last_column)
                ri = min(max(int(v), 0), last_row)
                fu, fv = u - np.float32(ci), v - np.float32(ri)
                w00, w01 = (ONE - fu) * (ONE - fv), fu * (ONE - fv)
                w10, w11 = (ONE - fu) * fv, fu * fv
                rj, cj = ri + 1, ci + 1
                red = (
                    w00 * texture[ri, ci, 0]
                    + w01 * texture[ri, cj, 0]
                    + w10 * texture[rj, ci, 0]
                    + w11 * texture[rj, cj, 0]
                )
                green = (
                    w00 * texture[ri, ci, 1]
                    + w01 * texture[ri, cj, 1]
                    + w10 * texture[rj, ci, 1]
                    + w11 * texture[rj, cj, 1]
                )
                blue = (
                    w00 * texture[ri, ci, 2]
                    + w01 * texture[ri, cj, 2]
                    + w10 * texture[rj, ci, 2]
                    + w11 * texture[rj, cj, 2]
                )
                gloss = (
                    w00 * texture[ri, ci, 3]
                    + w01 * texture[ri, cj, 3]
                    + w10 * texture[rj, ci, 3]
                    + w11 * texture[rj, cj, 3]
                )
                h00, h01 = relief[ri, ci, 0], relief[ri, cj, 0]
                h10, h11 = relief[rj, ci, 0], relief[rj, cj, 0]
                gx = ((ONE - fv) * (h01 - h00) + fv * (h11 - h10)) * texture[ri, ci, 4]
                gy = ((ONE - fu) * (h10 - h00) + fu * (h11 - h01)) * texture[ri, ci, 5]
                open_sky = np.exp(
                    -w00 * relief[ri, ci, 1]
                    - w01 * relief[ri, cj, 1]
                    - w10 * relief[rj, ci, 1]
                    - w11 * relief[rj, cj, 1]
                )
                # The relief tilts the normal against its gradient along the surface.
                dx = nx * turn[0, 0] + ny * turn[1, 0] + nz * turn[2, 0]
                dy = nx * turn[0, 1] + ny * turn[1, 1] + nz * turn[2, 1]
                along = ONE + gx * dx + gy * dy
                nx = along * nx - gx * turn[0, 0] - gy * turn[0, 1]
                ny = along * ny - gx * turn[1, 0] - gy * turn[1, 1]
                nz = along * nz - gx * turn[2, 0] - gy * turn[2, 1]
            else:
                red = wa * paint[a, 0] + wb * paint[b, 0] + wc * paint[c, 0]
                green = wa * paint[a, 1] + wb * paint[b, 1] + wc * paint[c, 1]
                blue = wa * paint[a, 2] + wb * paint[b, 2] + wc * paint[c, 2]
                gloss = wa * paint[a, 3] + wb * paint[b, 3] + wc * paint[c, 3]
                open_sky = wa * paint[a, 4] + wb * paint[b, 4] + wc * paint[c, 4]
                if kind[t] == EYE:
                    e = eyes[0 if red < HALF else 1]
                    red, green, blue, nx, ny, nz = _eye(e, iris, turn, px, py, pz)
                    gloss = np.float32(2.2)
            norm = ONE / (np.sqrt(nx * nx + ny * ny + nz * nz) + TINY)
            ex, ey, ez = camera[0] - px, camera[1] - py, camera[2] - pz
            near = ONE / (np.sqrt(ex * ex + ey * ey + ez * ez) + TINY)
            ex, ey, ez = ex * near, ey * near, ez * near
            if nx * ex + ny * ey + nz * ez < ZERO:  # a sheet seen from behind
                norm = -norm
            nx, ny, nz = nx * norm, ny * norm, nz * norm
            up = HALF - HALF * ny
            r = (ambient[0, 0] * up + ambient[1, 0] * (ONE - up)) * open_sky
            g = (ambient[0, 1] * up + ambient[1, 1] * (ONE - up)) * open_sky
            bl = (ambient[0, 2] * up + ambient[1, 2] * (ONE - up)) * open_sky
            sr, sg, sb = ZERO, ZERO, ZERO
            for m in range(lights.shape[0]):
                lx, ly, lz = lights[m, 0], lights[m, 1], lights[m, 2]
                facing = nx * lx + ny * ly + nz * lz
                if facing <= -WRAP_RED:
                    continue
                lit = open_sky
                if m == 0:
                    view = shadow_view
                    lit *= _lit(
                        shadow,
                        view[0, 0] * px + view[0, 1] * py + view[0, 2] * pz + view[0, 3],
                        view[1, 0] * px + view[1, 1] * py + view[1, 2] * pz + view[1, 3],
                        view[2, 0] * px + view[2, 1] * py + view[2, 2] * pz + view[2, 3],
                    )
                r += lights[m, 3] * lit * (facing + WRAP_RED) / (ONE + WRAP_RED)
                g += lights[m, 4] * lit * max((facing + WRAP_GREEN) / (ONE + WRAP_GREEN), ZERO)
                bl += lights[m, 5] * lit * max((facing + WRAP_BLUE) / (ONE + WRAP_BLUE), ZERO)
                if facing > ZERO and gloss > ZERO and lit > ZERO:
                    spec = (
                        np.float32(0.10)
                        * gloss
                        * lit
                        * _mirrored(nx, ny, nz, lx + ex, ly + ey, lz + ez, kind[t])
                    )
                    sr += lights[m, 3] * spec
                    sg += lights[m, 4] * spec
                    sb += lights[m, 5] * spec
            picture[i, j, 0] = red * r + sr
            picture[i, j, 1] = green * g + sg
            picture[i, j, 2] = blue * bl + sb


@compiled
def tone(picture: Array, gain: Array, curve: Array, saturation: float, luminance: Array) -> None:
    """Linear light [h, w, 3] to levels 0-255, in place: gain, shoulder, tone curve, colour.

    `curve` are the values at n roots of light from 0 to BRIGHTEST, evenly spaced, [n].
    """
    last = curve.shape[0] - 1
    fine = np.float32(last) / np.sqrt(BRIGHTEST)
    for i in range(picture.shape[0]):
        for j in range(picture.shape[1]):
            grey = ZERO
            for k in range(3):
                x = max(picture[i, j, k] * gain[k], ZERO)
                # A shoulder keeps highlights from clipping hard.
                x = x * (ONE + np.float32(0.16) * x) / (ONE + np.float32(0.55) * x)
                at = min(np.sqrt(x) * fine, np.float32(last))
                n = min(int(at), last - 1)
                x = curve[n] + (at - np.float32(n)) * (curve[n + 1] - curve[n])
                picture[i, j, k] = x
                grey += luminance[k] * x
            for k in range(3):
                level = grey + saturation * (picture[i, j, k] - grey)
                picture[i, j, k] = np.float32(255) * level


@compiled
def add_grain(picture: Array, grain: Array) -> None:
    """Adds a sensor's noise [h, w] to levels [h, w, 3]; channels share most of theirs."""
    height, width = grain.shape
    for i in range(height):
        for j in range(width):
            tint = HALF * grain[height - 1 - i, width - 1 - j]
            picture[i, j, 0] += grain[i, j] + tint
            picture[i, j, 1] += grain[i, j] - tint
            picture[i, j, 2] += grain[i, j] + tint
