"""Compiled looks of the eight places: ground, sky, walls, and the haze between.

`place` is the index in `spec.PLACES`; `seed` in [0, 10) moves clouds, hills and windows about.
Colours are RGB tuples, about [0, 1], before light.
"""

from __future__ import annotations

import math

from pipelines.data.sdf import clamp, jit, lattice, mix, noise, scaled, smooth

ROOM, STREET = 5, 6  # places with a wall behind them
ROOM_WALL_Z, STREET_WALL_Z = 4.0, 7.0


@jit
def _stars(u, v, seed, density):
    ix, iy = math.floor(u * 24.0), math.floor(v * 24.0)
    h = lattice(int(ix) + int(seed * 131.0), int(iy) + 500)
    if h < 1.0 - density:
        return 0.0
    x, y = u * 24.0 - ix - 0.5, v * 24.0 - iy - 0.5
    return clamp(1.0 - (x * x + y * y) * 11.0, 0.0, 1.0) * (0.55 + 0.45 * lattice(int(ix), int(iy)))


@jit
def _clouds(u, v, seed):
    n = noise(u * 3.0 + seed * 5.0, v * 9.0) * 0.65 + noise(u * 7.0 + seed, v * 20.0 + 3.0) * 0.35
    return smooth(0.56, 0.75, n) * smooth(0.04, 0.16, v)


@jit
def room_wall(x, y, seed):
    """Room: striped paper, skirting board, and a window or a picture."""
    colour = mix((0.93, 0.84, 0.72), (0.80, 0.86, 0.84), smooth(0.35, 0.65, seed / 10.0))
    u = x * 1.1 + seed
    if u - math.floor(u) < 0.5:
        colour = scaled(colour, 0.955)
    if y < 0.26:
        return (0.95, 0.93, 0.89) if y < 0.23 else (0.72, 0.69, 0.65)
    u, v = abs(x - (seed * 37.0 % 1.0 - 0.5) * 4.6), abs(y - 2.75)
    if u < 0.95 and v < 0.85:
        if u > 0.83 or v > 0.73 or u < 0.05 or v < 0.045:
            return (0.97, 0.96, 0.93)
        return mix((0.80, 0.92, 0.98), (0.47, 0.74, 0.95), clamp((y - 2.0) / 1.5, 0.0, 1.0))
    return colour


@jit
def facades(x, y, seed):
    """Street: a row of houses; the sky above them has a negative red."""
    u = x / 2.3 + seed
    cell = math.floor(u)
    tint, height = lattice(int(cell), 7), 2.6 + 1.9 * lattice(int(cell), 3)
    if y > height:
        return (-1.0, 0.0, 0.0)
    colour = mix((0.80, 0.62, 0.52), (0.66, 0.68, 0.74), smooth(0.3, 0.4, tint))
    colour = mix(colour, (0.86, 0.79, 0.66), smooth(0.62, 0.72, tint))
    u = (u - cell) * 2.3
    if u < 0.05 or y > height - 0.1:
        return scaled(colour, 0.78)
    a, b = u / 0.575, y / 0.85 - 0.25
    a, b = a - math.floor(a), b - math.floor(b)
    if y > 0.3 and 0.28 < a < 0.72 and 0.22 < b < 0.78 and y < height - 0.3:
        return (0.40, 0.49, 0.60)
    return colour


@jit
def _hills(u, seed, base, size):
    return base + size * (
        math.sin(u * 2.3 + seed) + 0.5 * math.sin(u * 5.1 + seed * 2.0) + 0.2 * math.sin(u * 11.0)
    )


