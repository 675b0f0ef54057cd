"""The sphere tracer of the toy scenes: a numba kernel over signed-distance primitives.

The kernel knows numbers only. Rows of primitives are laid out by `pipelines.data.primitives`,
objects and view by `pipelines.data.stage`.
World frame: x right, y up, z away from the viewer, ground at y = 0; lengths in toy units.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
from numba import njit

from pipelines.data import finishes, places, sdf, shading
from pipelines.data.sdf import (
    clamp,
    inline,
    jit,
    local_ray,
    march,
)
from pipelines.data.shading import CAMERA_DISTANCE, backdrop, object_colour

FOCAL = 2.25  # half picture width is 1 at distance FOCAL
EDGE = 0.09  # colour step (of 1) between neighbouring pixels that asks for four more samples
TILE = 8  # pixels


@inline
def _direction(view, u, v):
    """Return the unit ray from the camera through picture coordinates in [-1, 1], v up."""
    length = math.sqrt(u * u + v * v + FOCAL * FOCAL)
    y, z = v / length, FOCAL / length
    c, s = view[12], view[13]
    return u / length, y * c - z * s, y * s + z * c


@jit
def _tiles(prims, objects, view, size_px):
    """Which primitives each square of TILE pixels may show.

    Returns indices (tiles + 1, N), an object's kept ones from its first row on, and their counts
    (tiles, n). The extra row lists every primitive.
    """
    across = (size_px + TILE - 1) // TILE
    near_tile = np.empty((across * across + 1, prims.shape[0] + 1), np.int32)
    counts = np.zeros((across * across, objects.shape[0]), np.int32)
    for i in range(prims.shape[0]):
        near_tile[across * across, i] = i
    spread = 1.5 * TILE / size_px / FOCAL
    for tile in range(across * across):
        u = (2.0 * (tile % across) + 1.0) * TILE / size_px - 1.0
        v = 1.0 - (2.0 * (tile // across) + 1.0) * TILE / size_px
        dx, dy, dz = _direction(view, u, v)
        for j in range(objects.shape[0]):
            first = int(objects[j, 9])
            px, py, pz, lx, ly, lz = local_ray(
                objects, j, 0.0, view[11], -CAMERA_DISTANCE, dx, dy, dz
            )
            for i in range(first, int(objects[j, 10])):
                x, y, z = px - prims[i, 32], py - prims[i, 33], pz - prims[i, 34]
                b, c = x * lx + y * ly + z * lz, x * x + y * y + z * z
                reach = prims[i, 35] + 0.03 + spread * (math.sqrt(c) + prims[i, 35])
                if c - b * b < reach * reach:
                    near_tile[tile, first + counts[tile, j]] = i
                    counts[tile, j] += 1
    return near_tile, counts


@inline
def _tile_of(x, y, size_px):
    return y // TILE * ((size_px + TILE - 1) // TILE) + x // TILE


@inline
def _nearest(prims, objects, near_tile, counts, tile, listed, eye, dx, dy, dz):
    """Distance along a ray from the camera and object index, -1 for none."""
    nearest, hit = 1e9, -1
    for j in range(objects.shape[0]):
        t = march(
            prims,
            objects,
            j,
            near_tile,
            counts,
            tile,
            listed,
            0.0,
            eye,
            -CAMERA_DISTANCE,
            dx,
            dy,
            dz,
            nearest,
        )
        if 0.0 < t < nearest:
            nearest, hit = t, j
    return nearest, hit


@inline
def _colour(prims, objects, near_tile, counts, tile, listed, view, dx, dy, dz, t, hit, sun, air):
    """Colour in [0, 1] where a ray ends, then sun and open air there."""
    if hit < 0:
        c, sun, air = backdrop(prims, objects, near_tile, listed, view, dx, dy, dz, sun, air)
    else:
        x, y, z = dx * t, view[11] + dy * t, dz * t - CAMERA_DISTANCE
        c, sun, air = object_colour(
            prims,
            objects,
            hit,
            near_tile,
            counts,
            tile,
            listed,
            view,
            x,
            y,
            z,
            dx,
            dy,
            dz,
            sun,
            air,
        )
    return (clamp(c[0], 0.0, 1.0), clamp(c[1], 0.0, 1.0), clamp(c[2], 0.0, 1.0)), sun, air


@inline
def _step(colours, y, x, red, green, blue):
    """Largest difference between a pixel's colour and another."""
    a, b, c = colours[y, x, 0] - red, colours[y, x, 1] - green, colours[y, x, 2] - blue
    return max(abs(a), abs(b), abs(c))


@inline
def is_edge(colours, hits, y, x):
    """Whether a pixel differs visibly from one of its four neighbours.

    colours (S, S, 3) in [0, 1], hits (S, S) what each pixel shows.
    """
    n = hits.shape[0]
    for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        if 0 <= j < n and 0 <= i < n:
            other = _step(colours, y, x, colours[j, i, 0], colours[j, i, 1], colours[j, i, 2])
            if hits[y, x] != hits[j, i] or other > EDGE:
                return True
    return False


