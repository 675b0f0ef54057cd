"""The sphere tracer of the clay heads: a numba kernel that follows the rays of a tile together.

Camera: at (0, view[16], DISTANCE) looking along -z; lengths are those of the head, about 1.7 high.
view: 0:9 world to head, 9 height of the neck's joint, 10:13 to the light, 13:16 background,
16 height of the camera. `looks` as in `pipelines.data.faces.paint`.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
from numba import njit

from pipelines.data import renderer, sdf
from pipelines.data.faces import field, paint
from pipelines.data.faces.field import (
    ALL,
    CASTS,
    CENTRE,
    LANES,
    PART,
    POINTS,
    REACH,
    SCRATCH,
    TWIN,
    distances,
    march,
    nearest_rows,
    sunlight,
    to_head,
)
from pipelines.data.renderer import is_edge
from pipelines.data.sdf import clamp, inline, jit

FOCAL = 3.9  # half picture width is 1 at distance FOCAL
DISTANCE = 4.9
TILE = 8  # pixels; a tile of them fills the lanes
GLOSS = 9
SAMPLES = 4  # in a pixel at an edge
AWAY = -0.25  # cosine of the angle to the lamp from which on its light is nil


@inline
def _near_ray(rows, i, column, px, py, pz, dx, dy, dz, spread):
    """Whether the sphere at `column` of a row comes near a ray, and the span where it does."""
    x, y, z = px - rows[i, column], py - rows[i, column + 1], pz - rows[i, column + 2]
    b, c = x * dx + y * dy + z * dz, x * x + y * y + z * z
    away = math.sqrt(c)
    reach = rows[i, REACH] + spread * (away + rows[i, REACH])
    return c - b * b < reach * reach, -b - reach, -b + reach


@jit
def _list_rows(rows, px, py, pz, dx, dy, dz, spread, thickness, casting, listed):
    """List rows near a cone or beam of rays; return their number and the span they lie in.

    What is carved counts only where there is something to carve it from.
    """
    count, near, far = 0, 1e9, -1.0
    for i in range(rows.shape[0]):
        if casting and rows[i, CASTS] == 0.0:
            continue
        if rows[i, 2] < 0.0:
            if count > 0 and rows[listed[count - 1], PART] == rows[i, PART]:
                listed[count] = i
                count += 1
            continue
        grown = spread + thickness / (rows[i, REACH] + 1e-6)
        a, near_a, far_a = _near_ray(rows, i, CENTRE, px, py, pz, dx, dy, dz, grown)
        b, near_b, far_b = _near_ray(rows, i, TWIN, px, py, pz, dx, dy, dz, grown)
        if a or b:
            listed[count] = i
            count += 1
            near = min(near, near_a if a else near_b, near_b if b else near_a)
            far = max(far, far_a if a else far_b, far_b if b else far_a)
    return count, max(near, 0.0), far


@inline
def _background(view, u, v):
    """Colour behind the head: a wall lit from above, darker towards the corners."""
    light = 1.03 - 0.10 * (u * u + v * v) + 0.05 * v
    return (
        min(view[13] * light, 1.0),
        min(view[14] * light, 1.0),
        min(view[15] * light, 1.0),
    )


@jit
def _lit(view, colour, gloss, n, d, sun, air):
    """Light on a colour: a warm lamp, a cool sky, a highlight and a rim; n and d are unit."""
    lx, ly, lz = view[10], view[11], view[12]
    facing_light = n[0] * lx + n[1] * ly + n[2] * lz
    diffuse = 0.66 * clamp(facing_light * 0.8 + 0.2, 0.0, 1.0) * (0.30 + 0.70 * sun)
    sky = (0.68 + 0.32 * n[1]) * (0.45 + 0.55 * air) * 0.52
    hx, hy, hz = lx - d[0], ly - d[1], lz - d[2]
    half = (n[0] * hx + n[1] * hy + n[2] * hz) / math.sqrt(hx * hx + hy * hy + hz * hz)
    half = clamp(half, 0.0, 1.0) ** 2
    away = 1.0 - clamp(-(n[0] * d[0] + n[1] * d[1] + n[2] * d[2]), 0.0, 1.0)
    shine = gloss * (0.25 + 0.75 * sun) * half**16 + 0.10 * away**3
    return (
        colour[0] * (1.06 * diffuse + sky) + shine,
        colour[1] * (1.00 * diffuse + sky) + shine,
        colour[2] * (0.93 * diffuse + 1.06 * sky) + shine,
    )


@jit
def _surfaces(rows, listed, count, view, spots, m, s, normals, found):
    """Fill normals and the painted row of m points on surfaces."""
    e = 0.006
    normals[:, :m] = 0.0
    for k in range(4):
        sx, sy = 1.0 if k & 1 else -1.0, 1.0 if k & 2 else -1.0
        offset = (sx, sy, sx * sy)
        for axis in range(3):
            s[POINTS + axis, :m] = spots[axis, :m] + e * offset[axis]
        distances(rows, listed, count, view, s, m)
        for axis in range(3):
            normals[axis, :m] += s[ALL, :m] * offset[axis]
    for j in range(m):
        x, y, z = normals[0, j], normals[1, j], normals[2, j]
        length = math.sqrt(x * x + y * y + z * z) + 1e-12
        normals[0, j], normals[1, j], normals[2, j] = x / length, y / length, z / length
    for axis in range(3):
        s[POINTS + axis, :m] = spots[axis, :m]
    nearest_rows(rows, listed, count, view, s, m, found)


@jit
def _open_air(rows, listed, count, view, spots, normals, m, s, air):
    """Fill how free m surfaces are, in [0, 1]: little in corners and under what hangs over."""
    for axis in range(3):
        s[POINTS + axis, :m] = spots[axis, :m] + 0.14 * normals[axis, :m]
    distances(rows, listed, count, view, s, m)
    for j in range(m):
        air[j] = clamp(s[ALL, j] / 0.14, 0.0, 1.0)


@jit
def _suns(rows, casters, view, spots, normals, m, s, rays, t, sun, alive):
    """Fill the fraction of the lamp that m points see; none where they face away."""
    x, y, z = spots[0, :m].mean(), spots[1, :m].mean(), spots[2, :m].mean()
    lx, ly, lz = view[10], view[11], view[12]
    widest = 0.0
    for j in range(m):
        a, b, c = spots[0, j] - x, spots[1, j] - y, spots[2, j] - z
        widest = max(widest, a * a + b * b + c * c)
        facing = normals[0, j] * lx + normals[1, j] * ly + normals[2, j] * lz
        sun[j] = 1.0 if facing > AWAY else 0.0
    reach = math.sqrt(widest) + 0.1
    count, _, far = _list_rows(rows, x, y, z, lx, ly, lz, 0.1, reach, True, casters)
    for axis in range(3):
        rays[axis, :m] = spots[axis, :m] + 0.03 * normals[axis, :m]
        rays[3 + axis, :m] = view[10 + axis]
    sunlight(rows, casters, count if far > 0.0 else 0, view, rays, m, s, t, sun, alive)


@inline
def _known_light(maps, pixel, part):
    """Sun and open air of the pixel or of a neighbour that shows the same part."""
    depth, sun, air, parts = maps
    y, x = pixel[0], pixel[1]
    for j, i in ((y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        inside = 0 <= j < depth.shape[0] and 0 <= i < depth.shape[0]
        if inside and depth[j, i] > 0.0 and parts[j, i] == part:
            return sun[j, i], air[j, i]
    return 0.8, 0.8  # a part thinner than a pixel


@inline
def _known_depth(maps, pixel, near):
    """Distance just before what the pixel or a neighbour shows, or `near`."""
    depth, y, x, nearest = maps[0], pixel[0], pixel[1], 1e9
    for j, i in ((y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        if 0 <= j < depth.shape[0] and 0 <= i < depth.shape[0] and depth[j, i] > 0.0:
            nearest = min(nearest, depth[j, i])
    return max(near, nearest - 0.10) if nearest < 1e9 else near


@jit
def _shade(rows, tile, view, looks, u, v, pixels, n, maps, fresh, colours, parts):
    """Fill colours (n, 3) in [0, 1] and parts (n,) along the rays through n picture points.

    tile: its listed rows, their number and the span that they lie in. maps: depth (-1 for the
    background), sun, open air and part of every pixel; written at `pixels` (n, 2) where `fresh`,
    else read, so that the samples of a pixel cost no light of their own.
    """
    listed, count, near, far = tile
    s, rays, t = np.empty((SCRATCH, LANES)), np.empty((6, LANES)), np.empty(LANES)
    alive, hits = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for j in range(n):
        length = math.sqrt(u[j] * u[j] + v[j] * v[j] + FOCAL * FOCAL)
        rays[0, j], rays[1, j], rays[2, j] = 0.0, view[16], DISTANCE
        rays[3, j], rays[4, j], rays[5, j] = u[j] / length, v[j] / length, -FOCAL / length
        t[j] = near if fresh else _known_depth(maps, pixels[j], near)
    march(rows, listed, count, view, rays, n, far, s, t, alive)
    m = 0
    spots, seen = np.empty((3, LANES)), np.empty((3, LANES))
    for j in range(n):
        if fresh:
            maps[0][pixels[j, 0], pixels[j, 1]] = t[j]
        if t[j] < 0.0:
            colours[j, 0], colours[j, 1], colours[j, 2] = _background(view, u[j], v[j])
            parts[j] = 0
            continue
        hits[m] = j
        for axis in range(3):
            seen[axis, m] = rays[3 + axis, j]
            spots[axis, m] = rays[axis, j] + t[j] * seen[axis, m]
        m += 1
    if m == 0:
        return
    normals, air, sun = np.empty((3, LANES)), np.empty(LANES), np.empty(LANES)
    found, casters = np.zeros(LANES, np.int64), np.empty(rows.shape[0], np.int64)
    _surfaces(rows, listed, count, view, spots, m, s, normals, found)
    if fresh:
        _open_air(rows, listed, count, view, spots, normals, m, s, air)
        _suns(rows, casters, view, spots, normals, m, s, rays, t, sun, alive)
    for k in range(m):
        j = hits[k]
        x, y, z = to_head(view, spots[0, k], spots[1, k], spots[2, k])
        colour, parts[j] = paint.paint(rows, found[k], looks, x, y, z)
        if fresh:
            maps[1][pixels[j, 0], pixels[j, 1]] = sun[k]
            maps[2][pixels[j, 0], pixels[j, 1]] = air[k]
        else:
            sun[k], air[k] = _known_light(maps, pixels[j], parts[j])
        normal = (normals[0, k], normals[1, k], normals[2, k])
        ray = (seen[0, k], seen[1, k], seen[2, k])
        lit = _lit(view, colour, rows[found[k], GLOSS], normal, ray, sun[k], air[k])
        for c in range(3):
            colours[j, c] = clamp(lit[c], 0.0, 1.0)


@jit
def _refine(rows, tile, view, looks, top, left, maps, colours, image, labels):
    """Write a tile: pixels at edges are means, and their parts majorities, of SAMPLES samples."""
    parts, size_px = maps[3], image.shape[0]
    u, v, pixels = np.empty(LANES), np.empty(LANES), np.empty((LANES, 2), np.int64)
    shades, found = np.empty((LANES, 3)), np.empty(LANES, np.int64)
    edges = np.empty((LANES, 2), np.int64)
    number = 0
    for y in range(top, min(top + TILE, size_px)):
        for x in range(left, min(left + TILE, size_px)):
            if tile[1] > 0 and is_edge(colours, parts, y, x):
                edges[number, 0], edges[number, 1] = y, x
                number += 1
            else:
                labels[y, x] = parts[y, x]
                for c in range(3):
                    image[y, x, c] = int(colours[y, x, c] * 255.0 + 0.5)
    votes = np.empty(16, np.int64)
    group = LANES // SAMPLES
    for start in range(0, number, group):
        last = min(start + group, number)
        n = SAMPLES * (last - start)
        for j in range(n):
            k, sample = start + j // SAMPLES, j % SAMPLES
            pixels[j, 0], pixels[j, 1] = edges[k, 0], edges[k, 1]
            u[j] = (edges[k, 1] + 0.25 + 0.5 * (sample % 2)) * 2.0 / size_px - 1.0
            v[j] = 1.0 - (edges[k, 0] + 0.25 + 0.5 * (sample // 2)) * 2.0 / size_px
        _shade(rows, tile, view, looks, u, v, pixels, n, maps, False, shades, found)
        for k in range(start, last):
            y, x, j = edges[k, 0], edges[k, 1], SAMPLES * (k - start)
            votes[:] = 0
            votes[parts[y, x]] = 1
            for sample in range(SAMPLES):
                votes[found[j + sample]] += 2
            labels[y, x] = np.argmax(votes)
            for c in range(3):
                image[y, x, c] = int(shades[j : j + SAMPLES, c].mean() * 255.0 + 0.5)


@jit
def _trace(rows, view, looks, size_px):
    across = (size_px + TILE - 1) // TILE
    listed = np.empty((across * across, rows.shape[0]), np.int64)
    counts, spans = np.zeros(across * across, np.int64), np.zeros((across * across, 2))
    colours, parts = np.empty((size_px, size_px, 3)), np.empty((size_px, size_px), np.int64)
    depth, sun = np.empty((size_px, size_px)), np.zeros((size_px, size_px))
    maps = (depth, sun, np.zeros((size_px, size_px)), parts)
    u, v, pixels = np.empty(LANES), np.empty(LANES), np.empty((LANES, 2), np.int64)
    shades, found = np.empty((LANES, 3)), np.empty(LANES, np.int64)
    spread = 1.5 * TILE / size_px / FOCAL
    for tile in range(across * across):
        top, left = tile // across * TILE, tile % across * TILE
        a, b = (2.0 * left + TILE) / size_px - 1.0, 1.0 - (2.0 * top + TILE) / size_px
        length = math.sqrt(a * a + b * b + FOCAL * FOCAL)
        dx, dy, dz = a / length, b / length, -FOCAL / length
        counts[tile], spans[tile, 0], spans[tile, 1] = _list_rows(
            rows, 0.0, view[16], DISTANCE, dx, dy, dz, spread, 0.0, False, listed[tile]
        )
        height, width = min(TILE, size_px - top), min(TILE, size_px - left)
        n = height * width
        for j in range(n):
            pixels[j, 0], pixels[j, 1] = top + j // width, left + j % width
            u[j] = (2.0 * pixels[j, 1] + 1.0) / size_px - 1.0
            v[j] = 1.0 - (2.0 * pixels[j, 0] + 1.0) / size_px
        seen = (listed[tile], counts[tile], spans[tile, 0], spans[tile, 1])
        _shade(rows, seen, view, looks, u, v, pixels, n, maps, True, shades, found)
        for j in range(n):
            parts[pixels[j, 0], pixels[j, 1]] = found[j]
            for c in range(3):
                colours[pixels[j, 0], pixels[j, 1], c] = shades[j, c]
    image = np.empty((size_px, size_px, 3), np.uint8)
    labels = np.empty((size_px, size_px), np.uint8)
    for tile in range(across * across):
        top, left = tile // across * TILE, tile % across * TILE
        seen = (listed[tile], counts[tile], spans[tile, 0], spans[tile, 1])
        _refine(rows, seen, view, looks, top, left, maps, colours, image, labels)
    return image, labels


@jit
def _depths(rows, points):
    every, found = np.arange(rows.shape[0]), np.empty(points.shape[0])
    for k in range(points.shape[0]):
        low, high = 0.0, 1.5
        for _ in range(16):
            z = 0.5 * (low + high)
            inside = sdf.field(rows, every, len(every), abs(points[k, 0]), points[k, 1], z) < 0.0
            low, high = (z, high) if inside else (low, z)
        found[k] = low
    return found


def _entry_points(sources):
    """Compile the two ways in, cached on disk; see `pipelines.data.renderer`."""

    @njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
    def trace(rows, view, looks, size_px):
        """Trace a picture.

        rows (N, 48), view (17,), looks (21,), all float64. Returns image (S, S, 3) uint8 and
        labels (S, S) uint8, places in `spec.PARTS`; edges are averaged over 2 x 2 samples, their
        label is the majority. Uses no randomness.
        """
        assert sources >= 0
        return _trace(rows, view, looks, size_px)

    @njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
    def depths(rows, points):
        """Return how far out (z) the union of symmetric rows reaches at points (n, 2)."""
        assert sources >= 0
        return _depths(rows, points)

    return trace, depths


_SOURCES = [Path(module.__file__) for module in (field, paint, renderer, sdf)]
trace, depths = _entry_points(zlib.crc32(b"".join(file.read_bytes() for file in _SOURCES)))
