"""Compiled finishes: what a paint looks like at a point of a thing.

The numbers are those of `pipelines.data.primitives`: PLAIN, ZEBRA, BLOTCHES and so on.
"""

from __future__ import annotations

import math

from pipelines.data.sdf import clamp, jit, lattice, mix, noise, scaled


@jit
def surface(prims, i, x, y, z, nx, ny, nz, seed):
    """Colour of a primitive's paint at a local point with local normal."""
    main, second, kind, f = (
        (prims[i, 3], prims[i, 4], prims[i, 5]),
        (prims[i, 6], prims[i, 7], prims[i, 8]),
        int(prims[i, 1]),
        prims[i, 31],
    )
    if kind == 1:  # zebra: upright wavy stripes
        w = math.sin((x + 0.05 * math.sin(y * 9.0 + seed)) * 27.0 + y * 5.0)
        return mix(main, second, clamp(w * 3.0 + 0.4, 0.0, 1.0))
    if kind == 2:  # cow: blotches
        n = noise(x * 4.2 + seed * 13.0, y * 4.2 + z * 2.5 + 7.0)
        return mix(main, second, clamp((n - 0.54) * 14.0, 0.0, 1.0))
    if kind == 3:  # leaves, wool
        return scaled(main, 0.84 + 0.3 * noise(x * 9.0 + seed, z * 9.0 + y * 9.0))
    if kind == 4:  # pattern: slanted stripes
        w = math.sin((y + 0.45 * x) * f * 5.6 + seed)
        return mix(main, second, clamp(w * 5.0 - 0.9, 0.0, 1.0))
    if kind == 5:  # pattern: dots, on the plane the surface faces most
        ax, ay, az = abs(nx), abs(ny) * 0.9, abs(nz)
        u, v = (x, y) if az >= ax and az >= ay else ((z, y) if ax >= ay else (x, z))
        u, v = u * f * 0.95 + seed, v * f * 0.95 + 0.3
        u += 0.5 * (math.floor(v) % 2.0)
        u, v = u - math.floor(u) - 0.5, v - math.floor(v) - 0.5
        return mix(main, second, clamp((0.33 - math.sqrt(u * u + v * v)) * 12.0, 0.0, 1.0))
    if kind == 6:  # fruit skin: blush from below
        n = noise(x * 3.0 + seed, y * 3.0 + z * 2.0)
        return mix(main, second, clamp(0.9 - y * 1.1 + (n - 0.5) * 0.8, 0.0, 1.0) * 0.6)
    if kind == 7:  # broad level bands
        w = math.sin(y * prims[i, 30])
        return mix(main, second, clamp(w * 14.0 + 0.5, 0.0, 1.0))
    if kind == 8:  # courses of stone
        row = math.floor(y * 8.0)
        u = (x if abs(nz) > abs(nx) else z) * 5.0 + 0.5 * (row % 2.0)
        joint = min(u - math.floor(u), (y * 8.0 - row) * 0.6)
        return scaled(
            main,
            (0.93 + 0.12 * lattice(int(math.floor(u)), int(row))) * (0.84 if joint < 0.07 else 1.0),
        )
    return main
