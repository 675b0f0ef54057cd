"""Compiled looks of clay heads: what colour and which part a point of a surface shows.

`looks` is the vector of numbers that `pipelines.data.faces.features` lays out (the constants
below); points are in the frame of the head: x to the viewer's right, y up, z out of the face.
"""

from __future__ import annotations

import math

from pipelines.data.faces.field import wave
from pipelines.data.sdf import clamp, inline, jit, mix, scaled, smooth

SKIN, BROWS, EYES, GLASSES, EARS, EARRINGS, NOSE, MOUTH, LIPS, NECK, CLOTH, HAIR, HAT, BEARD = (
    range(1, 15)
)  # labels: places in spec.PARTS
SKIN_COLOUR, BLUSH, WRINKLES, MOUTH_Y, MOUTH_WIDTH, LIFT, OPENING, LIP = 0, 3, 4, 5, 6, 7, 8, 9
LIP_COLOUR, IRIS_COLOUR, EYE_RADIUS, OPENNESS, GAZE_X, GAZE_Y, LIGHT_X = 10, 13, 16, 17, 18, 19, 20
LOOKS = 21
EYE_X, EYE_Y = 0.26, 0.08
LENS = 10  # column of a row: 1 where its paint is a dark lens


@inline
def _rgb(looks, i):
    return (looks[i], looks[i + 1], looks[i + 2])


@inline
def _line(distance, width):
    """Strength of a stroke at a distance from its middle."""
    return smooth(width, 0.3 * width, abs(distance))


@jit
def _wrinkles(looks, x, y, z):
    """Strength of the wrinkles of forehead, eyes and cheeks in [0, 1]."""
    if looks[WRINKLES] <= 0.0 or z < 0.05:
        return 0.0
    ax, r = abs(x), looks[EYE_RADIUS]
    k = (_line(y - 0.50 + 0.2 * x * x, 0.028) + _line(y - 0.60 + 0.2 * x * x, 0.028)) * smooth(
        0.42, 0.22, ax
    )
    k += (
        _line(ax - 0.17 + 0.4 * (y + 0.14), 0.032) * smooth(-0.14, -0.20, y) * smooth(-0.5, -0.4, y)
    )
    for fan in range(-1, 2):
        foot = _line(y - EYE_Y - 0.38 * fan * (ax - EYE_X), 0.026)
        k += (
            foot
            * smooth(EYE_X + r + 0.01, EYE_X + r + 0.05, ax)
            * smooth(EYE_X + r + 0.17, EYE_X + r + 0.12, ax)
        )
    bag = y - EYE_Y + r + 0.07 - 1.2 * (ax - EYE_X) * (ax - EYE_X)
    k += 0.8 * _line(bag, 0.026) * smooth(0.14, 0.09, abs(ax - EYE_X))
    return clamp(k, 0.0, 1.0) * looks[WRINKLES]


@jit
def _mouth(looks, x, y):
    """Colour and part of the mouth at a point of the face; red is negative outside it."""
    width, opening, base = looks[MOUTH_WIDTH], looks[OPENING], _rgb(looks, LIP_COLOUR)
    q = x / width
    q *= q
    middle = looks[MOUTH_Y] + looks[LIFT] * (q - 0.35)
    arch = max(1.0 - q, 0.0)
    if arch > 0.0:
        up, low = middle + 0.05 * opening * arch + 0.011, middle - 0.20 * opening * arch - 0.011
        if low < y < up:
            if up - low > 0.075 and y > up - 0.06:
                return (0.97, 0.96, 0.93), MOUTH
            if up - low > 0.13 and y < low + 0.07 * arch:
                return (0.84, 0.36, 0.36), MOUTH
            return ((0.26, 0.06, 0.07), MOUTH) if opening > 0.08 else (scaled(base, 0.42), LIPS)
        lip = looks[LIP] * (0.30 + 0.70 * math.sqrt(arch))
        if up <= y < up + 0.8 * lip:
            return scaled(base, 0.90), LIPS
        if low - lip < y <= low:
            shine = 0.16 * _line(y - low + 0.45 * lip, 0.5 * lip) * smooth(0.35, 0.05, q)
            return mix(base, (1.0, 0.95, 0.95), shine), LIPS
    return (-1.0, 0.0, 0.0), SKIN


