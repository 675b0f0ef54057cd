"""Compiled distances of clay heads, many points at a time.

Points come in lanes, so that each primitive is one loop that the compiler turns into vector
instructions. Rows are those of `pipelines.data.primitives` with the columns that
`pipelines.data.faces.sculptor` adds. A row with a negative blend carves.
"""

from __future__ import annotations

import math

import numpy as np

from pipelines.data.sdf import box, clamp, cone, ellipsoid, inline, jit, limb, torus

LANES = 64
PART, BODY, MIRRORED, CASTS, CENTRE, TWIN, REACH = 37, 38, 39, 40, 41, 44, 47  # columns
STEP = 0.86  # of the distance: squeezed heads and bumps make it too long
HIT = 0.003
POINTS, HEAD, LOCAL, ONE, JOINED, ALL = 0, 3, 6, 9, 10, 11  # rows of the lanes' scratch space
SCRATCH = 12


@inline
def wave(x):
    """Return about sin(x), by parabolas: unlike math.sin it runs in vector instructions."""
    x -= 2.0 * math.pi * math.floor(x / (2.0 * math.pi) + 0.5)
    y = 1.27323954 * x - 0.405284735 * x * abs(x)
    return 0.775 * y + 0.225 * y * abs(y)


@inline
def to_head(view, x, y, z):
    """World point in the frame of the head."""
    y -= view[9]
    return (
        view[0] * x + view[1] * y + view[2] * z,
        view[3] * x + view[4] * y + view[5] * z + view[9],
        view[6] * x + view[7] * y + view[8] * z,
    )


@jit
def _to_row(rows, i, s, base, n):
    """Points of the row's own frame."""
    fold, keep = rows[i, MIRRORED], 1.0 - rows[i, MIRRORED]
    cx, cy, cz = rows[i, 21], rows[i, 22], rows[i, 23]
    a, b, c = rows[i, 12], rows[i, 13], rows[i, 14]
    d, e, f = rows[i, 15], rows[i, 16], rows[i, 17]
    g, h, k = rows[i, 18], rows[i, 19], rows[i, 20]
    px, py, pz = s[base], s[base + 1], s[base + 2]
    u, v, w = s[LOCAL], s[LOCAL + 1], s[LOCAL + 2]
    for j in range(n):
        x, y, z = fold * abs(px[j]) + keep * px[j] - cx, py[j] - cy, pz[j] - cz
        u[j] = a * x + b * y + c * z
        v[j] = d * x + e * y + f * z
        w[j] = g * x + h * y + k * z


@jit
def one(rows, i, s, n):
    """Distances to row `i` alone."""
    _to_row(rows, i, s, POINTS if rows[i, BODY] > 0.0 else HEAD, n)
    u, v, w, out = s[LOCAL], s[LOCAL + 1], s[LOCAL + 2], s[ONE]
    a, b, c, d = rows[i, 24], rows[i, 25], rows[i, 26], rows[i, 27]
    e, f, kind = rows[i, 28], rows[i, 29], int(rows[i, 0])
    if kind == 0:
        for j in range(n):
            out[j] = ellipsoid(u[j], v[j], w[j], a, b, c)
        if d > 0.0:
            for j in range(n):
                out[j] -= d * wave(e * u[j]) * wave(e * v[j] + 1.0) * wave(e * w[j] + 0.5)
    elif kind == 1:
        for j in range(n):
            out[j] = box(u[j], v[j], w[j], a, b, c, d)
    elif kind == 2:
        for j in range(n):
            out[j] = limb(u[j], v[j], w[j], a, b, c, d, e, f)
    elif kind == 3:
        for j in range(n):
            out[j] = cone(u[j], v[j], w[j], a, b, c, d, e)
    else:
        for j in range(n):
            out[j] = torus(u[j], v[j], w[j], a, b)


@jit
def _join(s, blend, n):
    """Join the row's distances with those of its part, or carve it out of them."""
    out, one_ = s[JOINED], s[ONE]
    k = max(abs(blend), 1e-6)
    inverse = 1.0 / k
    if blend >= 0.0:
        for j in range(n):
            h = max(k - abs(out[j] - one_[j]), 0.0) * inverse
            out[j] = min(out[j], one_[j]) - h * h * k * 0.25
    else:
        for j in range(n):
            h = max(k - abs(out[j] + one_[j]), 0.0) * inverse
            out[j] = max(out[j], -one_[j]) + h * h * k * 0.25


