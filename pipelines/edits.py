"""What the text-edit methods share below them: their result, call counting, cached inversion."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.diffusion.guidance import condition
from pipelines.diffusion.schedule import EpsModel
from pipelines.diffusion.solvers import SOLVERS
from pipelines.images import to_pil
from pipelines.memo import Memo
from pipelines.method_params import SamplingParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.results import OnStep, Step


@dataclass(frozen=True, eq=False)
class Edits:
    """What a text-edit method returns for a batch.

    Attributes:
        images: (B, 3, S, S) in [-1, 1], decoded; nothing is pasted yet.
        masks: (B, S, S) in {0, 1}, 1 = edit; None for methods without a mask.
        difference: (B, h, w) in [0, 1], what `masks` was cut from; None as above.
        reconstruct: computes (B, 3, S, S), what decoding without an edit gives back; None for
            methods that do not encode.
        network_evaluations: UNet evaluations, counted by sample, over the whole batch.
        snapshots: {step: (B, 3, S, S)} of methods that show their way.
        diagnostics: further numbers and lists that JSON can hold.
    """

    images: Tensor
    masks: Tensor | None = None
    difference: Tensor | None = None
    reconstruct: Callable[[], Tensor] | None = None
    network_evaluations: int = 0
    snapshots: Mapping[int, Tensor] = field(default_factory=dict)
    diagnostics: Mapping[str, object] = field(default_factory=dict)


class Counter:
    """An EpsModel that counts the samples it evaluates."""

    def __init__(self, eps_model: EpsModel) -> None:
        self.eps_model = eps_model
        self.samples = 0

    def __call__(self, latents: Tensor, t: int | Tensor, text_embeds: Tensor) -> Tensor:
        """Return the wrapped model's eps."""
        self.samples += len(latents)
        return self.eps_model(latents, t, text_embeds)


def report(
    on_step: OnStep | None, stage: str, model: LatentDiffusion
) -> Callable[..., None] | None:
    """Return the callback of the diffusion core that tells `on_step` about `stage`.

    It takes (index, total, latents), and what attention sees where a method knows.
    """
    if on_step is None:
        return None

    def tell(index: int, total: int, latents: Tensor, seen: Tensor | None = None) -> None:
        def preview():
            with torch.no_grad():
                return to_pil(model.decode_latents(latents[:1]))[0]

        maps = None if seen is None else seen[0].float().cpu().numpy()
        on_step(Step(stage, index + 1, total, preview, maps))

    return tell


def content_key(*parts: Tensor | str | float | int | None) -> tuple[object, ...]:
    """Return a hashable key in which tensors stand as the hash of their bytes."""
    return tuple(
        hashlib.sha256(part.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        if isinstance(part, Tensor)
        else part
        for part in parts
    )


def encoded_images(model: LatentDiffusion, images: Tensor, memo: Memo | None) -> Tensor:
    """Return latents0 of images, from the memo where this picture was seen before."""
    if memo is None:
        return model.encode_images(images)
    key = content_key("latents0", model.fingerprint, images)
    return memo.get(key, lambda: model.encode_images(images), nbytes_of)


def inversion(
    model: LatentDiffusion,
    eps_model: EpsModel,
    latents0: Tensor,
    params: SamplingParams,
    *,
    memo: Memo | None,
    on_step: OnStep | None,
) -> tuple[Tensor, ...]:
    """Return the unconditional inversion of latents0, entry i at level grid[i] (DiffEdit, step 2).

    It depends on the picture and the model alone, so the memo serves every later edit of the same
    picture; a trajectory inverted to a larger strength serves every smaller one.
    """
    grid = model.schedule.grid(params.num_steps, params.strength)
    encode = SOLVERS[params.solver][0]

    def compute() -> tuple[Tensor, ...]:
        denoise = condition(eps_model, model.embed_text([""]))
        tell = report(on_step, "encoding", model)
        return tuple(encode(denoise, latents0, grid, model.schedule, on_step=tell))

    if memo is None:
        return compute()
    key = content_key("inversion", model.fingerprint, latents0, params.num_steps, params.solver)
    trajectory = memo.get(key, compute, nbytes_of, accept=lambda known: len(known) >= len(grid))
    return trajectory[: len(grid)]


def nbytes_of(value: Tensor | tuple[Tensor, ...]) -> int:
    """Return the bytes of one tensor or of a tuple of them."""
    tensors = (value,) if isinstance(value, Tensor) else value
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def latent_mask(masks: Tensor, latent_size: int) -> Tensor:
    """Return masks (B, S, S) as (B, 1, h, h) in {0, 1}: a cell is 1 where any of its pixels is."""
    return F.adaptive_max_pool2d((masks > 0).float().unsqueeze(1), latent_size)
