"""Colours of the toy scenes along a ray: lit objects, and the ground, wall or sky behind them.

Compiled with the tracer (`pipelines.data.renderer`), whose frame and rows they share.
"""

from __future__ import annotations

import math

from pipelines.data.finishes import surface
from pipelines.data.places import (
    ROOM,
    ROOM_WALL_Z,
    STREET,
    STREET_WALL_Z,
    facades,
    ground,
    haze_of,
    room_wall,
    sky,
)
from pipelines.data.sdf import (
    clamp,
    field,
    jit,
    mix,
    primitive,
    scaled,
    smooth,
    sunlight,
    to_local,
)

CAMERA_DISTANCE = 5.2


@jit
def _open_air(prims, objects, j, x, y, z, reach):
    """Distance to object j as a fraction of `reach`: small in its corners and under its parts."""
    nearest = reach
    for i in range(int(objects[j, 9]), int(objects[j, 10])):
        ax, ay, az = x - prims[i, 32], y - prims[i, 33], z - prims[i, 34]
        r = prims[i, 35] + nearest
        if ax * ax + ay * ay + az * az < r * r:
            nearest = min(nearest, primitive(prims, i, x, y, z))
    return max(nearest, 0.0) / reach


@jit
def object_colour(
    prims, objects, j, near_tile, counts, tile, listed, view, px, py, pz, dx, dy, dz, sun, air
):
    """Lit colour of object j at a world point seen along d, then sun and open air there.

    Pass a neighbour's sun and air to save computing them, or -1.
    """
    x, y, z = to_local(objects, j, px, py, pz)
    n, best, row = 0, 1e9, int(objects[j, 9])
    for k in range(row, row + counts[tile, j]):
        i = near_tile[tile, k]
        ax, ay, az, r = x - prims[i, 32], y - prims[i, 33], z - prims[i, 34], prims[i, 35] + 0.02
        if ax * ax + ay * ay + az * az < r * r:
            d = primitive(prims, i, x, y, z)
            if d < best:
                best, row = d, i
            if d < 0.02 + prims[i, 36]:
                listed[n] = i
                n += 1
    e = 0.005
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for k in range(4):
        sx, sy = 1.0 if k & 1 else -1.0, 1.0 if k & 2 else -1.0
        sz = sx * sy
        d = field(prims, listed, n, x + e * sx, y + e * sy, z + e * sz)
        a, b, c = a + d * sx, b + d * sy, c + d * sz
    length = math.sqrt(a * a + b * b + c * c) + 1e-12
    nx, ny, nz = a / length, b / length, c / length
    paint = surface(prims, row, x, y, z, nx, ny, nz, objects[j, 11])
    if air < 0.0:
        air = _open_air(prims, objects, j, x + 0.16 * nx, y + 0.16 * ny, z + 0.16 * nz, 0.16)
    nx *= objects[j, 6]
    nx, nz = nx * objects[j, 3] + nz * objects[j, 4], -nx * objects[j, 4] + nz * objects[j, 3]
    lx, ly, lz = view[1], view[2], view[3]
    lit = nx * lx + ny * ly + nz * lz
    if sun < 0.0 and lit > -0.15:
        ax, ay, az = px + nx * 0.02, py + ny * 0.02, pz + nz * 0.02
        sun = sunlight(prims, objects, near_tile, listed, ax, ay, az, lx, ly, lz)
    diffuse = clamp(lit * 0.87 + 0.13, 0.0, 1.0) * max(sun, 0.0)
    occlusion = 0.5 + 0.5 * air
    occlusion *= 0.72 + 0.28 * clamp((py - objects[j, 1]) * 2.0 + 0.1, 0.0, 1.0)
    sky = (0.66 + 0.34 * ny) * occlusion
    bounce = max(-ny, 0.0) * 0.22 * occlusion
    hx, hy, hz = lx - dx, ly - dy, lz - dz
    half = clamp((nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz), 0.0, 1.0)
    facing = clamp(-(nx * dx + ny * dy + nz * dz), 0.0, 1.0)
    gloss = prims[row, 9] * max(sun, 0.0) * half**28 + (1.0 - facing) ** 3 * (
        0.10 + 0.25 * prims[row, 9]
    ) * (0.6 + 0.4 * ny)
    glow = prims[row, 10] * (1.0 if view[0] == 4.0 else 0.12)
    red = paint[0] * (view[4] * diffuse + view[7] * (sky + bounce) + glow) + gloss * view[14]
    green = paint[1] * (view[5] * diffuse + view[8] * (sky + bounce) + glow) + gloss * view[15]
    blue = paint[2] * (view[6] * diffuse + view[9] * (sky + bounce) + glow) + gloss * view[16]
    return (red, green, blue), sun, air


@jit
def backdrop(prims, objects, near_tile, listed, view, dx, dy, dz, sun, air):
    """Colour of ground, wall or sky along a ray from the camera, then sun and air as above."""
    place, seed, eye = int(view[0]), view[10], view[11]
    t = -eye / dy if dy < -1e-4 else 1e9
    depth = t * dz  # measured from the camera
    if place in (ROOM, STREET):
        wall = (ROOM_WALL_Z if place == ROOM else STREET_WALL_Z) + CAMERA_DISTANCE
        if depth > wall:
            x, y = dx / dz * wall, eye + dy / dz * wall
            shade = 0.93 + 0.07 * clamp(y, 0.0, 1.0)
            if place == ROOM:
                return scaled(room_wall(x, y, seed), shade), -1.0, -1.0
            colour = facades(x, y, seed)
            if colour[0] < 0.0:
                return sky(place, dx / dz, dy / dz, seed), -1.0, -1.0
            return scaled(colour, shade), -1.0, -1.0
    if t > 200.0:
        return sky(place, dx / dz, dy / dz, seed), -1.0, -1.0
    x, z = dx * t, depth - CAMERA_DISTANCE
    lx, ly, lz = view[1], view[2], view[3]
    if sun < 0.0:
        sun = sunlight(prims, objects, near_tile, listed, x, 0.004, z, lx, ly, lz)
        air = 1.0
        for j in range(objects.shape[0]):
            u, v, r = x - objects[j, 0], z - objects[j, 2], 0.62 * objects[j, 12]
            touch = math.exp(-(u * u + v * v) / (r * r)) * max(1.0 - 2.0 * objects[j, 1], 0.0)
            air *= 1.0 - 0.42 * touch
    paint = ground(place, x, z, seed, lx, lz)
    haze, amount = haze_of(place)
    lit = (
        paint[0] * (view[4] * sun * ly + view[7] * air),
        paint[1] * (view[5] * sun * ly + view[8] * air),
        paint[2] * (view[6] * sun * ly + view[9] * air),
    )
    return mix(lit, haze, amount * smooth(2.0, 34.0, depth - CAMERA_DISTANCE)), sun, air
