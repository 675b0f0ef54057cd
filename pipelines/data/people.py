"""Persons among the clay faces: what stays when somebody turns, laughs, dresses or ages.

A person is IDENTITY: the width of the face, the skin, eyes and nose, and how thick the brows grow.
Pose, light, background and shirt are the picture's; smile, mouth, lids and the tilt of the brows
are expression; hair, beard, lipstick, glasses, hat and earrings are worn or grown. Age is left
out: an old picture of somebody is a picture of the same person, and CLIP2GAN edits age while its
identity loss asks for the same face. So is what a seed decides (chin, gaze, parting), since much
of it is pose and hair.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.data.faces import Face, sample_face

IDENTITY = ("face_width", "skin", "eye_size", "eye_colour", "nose_size", "brow_thickness")


def picture_of(person: int, view: int) -> Face:
    """Return one of the pictures of a person, who is the one of `sample_face(person)`.

    Everything that is not in IDENTITY is drawn anew for every view.
    """
    rng = np.random.default_rng((person, view, 0x1D))
    kept = sample_face(person)
    drawn = sample_face(int(rng.integers(2**62)))
    return replace(drawn, **{name: getattr(kept, name) for name in IDENTITY})