@inline
def _known_light(lights, hits, y, x, hit):
    """Sun and open air of the pixel or of a neighbour that shows the same object, or -1."""
    n = hits.shape[0]
    for j, i in ((y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        if 0 <= j < n and 0 <= i < n and hits[j, i] == hit and lights[j, i, 0] >= 0.0:
            return lights[j, i, 0], lights[j, i, 1]
    return -1.0, -1.0


@jit
def _refine(prims, objects, near_tile, counts, listed, view, colours, hits, lights, votes, y, x):
    """Mean colour of 2 x 2 samples in a pixel, or of two where these agree; counts hits."""
    step = 2.0 / hits.shape[0]
    red, green, blue, spread = 0.0, 0.0, 0.0, 0.0
    tile = _tile_of(x, y, hits.shape[0])
    votes[:] = 0
    votes[hits[y, x] + 1] = 1
    for n, k in enumerate((0, 3, 1, 2)):
        u = (x + 0.25 + 0.5 * (k % 2)) * step - 1.0
        v = 1.0 - (y + 0.25 + 0.5 * (k // 2)) * step
        dx, dy, dz = _direction(view, u, v)
        t, hit = _nearest(prims, objects, near_tile, counts, tile, listed, view[11], dx, dy, dz)
        sun, air = _known_light(lights, hits, y, x, hit)
        c, sun, air = _colour(
            prims, objects, near_tile, counts, tile, listed, view, dx, dy, dz, t, hit, sun, air
        )
        red, green, blue = red + c[0], green + c[1], blue + c[2]
        votes[hit + 1] += 2
        spread = max(spread, _step(colours, y, x, c[0], c[1], c[2]))
        if n == 1 and votes[hits[y, x] + 1] == 5 and spread < EDGE:  # the edge lies next door
            return red * 0.5, green * 0.5, blue * 0.5
    return red * 0.25, green * 0.25, blue * 0.25


@jit
def _silhouettes(prims, objects, view, size_px):
    listed = np.empty(prims.shape[0] + 1, np.int64)
    near_tile, counts = _tiles(prims, objects, view, size_px)
    labels = np.zeros((size_px, size_px), np.uint8)
    alone = np.zeros(objects.shape[0], np.int64)
    for y in range(size_px):
        for x in range(size_px):
            u, v = (2 * x + 1.0) / size_px - 1.0, 1.0 - (2 * y + 1.0) / size_px
            dx, dy, dz = _direction(view, u, v)
            nearest = 1e9
            for j in range(objects.shape[0]):
                t = march(
                    prims,
                    objects,
                    j,
                    near_tile,
                    counts,
                    _tile_of(x, y, size_px),
                    listed,
                    0.0,
                    view[11],
                    -CAMERA_DISTANCE,
                    dx,
                    dy,
                    dz,
                    1e9,
                )
                if t > 0.0:
                    alone[j] += 1
                    if t < nearest:
                        nearest, labels[y, x] = t, j + 1
    return labels, alone


@jit
def _trace(prims, objects, view, size_px):
    n = size_px
    listed = np.empty(prims.shape[0] + 1, np.int64)
    near_tile, counts = _tiles(prims, objects, view, size_px)
    colours, lights = np.zeros((n, n, 3)), np.zeros((n, n, 2))
    hits = np.empty((n, n), np.int64)
    for y in range(n):
        for x in range(n):
            dx, dy, dz = _direction(view, (2 * x + 1.0) / n - 1.0, 1.0 - (2 * y + 1.0) / n)
            tile = _tile_of(x, y, n)
            t, hit = _nearest(prims, objects, near_tile, counts, tile, listed, view[11], dx, dy, dz)
            hits[y, x] = hit
            c, sun, air = _colour(
                prims,
                objects,
                near_tile,
                counts,
                tile,
                listed,
                view,
                dx,
                dy,
                dz,
                t,
                hit,
                -1.0,
                -1.0,
            )
            colours[y, x, 0], colours[y, x, 1], colours[y, x, 2] = c
            lights[y, x, 0], lights[y, x, 1] = sun, air
    image = np.zeros((n, n, 3), np.uint8)
    labels = (hits + 1).astype(np.uint8)
    votes = np.empty(objects.shape[0] + 1, np.int64)
    for y in range(n):
        for x in range(n):
            c = (colours[y, x, 0], colours[y, x, 1], colours[y, x, 2])
            if is_edge(colours, hits, y, x):
                c = _refine(
                    prims,
                    objects,
                    near_tile,
                    counts,
                    listed,
                    view,
                    colours,
                    hits,
                    lights,
                    votes,
                    y,
                    x,
                )
                labels[y, x] = np.argmax(votes)
            for k in range(3):
                image[y, x, k] = int(c[k] * 255.0 + 0.5)
    return image, labels


def _entry_points(sources):
    """Compile the two ways in, cached on disk.

    numba's cache notices a change in this file only; `sources`, a checksum of the other compiled
    files, is part of its key because the functions close over it.
    """

    @njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
    def trace(prims, objects, view, size_px):
        """Trace a picture.

        prims (N, 37), objects (n, 13), view (17,), all float64. Returns image (S, S, 3) uint8 and
        labels (S, S) uint8, 0 = background, i = objects[i - 1]. Pixels that differ from a neighbour
        are averaged over 2 x 2 samples, their label is the majority. Uses no randomness.
        """
        assert sources >= 0
        return _trace(prims, objects, view, size_px)

    @njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
    def silhouettes(prims, objects, view, size_px):
        """Labels (S, S) uint8 at one sample a pixel, and pixels (n,) of each object on its own.

        Arguments as for `trace`; an order of magnitude cheaper, for checking a layout.
        """
        assert sources >= 0
        return _silhouettes(prims, objects, view, size_px)

    return trace, silhouettes


_SOURCES = [Path(module.__file__) for module in (finishes, places, sdf, shading)]
trace, silhouettes = _entry_points(zlib.crc32(b"".join(file.read_bytes() for file in _SOURCES)))
