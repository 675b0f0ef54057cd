"""Classifier guidance of DDIM sampling: what ZestGuide and its external rival have in common.

Dhariwal and Nichol 2021, arXiv 2105.05233, as Couairon et al. (thesis, chapter 6) use it: ordinary
guided DDIM steps alternate with steps down the gradient of a loss on the noisy latents (eq. 6.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.diffusion import ddim
from pipelines.diffusion.guidance import classifier_free
from pipelines.edits import Counter, latent_mask, report
from pipelines.method_params import ClassifierGuidanceParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.painting import Paintings, Words, painted_eps, starting_noise
from pipelines.results import OnStep

SMALLEST = 1e-6

Criterion = Callable[[Tensor, int], tuple[Tensor, Tensor, Tensor]]
"""(noisy latents, t) -> eps given the text (B, C, h, w), the loss of every image (B,), and the
segmentation it was computed from (B, K, H, W) in [0, 1]; the loss can be differentiated."""


@torch.no_grad()
def classifier_guidance(
    model: LatentDiffusion,
    words: Words,
    params: ClassifierGuidanceParams,
    criterion: Criterion,
    *,
    seeds: Sequence[int],
    paint_with_words: float = 0.0,
    initial: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Paintings:
    """Paint one picture for each text, led by the gradient of a loss on the noisy latents.

    Args:
        seeds: decide the starting noise, the only randomness.
        paint_with_words: its weight in the steps without gradient, as the criterion's own.
        initial: (B, 3, S, S) in [-1, 1]; then only cells that segments touch are painted, and the
            rest follows the noised pictures (blended diffusion, Avrahami et al. 2022, arXiv
            2111.14818, in latents).

    Raises:
        ValueError: more layouts than one call of the UNet takes.
    """
    if len(words.texts) > model.max_batch:
        raise ValueError(f"at most {model.max_batch} layouts at once, got {len(words.texts)}")
    text, negative = (model.embed_text(t) for t in (words.texts, [params.negative_prompt]))
    eps_model = Counter(painted_eps(model, model.unet, words, paint_with_words))
    eps_plain = Counter(model.eps)
    unguided = classifier_free(eps_model, text, negative, params.guidance_scale)
    tell = report(on_step, "painting", model)
    grid = model.schedule.grid(params.num_steps, 1.0)
    moves = len(grid) - 1
    noise = starting_noise(model, seeds)
    kept = None if initial is None else model.encode_images(initial)
    inside = latent_mask(words.masks.amax(1), noise.shape[-1]) > 0  # (B, 1, h, w)
    latents, losses, seen, gradients = noise, [], None, 0
    for i in reversed(range(moves)):
        t, s = grid[i + 1], grid[i]
        if kept is not None:
            latents = torch.where(inside, latents, model.schedule.add_noise(kept, noise, t))
        if params.eta == 0 or moves - 1 - i >= params.tau * moves:
            latents = ddim.step(latents, unguided(latents, t), t, s, model.schedule)
        else:
            with torch.enable_grad():
                leaf = latents.detach().requires_grad_()
                eps_text, loss, seen = criterion(leaf, t)
                (gradient,) = torch.autograd.grad(loss.sum(), leaf)
            eps, seen = eps_text.detach(), seen.detach()
            if params.guidance_scale != 1:
                eps_negative = eps_plain(latents, t, negative)
                eps = eps_negative + params.guidance_scale * (eps - eps_negative)
            latents = ddim.step(latents, eps, t, s, model.schedule)
            if kept is not None:
                gradient = gradient * inside  # what is overwritten must not set its scale
            if params.normalise_gradient:
                gradient = gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
            _, sigma = model.schedule.alpha_sigma(t, latents)
            latents = latents - params.eta * sigma * gradient  # eq. 6.5
            losses.append(tuple(loss.tolist()))
            gradients += len(latents)
        if tell is not None:
            tell(moves - 1 - i, moves, latents, seen)
    if kept is not None:
        latents = torch.where(inside, latents, kept)
    evaluations = eps_model.samples + eps_plain.samples + gradients
    return Paintings(model.decode_latents(latents), seen, tuple(losses), evaluations, gradients)


def cross_entropy(shown: Tensor, wanted: Tensor) -> Tensor:
    """Return the binary cross-entropy of maps (B, K, h, w) in [0, 1], (B, K)."""
    clamped = shown.clamp(SMALLEST, 1 - SMALLEST)
    return F.binary_cross_entropy(clamped, wanted, reduction="none").mean((2, 3))
