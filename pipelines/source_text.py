"""What does the picture show? Inferred from what it should show.

DiffEdit works best with a text for the input that is close to the target text. The thesis proposes
to infer it (sec. 7.2): "the input image's caption that is closest to this description". Here: start
from the target text and change it word by word while the change explains the picture better. How
well a text explains a picture is the error of the noise prediction (the diffusion classifier of
Li et al. 2023, arXiv 2303.16203), with the same noise for all texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from pipelines import images as pictures
from pipelines.edits import content_key, encoded_images
from pipelines.memo import Memo
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_noise, sub_seed
from pipelines.results import OnStep, Step

LEVELS = (0.45, 0.6, 0.75)
"""Fractions of the schedule at which texts are compared: where classes and colours are decided."""
SCREENED, COMPARED = 3, 15
"""Noise draws for every candidate, and for the best few."""
FINALISTS = 5
MAX_CHANGES = 3
MARGIN = 2.0
"""Standard errors by which a change must lower the error: closeness to the target comes first."""


@torch.no_grad()
def infer(
    model: LatentDiffusion,
    image: Image.Image,
    target_text: str,
    rewordings: Callable[[str], list[str]],
    *,
    seed: int,
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    window: pictures.Window = pictures.CENTRE,
) -> str:
    """Return the text nearest to `target_text` that describes `image` (RGB, any size).

    Args:
        rewordings: gives the texts one change away (`data.rewordings` for the toy world).
        seed: decides the noise.
        window: which square of the picture is described.

    Raises:
        ValueError: nothing in the target text can be reworded, so there is nothing to infer from.
    """
    if not rewordings(target_text):
        raise ValueError(f"the target text names nothing that is known here: {target_text!r}")
    working, _ = pictures.fit(image, model.resolution, window)
    tensor = pictures.to_tensor([working], model.resolution).to(model.device)
    latents0 = encoded_images(model, tensor, memo)

    def search() -> str:
        text = target_text
        for _ in range(MAX_CHANGES):
            better = _best_change(model, latents0, text, rewordings(text), seed, on_step)
            if better is None:
                break
            text = better
        return text

    if memo is None:
        return search()
    key = content_key("source_text", model.fingerprint, latents0, target_text, seed)
    return memo.get(key, search, len)


def _best_change(
    model: LatentDiffusion,
    latents0: Tensor,
    text: str,
    candidates: Sequence[str],
    seed: int,
    on_step: OnStep | None,
) -> str | None:
    """Return the candidate that explains the picture clearly better than `text`, if any."""
    screened = prediction_errors(
        model, latents0, candidates, range(SCREENED), seed, on_step=on_step
    ).mean(1)
    best = screened.argsort()[:FINALISTS].tolist()
    finalists = [text, *(candidates[i] for i in best)]
    errors = prediction_errors(model, latents0, finalists, range(COMPARED), seed, on_step=on_step)
    winner = int(errors.mean(1).argmin())
    gain = errors[0] - errors[winner]
    error_of_gain = gain.std() / COMPARED**0.5
    return finalists[winner] if winner and gain.mean() > MARGIN * error_of_gain else None


def prediction_errors(
    model: LatentDiffusion,
    latents0: Tensor,
    texts: Sequence[str],
    draws: Sequence[int],
    seed: int,
    *,
    on_step: OnStep | None = None,
) -> Tensor:
    """Return the squared error of the noise predicted from each text, (texts, draws).

    Args:
        latents0: (1, C, h, w) of one picture.
        draws: numbers of the noise draws, which take the levels in turn; the same number is the
            same noise for every text.
        on_step: told after every draw, where it may stop the search.
    """
    text_embeds = model.embed_text(texts)
    columns = []
    for done, k in enumerate(draws, 1):
        t = round(LEVELS[k % len(LEVELS)] * model.schedule.num_train_timesteps)
        noise = seeded_noise(latents0.shape[1:], [sub_seed(seed, "source", k)], latents0)
        noisy = model.schedule.add_noise(latents0, noise, t).expand(len(texts), -1, -1, -1)
        eps = model.eps(noisy, t, text_embeds)
        columns.append((eps - noise).square().mean((1, 2, 3)))
        if on_step is not None:
            on_step(Step("source", done, len(draws)))
    return torch.stack(columns, 1)