@jit
def sky(place, u, v, seed):
    """Colour far away at slopes u = x / z and v = y / z; `seed` in [0, 10) moves things about."""
    h = clamp(v * 2.0, 0.0, 1.0)
    spot = (seed * 7.31 % 1.0 - 0.5) * 0.62
    if place == 0:
        colour = mix((0.74, 0.88, 0.97), (0.36, 0.65, 0.94), h)
        colour = mix(colour, (0.98, 0.98, 0.99), 0.85 * _clouds(u, v, seed))
        if v < _hills(u, seed, 0.075, 0.03):
            colour = (0.45, 0.68, 0.47)
        return (0.36, 0.60, 0.33) if v < _hills(u * 1.4, seed + 4.0, 0.03, 0.022) else colour
    if place == 1:
        colour = mix((0.80, 0.93, 0.98), (0.30, 0.66, 0.95), h)
        colour = mix(colour, (0.99, 0.99, 0.99), 0.6 * _clouds(u, v, seed + 3.0))
        x, y = u - spot, v - 0.012
        if 0.0 < y < 0.11 and -0.045 * (1.0 - y / 0.11) < x < 0.055 * (1.0 - y / 0.11):
            colour = (0.99, 0.97, 0.93) if x < 0.002 else (0.93, 0.45, 0.36)
        return (0.55, 0.33, 0.2) if -0.012 < y <= 0.0 and abs(x) < 0.05 + y else colour
    if place == 2:
        colour = mix((0.90, 0.94, 0.98), (0.62, 0.76, 0.92), h)
        w = u * 2.2 + seed
        ridge = 0.22 * abs(w - math.floor(w) - 0.5) + 0.10 * abs((w * 2.7) % 1.0 - 0.5)
        if v < 0.03 + ridge:
            cap = v > 0.035 + 0.62 * ridge + 0.02 * math.sin(u * 60.0)
            colour = (0.95, 0.97, 1.0) if cap else (0.62, 0.70, 0.82)
        return (0.88, 0.92, 0.98) if v < _hills(u, seed, 0.03, 0.015) else colour
    if place == 3:
        colour = mix((0.99, 0.86, 0.66), (0.48, 0.70, 0.90), h)
        x, y = u - spot, v - 0.27
        colour = mix(
            colour, (1.0, 0.97, 0.80), clamp((0.045 - math.sqrt(x * x + y * y)) * 90.0, 0.0, 1.0)
        )
        w = u * 2.6 + seed
        a = abs(w - math.floor(w) - 0.5)
        mesa = (0.06 + 0.09 * lattice(int(math.floor(w)), 11)) * smooth(0.42, 0.34, a)
        if v < mesa:
            return scaled((0.83, 0.47, 0.29), 0.92 if (v * 38.0) % 1.0 < 0.4 else 1.0)
        return (0.90, 0.60, 0.34) if v < _hills(u, seed * 3.0, 0.03, 0.02) else colour
    if place == 4:
        colour = mix((0.17, 0.20, 0.42), (0.05, 0.07, 0.20), h)
        colour = mix(colour, (0.95, 0.95, 1.0), _stars(u, v, seed, 0.10))
        x, y = u - spot, v - 0.24
        d = math.sqrt(x * x + y * y)
        glow = 0.30 * math.exp(-d * 10.0)
        colour = (colour[0] + glow, colour[1] + glow, colour[2] + glow)
        colour = mix(colour, (0.99, 0.97, 0.83), clamp((0.062 - d) * 80.0, 0.0, 1.0))
        return (0.07, 0.12, 0.17) if v < _hills(u, seed, 0.055, 0.028) else colour
    if place == 7:
        s = _stars(u, v, seed, 0.13)
        x, y = u - spot, v - 0.23
        d = math.sqrt(x * x + y * y)
        if d < 0.085:
            land = noise(x * 22.0 + seed, y * 22.0 + 9.0)
            earth = (0.30, 0.62, 0.36) if land > 0.56 else (0.16, 0.42, 0.86)
            cloud = noise(x * 30.0 + 4.0, y * 60.0 + seed)
            earth = mix(earth, (0.97, 0.98, 1.0), smooth(0.62, 0.78, cloud))
            return scaled(earth, 1.05 - 5.0 * max(x - y, 0.0))
        if v < _hills(u, seed, 0.035, 0.02):
            return (0.40, 0.40, 0.42)
        return (0.012 + s, 0.012 + s, 0.022 + s)
    return mix((0.78, 0.86, 0.93), (0.52, 0.72, 0.92), h)


@jit
def _crater(x, z, seed, lx, lz):
    """Brightness factor of one crater a cell."""
    cx, cz = math.floor(x), math.floor(z)
    h = lattice(int(cx) + int(seed * 100.0), int(cz))
    radius = 0.16 + 0.22 * h
    x = x - cx - 0.5 - (h * 7.0 % 1.0 - 0.5) * 0.2
    z = z - cz - 0.5 - (h * 13.0 % 1.0 - 0.5) * 0.2
    d = math.sqrt(x * x + z * z) / radius
    if h < 0.25 or d > 1.25:
        return 1.0
    slope = (x * lx + z * lz) / radius
    bowl = (1.0 - smooth(0.85, 1.0, d)) * (0.30 * slope - 0.16)
    rim = smooth(0.85, 1.0, d) * (1.0 - smooth(1.02, 1.25, d)) * (0.12 - 0.16 * slope)
    return 1.0 + bowl + rim


