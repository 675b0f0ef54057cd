"""How well each CLIP finds the caption of a held-out picture, and the picture of a caption.

python -m pipelines.benchmarks clip [--world faces] [--n 1024] [--json FILE]

Recall at 1 among pools of 256 scenes, or faces, with their full captions; and how often a picture
prefers its caption to every text that contradicts it in one word, or fact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.benchmarks.report import Report, parser
from pipelines.data import captions, face_rewordings, faces, rewordings, scenes
from pipelines.data.faces import captions as face_captions
from pipelines.models.dual_encoder import DualEncoder
from pipelines.training.scene_data import HELD_OUT, SIZE_PX

POOL = 256
BATCH = 64
ENOUGH = 0.6


@dataclass(frozen=True)
class World:
    """How to draw something from a seed, render it, describe it, and describe it falsely.

    `kind` is that of the pack's components that know it.
    """

    sample: Callable[[int], Any]
    render: Callable[..., Any]
    caption: Callable[[Any], str]
    contradictions: Callable[[str], list[str]]
    kind: str


WORLDS = {
    "scenes": World(
        scenes.sample_scene,
        scenes.render,
        captions.caption,
        rewordings.contradictions,
        "dual_encoder",
    ),
    "faces": World(
        faces.sample_face,
        faces.render_face,
        face_captions.caption,
        face_rewordings.contradictions,
        "face_clip",
    ),
}


def held_out(world: World, first: int, count: int) -> tuple[list[str], Tensor]:
    """Return captions of what no training saw, and images (N, 3, H, W) in [-1, 1]."""
    drawn = [world.sample(HELD_OUT + first + i) for i in range(count)]
    pixels = np.stack([world.render(one, SIZE_PX).image for one in drawn])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return [world.caption(one) for one in drawn], images


def recall_at_1(queries: Tensor, candidates: Tensor) -> float:
    """Return how often candidate i is the one nearest to query i; both (N, D), unit vectors."""
    nearest = (queries @ candidates.T).argmax(1)
    return (nearest == torch.arange(len(queries), device=nearest.device)).float().mean().item()


def prefers_caption(encoder: DualEncoder, image: Tensor, text: str, others: list[str]) -> float:
    """Return 1 if `image` (D,) is nearer to its caption than to all that contradict it, else 0."""
    return float((encoder.embed_texts([text, *others]) @ image).argmax() == 0)


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Record the recalls of every CLIP of the toybox."""
    from pipelines.devices import pick
    from pipelines.packs import find

    options = parser(__doc__, n=4 * POOL)
    options.add_argument("--world", choices=WORLDS, default="scenes")
    args = options.parse_args(argv)
    if args.n % POOL:
        raise SystemExit(f"--n must be a multiple of {POOL}")
    pack, report = find("toybox"), Report("clip", seed=args.seed, path=args.json)
    world = WORLDS[args.world]
    texts, images = held_out(world, 500_000 * args.seed, args.n)
    suffix = "" if args.world == "scenes" else f" {args.world}"
    found = {}
    for role in [role for role, c in pack.components.items() if c.kind == world.kind]:
        encoder = DualEncoder.from_folder(pack.component(role).locate(), pick())
        pictures = torch.cat([encoder.embed_images(batch) for batch in images.split(BATCH)])
        words = encoder.embed_texts(texts)
        pools = list(zip(pictures.split(POOL), words.split(POOL), strict=True))
        setting = f"among {POOL}{suffix}"
        found[role] = report.add(
            "image_to_text_recall_at_1", role, [recall_at_1(p, w) for p, w in pools],
            setting=setting,
        )  # fmt: skip
        report.add(
            "text_to_image_recall_at_1", role, [recall_at_1(w, p) for p, w in pools],
            setting=setting,
        )  # fmt: skip
        chosen = [
            prefers_caption(encoder, picture, text, world.contradictions(text))
            for picture, text in zip(pictures[:POOL], texts, strict=False)
        ]
        report.add("prefers_true_caption", role, chosen, setting=f"to what contradicts it{suffix}")
    report.claim(
        f"image-to-text recall at 1 of at least {ENOUGH} for every CLIP{suffix}",
        min(found.values()) >= ENOUGH,
        ", ".join(f"{role} {value:.3f}" for role, value in found.items()),
    )


if __name__ == "__main__":
    main()