@jit
def _skin(looks, x, y, z):
    """Colour and part of the face: blush, wrinkles and the mouth are painted on it."""
    colour, part = _rgb(looks, SKIN_COLOUR), SKIN
    if z < 0.05:
        return colour, part
    dx, dy = abs(x) - 0.36, y + 0.16
    blush = looks[BLUSH] * math.exp(-(dx * dx + dy * dy) / 0.022)
    colour = mix(colour, (colour[0], colour[1] * 0.66, colour[2] * 0.62), blush)
    colour = scaled(colour, 1.0 - 0.5 * _wrinkles(looks, x, y, z))
    q = abs(x) - looks[MOUTH_WIDTH] - 0.012
    corner = y - looks[MOUTH_Y] - 0.65 * looks[LIFT]
    colour = scaled(colour, 1.0 - 0.4 * smooth(0.0022, 0.0004, q * q + corner * corner))
    mouth, inside = _mouth(looks, x, y)
    return (mouth, inside) if mouth[0] >= 0.0 else (colour, part)


@jit
def _eye(looks, x, y):
    """Colour and part of an eyeball: lids, lashes, white, iris, pupil and the light in it."""
    r, openness, skin = looks[EYE_RADIUS], looks[OPENNESS], _rgb(looks, SKIN_COLOUR)
    x -= EYE_X if x > 0.0 else -EYE_X
    u, v = x / r, (y - EYE_Y) / (1.08 * r)
    lid = openness - 0.15 * u * u
    if v > lid + 0.17 or v < -0.80 - 0.06 * openness:
        return scaled(skin, 0.90), SKIN
    if v > lid:
        return (0.13, 0.09, 0.09), EYES
    hx, hy = u - 0.30 * looks[GAZE_X] - 0.20 * looks[LIGHT_X], v - 0.20 * looks[GAZE_Y] - 0.20
    u, v = u - 0.30 * looks[GAZE_X], v - 0.20 * looks[GAZE_Y]
    q = math.sqrt(u * u + v * v)
    iris = scaled(_rgb(looks, IRIS_COLOUR), 1.2 - 0.55 * smooth(0.40, 0.58, q))
    colour = mix((0.97, 0.97, 0.96), iris, smooth(0.64, 0.56, q))
    colour = mix(colour, (0.03, 0.03, 0.04), smooth(0.33, 0.26, q))
    return mix(colour, (1.3, 1.3, 1.3), smooth(0.24, 0.14, math.sqrt(hx * hx + hy * hy))), EYES


@jit
def paint(rows, i, looks, x, y, z):
    """Return colour in [0, 1] before light, and part, of row `i` at a point."""
    main, part = (rows[i, 3], rows[i, 4], rows[i, 5]), int(rows[i, 1])
    if part == SKIN:
        return _skin(looks, x, y, z)
    if part == EYES:
        return _eye(looks, x, y)
    if part == HAIR:
        return scaled(main, 0.92 + 0.14 * wave(x * 26.0 + y * 5.0 + wave(y * 7.0))), part
    if part == BEARD:
        return scaled(main, 0.92 + 0.12 * wave(x * 34.0) * wave(y * 26.0 + 9.0 * x)), part
    if part == GLASSES and rows[i, LENS] > 0.0:
        streak = y - EYE_Y - 0.7 * (abs(x) - EYE_X)
        sheen = 0.45 * _line(streak - 0.03, 0.05) + 0.3 * _line(streak + 0.07, 0.028)
        return mix(main, (0.75, 0.82, 0.92), sheen), part
    return main, part
