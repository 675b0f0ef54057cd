"""The second procedural world: seeded clay heads, their part labels and captions.

spec (what a face is) <- features, headwear <- sculptor <- renderer (field, paint) <- captions.
`sample_face(seed)` and `render_face(face)` are the way in.
"""

from pipelines.data.faces.sculptor import FaceRender, render_face
from pipelines.data.faces.spec import (
    CHOICES,
    PARTS,
    RANGES,
    Face,
    hidden_by,
    sample_face,
)

__all__ = [
    "CHOICES",
    "PARTS",
    "RANGES",
    "Face",
    "FaceRender",
    "hidden_by",
    "render_face",
    "sample_face",
]
