"""Compiled leaves of the renderer: numbers, signed distances, rays.

Called by `pipelines.data.renderer` only; rows are laid out by `pipelines.data.primitives`.
Sphere tracing: Hart 1996; penumbra, smooth union and most distances: Inigo Quilez's articles.
"""

from __future__ import annotations

import math

from numba import njit

PENUMBRA = 0.17  # widest half shadow, toy units

# Not cached one by one: the entry points in renderer.py are, with all they call.
jit = njit(fastmath=True, nogil=True, error_model="numpy")
inline = njit(fastmath=True, nogil=True, error_model="numpy", forceinline=True)


# ---------------------------------------------------------------- numbers


@inline
def clamp(x, low, high):
    """Limit x to [low, high]."""
    return min(max(x, low), high)


@inline
def smooth(low, high, x):
    """Smooth step from 0 at low to 1 at high."""
    t = clamp((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@inline
def mix(a, b, t):
    """Colour between a (t = 0) and b (t = 1)."""
    u = 1.0 - t
    return (a[0] * u + b[0] * t, a[1] * u + b[1] * t, a[2] * u + b[2] * t)


@inline
def scaled(a, s):
    """Colour a times s."""
    return (a[0] * s, a[1] * s, a[2] * s)


@inline
def lattice(x, y):
    """Hash two integers to [0, 1]."""
    h = (x * 374761393 + y * 668265263) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65535.0


@inline
def noise(x, y):
    """Smooth value noise in [0, 1] with one bump a unit."""
    fx, fy = math.floor(x), math.floor(y)
    ix, iy, u, v = int(fx), int(fy), x - fx, y - fy
    u, v = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    low = lattice(ix, iy) * (1.0 - u) + lattice(ix + 1, iy) * u
    high = lattice(ix, iy + 1) * (1.0 - u) + lattice(ix + 1, iy + 1) * u
    return low * (1.0 - v) + high * v


# ---------------------------------------------------------------- distances


@inline
def box(x, y, z, hx, hy, hz, rounding):
    """Distance to a rounded box of half sizes (hx, hy, hz), rounding included."""
    ax, ay, az = abs(x) - hx + rounding, abs(y) - hy + rounding, abs(z) - hz + rounding
    bx, by, bz = max(ax, 0.0), max(ay, 0.0), max(az, 0.0)
    return math.sqrt(bx * bx + by * by + bz * bz) + min(max(ax, ay, az), 0.0) - rounding


@inline
def ellipsoid(x, y, z, ix, iy, iz):
    """Distance to an ellipsoid from the inverses of its radii."""
    ux, uy, uz = x * ix, y * iy, z * iz
    k = math.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux * ix, uy * iy, uz * iz
    return k * (k - 1.0) / math.sqrt(ux * ux + uy * uy + uz * uz + 1e-9)


@inline
def cone(x, y, z, h, r1, r2, rounding, inverse):
    """Capped cone along y: radius r1 at -h, r2 at h, then rounded; inverse of its slant squared."""
    q, slope = math.sqrt(x * x + z * z), r2 - r1
    ax, ay = q - min(q, r1 if y < 0.0 else r2), abs(y) - h
    t = clamp(((r2 - q) * slope + (h - y) * 2.0 * h) * inverse, 0.0, 1.0)
    bx, by = q - r2 + slope * t, y - h + 2 * h * t
    sign = -1.0 if bx < 0.0 and ay < 0.0 else 1.0
    return sign * math.sqrt(min(ax * ax + ay * ay, bx * bx + by * by)) - rounding


@inline
def limb(x, y, z, ax, ay, az, r1, r2, inverse):
    """Rounded stick from the origin to a, radius r1 to r2; inverse of its length squared."""
    h = clamp((x * ax + y * ay + z * az) * inverse, 0.0, 1.0)
    x, y, z = x - ax * h, y - ay * h, z - az * h
    return math.sqrt(x * x + y * y + z * z) - (r1 + (r2 - r1) * h)


@inline
def torus(x, y, z, radius, thickness):
    """Distance to a torus around y."""
    u = math.sqrt(x * x + z * z) - radius
    return math.sqrt(u * u + y * y) - thickness


@inline
def primitive(prims, i, x, y, z):
    """Signed distance from a point of the object's frame to the primitive in row `i`."""
    x, y, z = x - prims[i, 21], y - prims[i, 22], z - prims[i, 23]
    if prims[i, 11] != 0.0:
        x, y, z = (
            prims[i, 12] * x + prims[i, 13] * y + prims[i, 14] * z,
            prims[i, 15] * x + prims[i, 16] * y + prims[i, 17] * z,
            prims[i, 18] * x + prims[i, 19] * y + prims[i, 20] * z,
        )
    kind = int(prims[i, 0])
    if kind == 0:
        d = ellipsoid(x, y, z, prims[i, 24], prims[i, 25], prims[i, 26])
        if prims[i, 27] > 0.0:
            f = prims[i, 28]
            d -= prims[i, 27] * math.sin(f * x) * math.sin(f * y) * math.sin(f * z)
        return d
    if kind == 1:
        return box(x, y, z, prims[i, 24], prims[i, 25], prims[i, 26], prims[i, 27])
    if kind == 2:
        return limb(
            x,
            y,
            z,
            prims[i, 24],
            prims[i, 25],
            prims[i, 26],
            prims[i, 27],
            prims[i, 28],
            prims[i, 29],
        )
    if kind == 3:
        return cone(x, y, z, prims[i, 24], prims[i, 25], prims[i, 26], prims[i, 27], prims[i, 28])
    if kind == 4:  # roof: gable across x, ridge along z
        d = prims[i, 24] * abs(x) + prims[i, 25] * y - prims[i, 28]
        return max(d, -y, abs(z) - prims[i, 26]) - prims[i, 27]
    if kind == 5:  # torus around y
        return torus(x, y, z, prims[i, 24], prims[i, 25])
    if kind == 6:  # boxes on a ring around y
        step = 2.0 * math.pi / prims[i, 25]
        a = math.atan2(z, x)
        a -= step * math.floor(a / step + 0.5)
        r = math.sqrt(x * x + z * z)
        return box(
            r * math.cos(a) - prims[i, 24],
            y,
            r * math.sin(a),
            prims[i, 26],
            prims[i, 27],
            prims[i, 28],
            0.01,
        )
    step, last = prims[i, 28], prims[i, 29] - 1.0  # boxes in a row along x, centred
    x += 0.5 * last * step
    x -= step * clamp(math.floor(x / step + 0.5), 0.0, last)
    return box(x, y, z, prims[i, 24], prims[i, 25], prims[i, 26], prims[i, 27])


@jit
def field(prims, listed, n, x, y, z):
    """Smooth union of the listed primitives."""
    d = 1e3
    for i in range(n):
        row = listed[i]
        e, k = primitive(prims, row, x, y, z), prims[row, 2]
        if k > 0.0:
            h = max(k - abs(d - e), 0.0) / k
            d = min(d, e) - h * h * k * 0.25
        else:
            d = min(d, e)
    return d


# ---------------------------------------------------------------- rays


@inline
def to_local(objects, j, x, y, z):
    """World point in the frame of object j."""
    x, y, z = x - objects[j, 0], y - objects[j, 1], z - objects[j, 2]
    s = 1.0 / objects[j, 5]
    return (
        (x * objects[j, 3] - z * objects[j, 4]) * s * objects[j, 6],
        y * s,
        (x * objects[j, 4] + z * objects[j, 3]) * s,
    )


@inline
def list_ray(prims, near_tile, tile, first, last, listed, px, py, pz, dx, dy, dz, margin):
    """List the primitives a ray comes near; return their number and the ray's span (unit d)."""
    n, near, far = 0, 1e9, -1.0
    for k in range(first, last):
        i = near_tile[tile, k]
        x, y, z, r = px - prims[i, 32], py - prims[i, 33], pz - prims[i, 34], prims[i, 35] + margin
        b = x * dx + y * dy + z * dz
        h = b * b - (x * x + y * y + z * z - r * r)
        if h > 0.0:
            h = math.sqrt(h)
            if h > b:
                listed[n] = i
                n, near, far = n + 1, min(near, -b - h), max(far, -b + h)
    return n, max(near, 0.0), far


@inline
def misses(objects, j, px, py, pz, dx, dy, dz, margin):
    """Whether a world ray (unit d) misses the sphere around an object."""
    x, y, z, r = (
        px - objects[j, 0],
        py - objects[j, 1] - objects[j, 7] * objects[j, 5],
        pz - objects[j, 2],
        objects[j, 8] * objects[j, 5] + margin,
    )
    b, c = x * dx + y * dy + z * dz, x * x + y * y + z * z - r * r
    return b * b < c or (b > 0.0 and c > 0.0)


@inline
def local_ray(objects, j, px, py, pz, dx, dy, dz):
    """World ray in the frame of object j; its direction keeps unit length."""
    x, y, z = to_local(objects, j, px, py, pz)
    ux, uy, uz = to_local(objects, j, objects[j, 0] + dx, objects[j, 1] + dy, objects[j, 2] + dz)
    return x, y, z, ux * objects[j, 5], uy * objects[j, 5], uz * objects[j, 5]


@jit
def march(prims, objects, j, near_tile, counts, tile, listed, px, py, pz, dx, dy, dz, limit):
    """World distance to the object along a ray, or -1."""
    first = int(objects[j, 9])
    last = first + counts[tile, j]
    if last == first or misses(objects, j, px, py, pz, dx, dy, dz, 0.0):
        return -1.0
    x, y, z, dx, dy, dz = local_ray(objects, j, px, py, pz, dx, dy, dz)
    n, t, far = list_ray(prims, near_tile, tile, first, last, listed, x, y, z, dx, dy, dz, 0.0)
    far = min(far, limit / objects[j, 5])
    for _ in range(48):
        if n == 0 or t > far:
            break
        d = field(prims, listed, n, x + dx * t, y + dy * t, z + dz * t)
        if d < 0.004:
            return t * objects[j, 5]
        t += d * 0.95
    return -1.0


@jit
def sunlight(prims, objects, near_tile, listed, px, py, pz, lx, ly, lz):
    """Fraction of the sun seen from a point, in [0, 1]."""
    light = 1.0
    for j in range(objects.shape[0]):
        if misses(objects, j, px, py, pz, lx, ly, lz, PENUMBRA):
            continue
        s = objects[j, 5]
        x, y, z, dx, dy, dz = local_ray(objects, j, px, py, pz, lx, ly, lz)
        first, last, every = int(objects[j, 9]), int(objects[j, 10]), near_tile.shape[0] - 1
        n, t, far = list_ray(
            prims, near_tile, every, first, last, listed, x, y, z, dx, dy, dz, PENUMBRA / s
        )
        t = max(t, 0.02 / s)
        for _ in range(24):
            if n == 0 or t > far:
                break
            d = field(prims, listed, n, x + dx * t, y + dy * t, z + dz * t) * s
            light = min(light, d / min(t * s / 6.0, PENUMBRA))
            if d < 0.004:
                return 0.0
            t += max(d, 0.04) / s
    return smooth(0.0, 1.0, light)