@jit
def _enter(view, s, n):
    """Fill the head's points from those of the world."""
    px, py, pz = s[POINTS], s[POINTS + 1], s[POINTS + 2]
    hx, hy, hz = s[HEAD], s[HEAD + 1], s[HEAD + 2]
    for j in range(n):
        hx[j], hy[j], hz[j] = to_head(view, px[j], py[j], pz[j])


@jit
def distances(rows, listed, count, view, s, n):
    """Fill s[ALL] with the distances of n world points s[POINTS:] to the nearest listed part."""
    _enter(view, s, n)
    all_, joined = s[ALL], s[JOINED]
    all_[:n] = 1e3
    joined[:n] = 1e3
    for k in range(count):
        i = listed[k]
        one(rows, i, s, n)
        _join(s, rows[i, 2], n)
        if k + 1 == count or rows[listed[k + 1], PART] != rows[i, PART]:
            for j in range(n):
                all_[j] = min(all_[j], joined[j])
                joined[j] = 1e3


@jit
def nearest_rows(rows, listed, count, view, s, n, found):
    """Fill `found` with the row whose paint shows at each of n surface points."""
    _enter(view, s, n)
    best, closest, row = np.full(n, 1e3), np.full(n, 1e3), np.zeros(n, np.int64)
    joined, one_ = s[JOINED], s[ONE]
    joined[:n] = 1e3
    for k in range(count):
        i = listed[k]
        one(rows, i, s, n)
        _join(s, rows[i, 2], n)
        if rows[i, 2] >= 0.0:
            for j in range(n):
                if one_[j] < closest[j]:
                    closest[j], row[j] = one_[j], i
        if k + 1 == count or rows[listed[k + 1], PART] != rows[i, PART]:
            for j in range(n):
                if joined[j] < best[j]:
                    best[j], found[j] = joined[j], row[j]
                joined[j], closest[j] = 1e3, 1e3


@jit
def _distances_along(rows, listed, count, view, rays, t, alive, m, s):
    """Fill s[ALL] with the distances where the first m rays of `alive` have got to."""
    for k in range(m):
        j = alive[k]
        for axis in range(3):
            s[POINTS + axis, k] = rays[axis, j] + rays[3 + axis, j] * t[j]
    distances(rows, listed, count, view, s, m)


@jit
def march(rows, listed, count, view, rays, n, far, s, t, alive):
    """Move `t` along n unit rays (rays[0:3] from, rays[3:6] along) to a surface, -1 for none."""
    m = n
    for j in range(n):
        alive[j] = j
    for _ in range(56):
        if m == 0:
            break
        _distances_along(rows, listed, count, view, rays, t, alive, m, s)
        kept = 0
        for k in range(m):
            j, d = alive[k], s[ALL, k]
            if d < HIT:
                continue
            t[j] += STEP * d
            if t[j] > far:
                t[j] = -1.0
            else:
                alive[kept] = j
                kept += 1
        m = kept  # what is left in the end grazes a surface: where it got to is near enough


@jit
def sunlight(rows, listed, count, view, rays, n, s, t, light, alive):
    """Lower `light` to the fraction of the sun, in [0, 1], seen along n rays as for `march`."""
    m = 0
    for j in range(n):
        if light[j] > 0.0:
            alive[m], t[j] = j, 0.05
            m += 1
    for _ in range(16 if count > 0 else 0):
        _distances_along(rows, listed, count, view, rays, t, alive, m, s)
        kept = 0
        for k in range(m):
            j, d = alive[k], s[ALL, k]
            light[j] = min(light[j], 7.0 * d / t[j])
            t[j] += max(d, 0.035)
            if light[j] > 0.0 and t[j] < 2.2:
                alive[kept] = j
                kept += 1
        m = kept
    for j in range(n):
        x = clamp(light[j], 0.0, 1.0)
        light[j] = x * x * (3.0 - 2.0 * x)
