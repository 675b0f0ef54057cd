"""MultiDiffusion: every region is denoised with words of its own, and the results are averaged.

Bar-Tal, Yariv, Lipman, Dekel. MultiDiffusion: Fusing diffusion paths for controlled image
generation. ICML 2023, arXiv 2302.08113, section 4.2 (region-based generation) with bootstrapping.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

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
    parts, masks = regions(layouts, size)
    masks = masks.to(model.device)  # (R, 1, h, w), over all regions of all layouts
    owner, label = torch.tensor(parts, device=model.device).unbind(1)
    prompts = [layouts[b].segments[i - 1].text if i else layouts[b].text for b, i in parts]
    negative = model.embed_text([params.negative_prompt])
    denoise = classifier_free(eps, model.embed_text(prompts), negative, params.guidance_scale)
    noise = starting_noise(model, seeds)  # (B, C, h, w)
    latents = noise
    backdrops = colour_latents(model, [sub_seed(seeds[b], "backdrop", i) for b, i in parts])
    tell = report(on_step, "painting", model)
    for i in reversed(range(moves)):
        t, s = grid[i + 1], grid[i]
        views = latents[owner]  # (R, C, h, w)
        if moves - 1 - i < params.bootstrapping * moves:
            behind = schedule.add_noise(backdrops, noise[owner], t)
            alone = masks * views + (1 - masks) * behind
            views = torch.where(label.view(-1, 1, 1, 1) > 0, alone, views)
        moved = ddim.step(views, denoise(views, t), t, s, schedule)
        total = torch.zeros_like(latents).index_add_(0, owner, moved * masks)
        count = torch.zeros_like(latents[:, :1]).index_add_(0, owner, masks)
        latents = total / count
        if tell is not None:
            tell(moves - 1 - i, moves, latents)
    return Paintings(model.decode_latents(latents), network_evaluations=eps.samples)


def regions(layouts: Sequence[Layout], size: int) -> tuple[list[tuple[int, int]], Tensor]:
    """Return (layout, label) and mask of every region: R pairs, and (R, 1, size, size) in {0, 1}.

    Label 0 is what the prompt fills, i is segment i - 1. The masks, by nearest neighbour, cover
    every cell of each layout once; a segment too thin for that takes the cells it covers most.
    """
    parts: list[tuple[int, int]] = []
    masks = []
    for b, layout in enumerate(layouts):
        painted = torch.from_numpy(layout.labels)[None, None].float()
        labels = F.interpolate(painted, (size, size))
        for i in range(1, len(layout.segments) + 1):
            if not (labels == i).any():
                share = F.adaptive_avg_pool2d((painted == i).float(), (size, size))
                labels[(share > 0) & (share >= share.max() / 2)] = i
        for i in range(len(layout.segments) + 1):
            mask = (labels[0] == i).float()  # (1, size, size)
            if mask.any():
                parts.append((b, i))
                masks.append(mask)
    return parts, torch.stack(masks)


def colour_latents(model: LatentDiffusion, seeds: Sequence[int]) -> Tensor:
    """Return the latents of pictures of one random colour each, (R, C, h, w)."""
    unit = torch.zeros(1, device=model.device)
    colours = torch.distributions.Normal(0.0, 1.0).cdf(seeded_noise((3, 1, 1), seeds, unit))
    images = (2 * colours - 1).expand(-1, -1, model.resolution, model.resolution)
    return model.encode_images(images)
