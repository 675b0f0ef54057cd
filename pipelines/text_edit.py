"""Pictures in, pictures out: what the Text edit and Mask inspect tabs call.

Fits a photo of any size to the model's square, runs one method, pastes the result back so that
every pixel outside the mask keeps its bits, and counts time and network evaluations.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from pipelines import images as pictures
from pipelines import masks as mask_recipes
from pipelines.diffedit import difference_map, noise_level
from pipelines.diffusion.attention import PhraseError, capture, phrase_tokens
from pipelines.edits import Counter, encoded_images
from pipelines.errors import InputError
from pipelines.memo import Memo
from pipelines.method_params import MaskParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_noise, sub_seed
from pipelines.params import build
from pipelines.registry import METHODS
from pipelines.results import EditResult, OnStep

MAX_TEXT = 1000
MAX_SEED = 2**31 - 1


@dataclass(frozen=True, eq=False)
class MaskInspection:
    """Everything a mask can be cut from again without a network.

    Attributes:
        working: the picture at the model's size S.
        placement: where it sits in the original.
        difference: float32 (h, w), the raw difference map, any non-negative scale.
        word_maps: for every word of the target text, float32 (S, S) cross-attention in [0, 1].
        network_evaluations, seconds: what it cost.
        maps: {recipe: float32 (S, S)}, what `cut_mask` has cut; it fills this itself.
    """

    working: Image.Image
    placement: pictures.Placement
    difference: pictures.Mask
    word_maps: Mapping[str, pictures.Mask]
    network_evaluations: int
    seconds: float
    maps: dict[str, torch.Tensor] = field(default_factory=dict)


def edit(
    method_name: str,
    model: LatentDiffusion,
    image: Image.Image,
    source_text: str,
    target_text: str,
    values: Mapping[str, object],
    *,
    seed: int,
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    mask: pictures.Mask | None = None,
    window: pictures.Window = pictures.CENTRE,
    models: Mapping[str, object] | None = None,
    reconstruct: bool = False,
) -> EditResult:
    """Edit one picture (RGB, any size) with the method called `method_name`.

    Args:
        source_text: what the picture shows; may be empty.
        target_text: what it should show.
        values: parameters by name; those left out take their defaults.
        mask: (H, W) at the size of `image`, in [0, 1], 1 = edit, in place of the inferred one.
        window: the square that is edited; what is outside of it stays.
        models: what the method takes beyond `model`, by keyword (`Method.takes`).
        reconstruct: also show what a method that encodes gets back without an edit; the result's
            time and network evaluations leave that out.

    Raises:
        InputError: a text, the seed, a parameter or the mask cannot be used.
    """
    source_text, target_text = check_text(source_text), check_text(target_text)
    if not target_text:
        raise InputError("Please describe the picture you want in the target text.")
    seed = check_seed(seed)
    method = METHODS[method_name]
    params = build(method.load_params(), values)
    working, placement = pictures.fit(image, model.resolution, window)
    tensor = pictures.to_tensor([working], model.resolution).to(model.device)
    painted = None
    if mask is not None:
        fitted = pictures.fit_mask(mask, placement)
        if not fitted.any():
            raise InputError(
                "The mask is empty in the part that is edited. Please paint what may change there."
            )
        painted = torch.from_numpy(fitted).unsqueeze(0).to(model.device)
    started = time.perf_counter()
    edits = method.load()(
        model,
        tensor,
        [source_text],
        [target_text],
        params,
        seeds=[seed],
        on_step=on_step,
        memo=memo,
        masks=painted,
        **(models or {}),
    )
    seconds = time.perf_counter() - started
    edited = pictures.to_pil(edits.images)[0]
    full_mask = None
    if edits.masks is not None:
        soft = mask_recipes.feather(edits.masks, getattr(params, "feather_px", 0))
        full_mask = pictures.place_mask(soft[0].cpu().numpy(), placement)
        if mask is not None:  # at the working size it has grown to whole pixels
            full_mask = np.minimum(full_mask, mask)
    reconstruction = None
    if reconstruct and edits.reconstruct is not None:
        reconstructed = pictures.to_pil(edits.reconstruct())[0]
        reconstruction = pictures.paste(image, reconstructed, None, placement)
    return EditResult(
        image=image
        if method_name == "copy"
        else pictures.paste(image, edited, full_mask, placement),
        seed=seed,
        source_text=source_text,
        target_text=target_text,
        network_evaluations=edits.network_evaluations,
        seconds=seconds,
        mask=full_mask,
        reconstruction=reconstruction,
        snapshots={step: pictures.to_pil(seen)[0] for step, seen in edits.snapshots.items()},
        diagnostics=dict(edits.diagnostics),
    )


@torch.no_grad()
def inspect_mask(
    model: LatentDiffusion,
    image: Image.Image,
    source_text: str,
    target_text: str,
    params: MaskParams,
    *,
    seed: int,
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    window: pictures.Window = pictures.CENTRE,
) -> MaskInspection:
    """Return the difference map of one picture and the attention map of every target word.

    Of the square that `window` says.
    """
    source_text, target_text = check_text(source_text), check_text(target_text)
    if not target_text:
        raise InputError("Please describe the picture you want in the target text.")
    seed = check_seed(seed)
    working, placement = pictures.fit(image, model.resolution, window)
    tensor = pictures.to_tensor([working], model.resolution).to(model.device)
    started = time.perf_counter()
    eps = Counter(model.eps)
    latents0 = encoded_images(model, tensor, memo)
    difference = difference_map(
        model, eps, latents0, [source_text], [target_text], params, seeds=[seed],
        on_step=on_step, memo=memo,
    )  # fmt: skip
    words = word_maps(model, latents0, target_text, params, seed=seed)
    return MaskInspection(
        working=working,
        placement=placement,
        difference=difference[0].cpu().numpy(),
        word_maps=words,
        network_evaluations=eps.samples + (1 if words else 0),
        seconds=time.perf_counter() - started,
    )


def word_maps(
    model: LatentDiffusion, latents0: torch.Tensor, text: str, params: MaskParams, *, seed: int
) -> dict[str, pictures.Mask]:
    """Return the cross-attention map (S, S) in [0, 1] of every word of `text`.

    The picture is noised as for the mask; maps are averaged over heads and layers, and each is
    stretched on its own.
    """
    words = list(dict.fromkeys(text.split()))
    unet, store = capture(model.unet)
    t = noise_level(model, params.mask_strength)
    noise = seeded_noise(latents0.shape[1:], [sub_seed(seed, "mask", 0)], latents0)
    noisy = model.schedule.add_noise(latents0, noise, t)
    model.with_unet(unet).eps(noisy, t, model.embed_text([text]))
    attention = store.average(model.resolution)[0].float()  # (S, S, L)
    maps = {}
    for word in words:
        try:
            tokens = phrase_tokens(model.tokenizer, text, word)
        except PhraseError:  # cut off: the network has not read it, so there is nothing to show
            continue
        one = attention[..., tokens].mean(-1)
        one = (one - one.min()) / (one.max() - one.min()).clamp(min=1e-12)
        maps[word] = one.cpu().numpy()
    return maps


def cut_mask(inspection: MaskInspection, params: MaskParams) -> pictures.Mask:
    """Return the mask (H, W) at the original's size that `params` cuts from an inspection.

    Threshold, recipe and feather may change freely: no network is called.
    """
    if params.recipe not in inspection.maps:
        image = pictures.to_tensor([inspection.working], inspection.working.width)
        difference = torch.from_numpy(inspection.difference).unsqueeze(0)
        inspection.maps[params.recipe] = mask_recipes.rescaled(difference, image, params.recipe)
    hard = (inspection.maps[params.recipe] > params.threshold).float()
    soft = mask_recipes.feather(hard, params.feather_px)
    return pictures.place_mask(soft[0].numpy(), inspection.placement)


def soft_mask(
    inspection: MaskInspection, painted: pictures.Mask, params: MaskParams
) -> pictures.Mask:
    """Return the mask (H, W) at the original's size of a painted square, with its soft border.

    `feather_px` counts pixels of the working square, as in `cut_mask`.
    """
    side = inspection.working.width
    hard = torch.from_numpy(pictures.resize_mask(painted, (side, side))).unsqueeze(0)
    soft = mask_recipes.feather(hard, params.feather_px)[0].numpy()
    placement = inspection.placement
    whole = pictures.place_mask(painted, dataclasses.replace(placement, size_px=len(painted)))
    return np.minimum(whole, pictures.place_mask(soft, placement))


def heat_map(inspection: MaskInspection) -> np.ndarray:
    """Return the difference map stretched to [0, 1], float32 (h, w)."""
    return mask_recipes.rescale(torch.from_numpy(inspection.difference).unsqueeze(0))[0].numpy()


def check_text(text: str) -> str:
    """Return `text` with its spaces tidied.

    Raises:
        InputError: no string, or longer than MAX_TEXT characters.
    """
    if not isinstance(text, str):
        raise InputError("Please give the description as text.")
    if len(text) > MAX_TEXT:
        raise InputError(f"The text is longer than {MAX_TEXT} characters. Please shorten it.")
    return " ".join(text.split())


def check_seed(seed: object) -> int:
    """Return `seed` as an integer from 0 to MAX_SEED.

    Raises:
        InputError: it is none.
    """
    number = isinstance(seed, int | float) and not isinstance(seed, bool)
    if not number or not 0 <= seed <= MAX_SEED or seed != int(seed):
        raise InputError(f"The seed must be a whole number from 0 to {MAX_SEED}.")
    return int(seed)
