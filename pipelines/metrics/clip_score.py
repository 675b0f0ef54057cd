"""CLIPScore: how well a text fits a picture in the eyes of one CLIP."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pipelines.models.dual_encoder import DualEncoder

WEIGHT = 2.5


def clip_score(clip: DualEncoder, images: Tensor, texts: Sequence[str]) -> Tensor:
    """Return 2.5 max(cos, 0) of each picture (B, 3, S, S) in [-1, 1] and its text, (B,).

    Hessel et al. 2021, arXiv 2104.08718, section 3, without its prompt, which toy CLIPs never read.
    """
    cosines = (clip.embed_images(images) * clip.embed_texts(texts)).sum(-1)
    return WEIGHT * cosines.clamp(min=0)
