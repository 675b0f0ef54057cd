"""What the models do not read of a visitor's texts, said before a run and beside its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipelines import verdicts
from pipelines.model_cache import ModelCache
from pipelines.packs import Pack

if TYPE_CHECKING:
    from pipelines.models.latent_diffusion import LatentDiffusion

NEGATIVE = "negative_prompt"


def negative_prompts(values: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the different negative prompts among parameters of several methods."""
    return list(dict.fromkeys(one[NEGATIVE] for one in values if one.get(NEGATIVE)))


def notes(
    model: LatentDiffusion, pack: Pack, texts: Iterable[str], values: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Return what is cut off, and which words of negative prompts the pack does not know.

    The page names unknown words of the texts themselves, where they are typed.
    """
    negatives = negative_prompts(values)
    told = [cut for text in (*texts, *negatives) if (cut := cut_off(model, text))]
    if unknown := verdicts.unknown_words(negatives, pack.words()):
        names = ", ".join(f"“{word}”" for word in unknown)
        told.append(f"The {pack.title.lower()} does not know {names} of the negative prompt.")
    return told


def cut_off(model: LatentDiffusion, text: str) -> str:
    """Return which end of a text the model's tokenizer has no room for, as a sentence, or ""."""
    end = model.truncated_text(text)
    room = model.tokenizer.model_max_length
    return end and f"Too long: the model reads {room} tokens, and not “{end}”."


def cut_off_now(cache: ModelCache, pack: Pack, texts: Iterable[str]) -> list[str]:
    """Return what `cut_off` says of the texts if the model is in memory; loads nothing."""
    name = f"{pack.name}/latent_diffusion"
    if not any(entry.name == name and entry.state != "loading" for entry in cache.state()):
        return []
    with cache.lease(pack.name, "latent_diffusion") as model:
        return [cut for text in texts if (cut := cut_off(model, text))]
