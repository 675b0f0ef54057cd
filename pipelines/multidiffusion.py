"""MultiDiffusion: every region is denoised with words of its own, and the results are averaged.

Bar-Tal, Yariv, Lipman, Dekel. MultiDiffusion: Fusing diffusion paths for controlled image
generation. ICML 2023, arXiv 2302.08113, section 4.2 (region-based generation) with bootstrapping.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.diffusion import ddim
from pipelines.diffusion.guidance import classifier_free
from pipelines.edits import Counter, report
from pipelines.layouts import Layout
from pipelines.method_params import MultiDiffusionParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_noise, sub_seed
from pipelines.painting import Paintings, starting_noise
from pipelines.results import OnStep


@torch.no_grad()
def multidiffusion(
    model: LatentDiffusion,
    layouts: Sequence[Layout],
    params: MultiDiffusionParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Paintings:
    """Paint one picture for each layout; the prompt fills what no segment covers.

    During bootstrapping each segment is denoised in front of a backdrop of one random colour, so
    that its object fits inside the segment; backdrops and starting noise come from `seeds`.
    """
    eps = Counter(model.eps)
    schedule, size = model.schedule, model.latent_shape[-1]
    grid = schedule.grid(params.num_steps, 1.0)
    moves = len(grid) - 1
    owners, texts, masks = regions(layouts, size)
    masks = masks.to(model.device)  # (R, 1, h, w), over all regions of all layouts
    is_segment = torch.tensor([text is not None for text in texts], device=model.device)
    prompts = [
        layouts[owner].text if text is None else text
        for owner, text in zip(owners, texts, strict=True)
    ]
    denoise = classifier_free(
        eps, model.embed_text(prompts), model.embed_text([""]), params.guidance_scale
    )
    owner = torch.tensor(owners, device=model.device)
    noise = starting_noise(model, seeds)  # (B, C, h, w)
    latents = noise
    backdrops = colour_latents(
        model, [sub_seed(seeds[o], "backdrop", r) for r, o in enumerate(owners)]
    )
    tell = report(on_step, "painting", model)
    for i in reversed(range(moves)):
        t, s = grid[i + 1], grid[i]
        views = latents[owner]  # (R, C, h, w)
        if moves - 1 - i < params.bootstrapping * moves:
            behind = schedule.add_noise(backdrops, noise[owner], t)
            alone = masks * views + (1 - masks) * behind
            views = torch.where(is_segment.view(-1, 1, 1, 1), alone, views)
        moved = ddim.step(views, denoise(views, t), t, s, schedule)
        total = torch.zeros_like(latents).index_add_(0, owner, moved * masks)
        count = torch.zeros_like(latents[:, :1]).index_add_(0, owner, masks)
        latents = total / count
        if tell is not None:
            tell(moves - 1 - i, moves, latents)
    return Paintings(model.decode_latents(latents), network_evaluations=eps.samples)


def regions(layouts: Sequence[Layout], size: int) -> tuple[list[int], list[str | None], Tensor]:
    """Return (whose, words or None for the prompt's part, masks (R, 1, size, size)) of all regions.

    Masks are {0, 1} at latent size by nearest neighbour, and cover every cell of each layout; the
    prompt's part comes first, and is left out where segments cover everything.
    """
    owners: list[int] = []
    texts: list[str | None] = []
    masks = []
    for b, layout in enumerate(layouts):
        labels = torch.from_numpy(layout.labels)[None, None].float()
        labels = torch.nn.functional.interpolate(labels, (size, size), mode="nearest")[0, 0]
        words: list[str | None] = [None, *(segment.text for segment in layout.segments)]
        for i, text in enumerate(words):
            mask = (labels == i).float()
            if mask.any():
                owners.append(b)
                texts.append(text)
                masks.append(mask[None])
    return owners, texts, torch.stack(masks)


def colour_latents(model: LatentDiffusion, seeds: Sequence[int]) -> Tensor:
    """Return the latents of pictures of one random colour each, (R, C, h, w)."""
    unit = torch.zeros(1, device=model.device)
    colours = torch.distributions.Normal(0.0, 1.0).cdf(seeded_noise((3, 1, 1), seeds, unit))
    images = (2 * colours - 1).expand(-1, -1, model.resolution, model.resolution)
    return model.encode_images(images)