@jit
def ground(place, x, z, seed, lx, lz):
    """Albedo of the ground at a world point."""
    far = clamp((z + 5.0) / 22.0, 0.0, 1.0)
    broad, fine = noise(x * 1.1 + seed * 7.0, z * 1.1), noise(x * 6.0 + seed, z * 6.0) - 0.5
    k = 0.88 + 0.20 * broad + 0.16 * fine * (1.0 - far)
    if place == 0:
        ix, iz = math.floor(x * 2.6), math.floor(z * 1.6)
        h = lattice(int(ix) + int(seed * 50.0), int(iz))
        u, v = x * 2.6 - ix - 0.2 - 0.6 * h, (z * 1.6 - iz - 0.5) * 1.6
        if h > 0.86 and u * u + v * v < 0.016:
            return (0.99, 0.97, 0.88) if h > 0.93 else (0.99, 0.85, 0.35)
        return scaled(mix((0.42, 0.70, 0.27), (0.50, 0.74, 0.30), broad), k)
    if place == 1:
        sea = z - 2.4 - 0.28 * math.sin(x * 0.9 + seed) - 0.1 * math.sin(x * 2.3 + seed * 3.0)
        if sea < 0.0:
            return scaled((0.95, 0.84, 0.60), k - 0.14 * smooth(-0.5, 0.0, sea))
        if sea < 0.22:
            return (0.96, 0.98, 0.98)
        wave = 0.94 + 0.16 * (noise(x * 1.1 + seed, z * 4.5) - 0.5)
        wave += 0.18 * smooth(0.72, 0.80, noise(x * 0.9, z * 3.3 + seed * 9.0))
        return scaled(mix((0.34, 0.78, 0.80), (0.13, 0.50, 0.72), smooth(0.2, 5.0, sea)), wave)
    if place == 2:
        return scaled((0.93, 0.955, 0.99), 0.91 + 0.10 * broad + 0.04 * fine)
    if place == 3:
        ripple = math.sin(z * 7.0 + 2.2 * math.sin(x * 1.2 + seed) + 3.0 * broad)
        return scaled((0.94, 0.66, 0.36), 0.90 + 0.10 * broad + 0.075 * ripple * (1.0 - far))
    if place == 4:
        return scaled((0.25, 0.38, 0.31), k)
    if place == ROOM:
        u = x * 1.5 + seed
        board = math.floor(u)
        v = z * 0.33 + 0.37 * (board % 3.0)
        k = 0.86 + 0.22 * lattice(int(board), int(math.floor(v))) + 0.10 * fine
        seam = u - board < 0.045 or v - math.floor(v) < 0.012
        return scaled((0.71, 0.46, 0.27), k * (0.70 if seam else 1.0))
    if place == STREET:
        if z > 3.2:
            seam = (x * 0.8 + seed) % 1.0 < 0.05 or z % 1.2 < 0.05
            return scaled((0.74, 0.72, 0.69), (0.86 if seam else 1.0) * (0.95 + 0.1 * broad))
        if z > 3.0:
            return (0.86, 0.85, 0.82)
        dash = (x * 0.42 + seed) % 1.0 < 0.55
        if (dash and -1.62 < z < -1.42) or 2.35 < z < 2.5:
            return (0.95, 0.93, 0.85) if z < 0.0 else (0.95, 0.79, 0.28)
        return scaled((0.38, 0.39, 0.43), 0.90 + 0.12 * broad + 0.16 * fine)
    pits = _crater(x * 0.55 + seed, z * 0.55, seed, lx, lz)
    pits *= _crater(x * 1.35 + seed * 3.0, z * 1.35 + 5.0, seed + 1.0, lx, lz)
    return scaled((0.66, 0.66, 0.68), (0.90 + 0.12 * broad + 0.10 * fine) * pits)


@jit
def haze_of(place):
    """Colour the ground fades to far away, and how much of it (0 indoors)."""
    if place == 0:
        return (0.55, 0.74, 0.50), 0.8
    if place == 1:
        return (0.42, 0.72, 0.86), 0.7
    if place == 2:
        return (0.88, 0.92, 0.98), 1.0
    if place == 3:
        return (0.93, 0.70, 0.46), 0.9
    if place == 4:
        return (0.11, 0.16, 0.24), 1.0
    return (0.40, 0.40, 0.42), 0.6 if place == 7 else 0.0
