"""Prompt-to-Prompt: edit by decoding with the attention maps that the source text has.

Hertz, Mokady, Tenenbaum, Aberman, Pritch, Cohen-Or. Prompt-to-Prompt image editing with
cross-attention control. ICLR 2023, arXiv 2208.01626, section 3 and algorithm 1.

    paper           here
    P, P*           source, target
    M_t, M*_t       the source's and the target's part of the maps in `Control.__call__`
    tau             params.cross_steps (of the steps with injection)
    A(j)            Alignment.origin: which source token a target token stands for
    f^i             params.reweight, of the words params.reweighted (of new ones without any)

The source branch runs on the DDIM encoding of the picture at every level rather than on its own
decoding (section 5.2 inverts once and decodes both): the maps are then those of the picture itself,
and nothing drifts. Cost: 3 evaluations a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.diffusion.attention import edited, phrase_tokens
from pipelines.diffusion.solvers import SOLVERS
from pipelines.edits import Counter, Edits, encoded_images, inversion, latent_mask, report
from pipelines.errors import InputError
from pipelines.memo import Memo
from pipelines.method_params import PromptToPromptParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.results import OnStep

BLEND_SIZE = 16
"""Side of the maps that decide the local blend, and of the finest self-attention that is injected
(finer is texture), as in the release for latents of 64 cells a side; see `coarse_side`."""
BLEND_FROM = 0.2


@torch.no_grad()
def prompt_to_prompt(
    model: LatentDiffusion,
    images: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: PromptToPromptParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    masks: Tensor | None = None,
) -> Edits:
    """Edit images (B, 3, S, S) in [-1, 1]; deterministic, so that `seeds` play no part.

    `masks` (B, S, S), given by a painter, replace the local blend.

    Raises:
        ValueError: more pictures than one call of the UNet takes.
    """
    if 3 * len(images) > model.max_batch:
        raise ValueError(f"at most {model.max_batch // 3} pictures at once, got {len(images)}")
    encoder = Counter(model.eps)
    latents0 = encoded_images(model, images, memo)
    trajectory = inversion(model, encoder, latents0, params, on_step=on_step, memo=memo)
    grid = model.schedule.grid(params.num_steps, params.strength)
    moves = len(grid) - 1

    pairs = [align(model, *pair, params.reweighted) for pair in zip(source, target, strict=True)]
    control = Control(pairs, params, coarse_side(model.latent_shape[-1]))
    eps = Counter(model.with_unet(edited(model.unet, control)).eps)
    texts = [*source, *[params.negative_prompt] * len(images), *target]
    embeds = model.embed_text(texts)

    def denoise(latents: Tensor, t: int | Tensor) -> Tensor:
        i = grid.index(int(t))
        control.done = 1 - i / moves
        together = torch.cat([trajectory[i], latents, latents])
        _, eps_negative, eps_target = eps(together, t, embeds).chunk(3)
        return eps_negative + params.guidance_scale * (eps_target - eps_negative)

    def blend(latents: Tensor, i: int) -> Tensor:
        if masks is not None:
            mask = latent_mask(masks, latents.shape[-1])
        elif params.local_blend == 0 or 1 - i / moves < BLEND_FROM:
            return latents
        else:
            mask = control.mask(latents.shape[-1])
        return torch.where(mask > 0, latents, trajectory[i])

    decode = SOLVERS[params.solver][1]
    tell = report(on_step, "decoding", model)
    latents = decode(denoise, trajectory[-1], grid, model.schedule, after_step=blend, on_step=tell)
    if masks is None and params.local_blend > 0:
        masks = control.mask(images.shape[-1])[:, 0]
    return Edits(
        model.decode_latents(latents), masks, network_evaluations=encoder.samples + eps.samples
    )


def coarse_side(latent_side: int) -> int:
    """Return the side of the maps that stand for BLEND_SIZE in a model of another size."""
    return max(BLEND_SIZE, latent_side // 4)


@dataclass(frozen=True)
class Alignment:
    """How the tokens of a target text relate to those of its source text.

    Attributes:
        origin: (L, L), column j mixes the source tokens that target token j stands for (A(j)).
        swapped, added: (L,) bool, target tokens that replace others, or stand for none.
        gone: (L,) bool, source tokens that the target does not have.
        scaled: (L,) bool, target tokens whose attention is reweighted.
    """

    origin: Tensor
    swapped: Tensor
    added: Tensor
    gone: Tensor
    scaled: Tensor


def align(model: LatentDiffusion, source: str, target: str, reweighted: str = "") -> Alignment:
    """Align the tokens of two texts: the longest common parts stand for each other.

    Raises:
        InputError: the words to reweight are not in the target.
    """
    length = model.tokenizer.model_max_length
    ids = [
        model.tokenizer(t, truncation=True, max_length=length).input_ids for t in (source, target)
    ]
    origin = torch.zeros(length, length)
    swapped, added, gone = (torch.zeros(length, dtype=torch.bool) for _ in range(3))
    for kind, a, b, c, d in SequenceMatcher(None, *ids, autojunk=False).get_opcodes():
        if kind in ("equal", "replace") and b - a == d - c:
            origin[range(a, b), range(c, d)] = 1
        elif kind == "replace":
            origin[a:b, c:d] = 1 / (d - c)  # the words' attention is shared out
        swapped[c:d] |= kind == "replace"
        added[c:d] |= kind == "insert"
        gone[a:b] |= kind in ("replace", "delete")
    for j in range(len(ids[1]), length):  # padding stands for padding
        origin[min(max(j, len(ids[0])), length - 1), j] = 1
    scaled = swapped | added
    if reweighted.strip():
        try:
            tokens = phrase_tokens(model.tokenizer, target, reweighted)
        except ValueError as error:
            raise InputError(f"Words to reweight: {error}") from error
        scaled = torch.zeros(length, dtype=torch.bool)
        scaled[tokens] = True
    device = model.device
    return Alignment(*(x.to(device) for x in (origin, swapped, added, gone, scaled)))


@dataclass
class Control:
    """Edits the maps of a batch [source, negative prompt, target]; one object for one request.

    Attributes:
        side: of the maps that are remembered, and of the finest self-attention that is injected.
        done: part of the steps behind, in [0, 1).
        seen: (B, side, side), attention to the words that differ or are reweighted, summed over
            calls.
    """

    alignments: Sequence[Alignment]
    params: PromptToPromptParams
    side: int = BLEND_SIZE
    done: float = 0.0
    seen: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Stack the alignments to (B, ...)."""
        parts = zip(*(vars(one).values() for one in self.alignments), strict=True)
        self.origin, swapped, added, self.gone, self.scaled = map(torch.stack, parts)
        self.new = swapped | added
        self.own = self.new if self.params.kind == "refine" else added  # keep their own maps

    def __call__(self, maps: Tensor, is_text: bool) -> Tensor:
        """Return the maps to use, (3B, heads, pixels, tokens)."""
        source, negative, target = maps.chunk(3)
        if not is_text:
            if self.done < self.params.self_steps and maps.shape[2] <= self.side**2:
                target = source
            return torch.cat([source, negative, target])
        if maps.shape[2] == self.side**2:
            self._remember(source, target)
        if self.done < self.params.cross_steps:
            injected = source @ self.origin.unsqueeze(1).to(source.dtype)
            target = torch.where(self.own[:, None, None], target, injected)
        factor = torch.where(self.scaled, self.params.reweight, 1.0)[:, None, None]
        return torch.cat([source, negative, target * factor.to(target.dtype)])

    def mask(self, size: int) -> Tensor:
        """Return where the words that differ are seen, (B, 1, size, size) in {0, 1}.

        The local blend: mean maps, widened by one cell, above a part of their maximum.
        """
        if not self.seen:
            return torch.ones(len(self.alignments), 1, size, size, device=self.origin.device)
        masks = []
        for summed in self.seen:
            wide = F.max_pool2d(summed.unsqueeze(1), 3, stride=1, padding=1)
            wide = F.interpolate(wide, (size, size), mode="bilinear")
            peak = wide.amax((2, 3), keepdim=True)
            masks.append((wide > self.params.local_blend * peak).float())
        return torch.stack(masks).amax(0)

    def _remember(self, source: Tensor, target: Tensor) -> None:
        """Add the attention of the tokens that differ or are reweighted, of both texts."""
        watched = self.new | self.scaled if self.params.reweight != 1 else self.new
        for k, (maps, words) in enumerate(((source, self.gone), (target, watched))):
            shown = (maps.float().mean(1) * words[:, None]).sum(-1)  # (B, pixels)
            shown = shown.unflatten(1, (self.side, self.side))
            if len(self.seen) <= k:
                self.seen.append(torch.zeros_like(shown))
            self.seen[k] = self.seen[k] + shown
