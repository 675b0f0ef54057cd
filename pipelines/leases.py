"""The models that a method takes beyond the diffusion model, held while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from pipelines.model_cache import ModelCache
from pipelines.packs import Pack
from pipelines.registry import Method
from pipelines.repositories import OPENAI_CLIPS
from pipelines.results import OnStep

CLIPS = {"dual_encoder", *(f"openai_clip/{name}" for name in OPENAI_CLIPS)}
"""Kinds of components that embed pictures and texts."""


@contextmanager
def models_for(
    cache: ModelCache, pack: Pack, method: Method, on_step: OnStep | None = None
) -> Iterator[dict[str, Any]]:
    """Lease what `method.takes` names; give it by keyword.

    "space" is the autoencoder to optimise in, where the pack has one for that (a VQGAN).

    Raises:
        InputError: the pack has no such model.
    """
    with ExitStack() as leases:

        def lease(role: str) -> Any:
            pack.component(role)
            return leases.enter_context(cache.lease(pack.name, role, on_step))

        models: dict[str, Any] = {}
        if "segmenter" in method.takes:
            models["segmenter"] = lease("scene_segmenter")
        if "clips" in method.takes:
            models["clips"] = {role: lease(role) for role in encoders(pack) or ["clip_vit"]}
            if "vqgan" in pack.components:
                models["space"] = lease("vqgan")
        if "perceptual" in method.takes:
            models["perceptual"] = lease("lpips_loss")
        yield models


def encoders(pack: Pack) -> list[str]:
    """Return the roles of a pack's dual encoders."""
    return [role for role, part in pack.components.items() if part.kind in CLIPS]


def roles_of(pack: Pack, method: Method) -> list[str]:
    """Return the roles of all models that a method has in memory while it runs."""
    roles = ["latent_diffusion"]
    roles += ["scene_segmenter"] if "segmenter" in method.takes else []
    roles += [*encoders(pack), "vqgan"] if "clips" in method.takes else []
    roles += ["lpips_loss"] if "perceptual" in method.takes else []
    return [role for role in roles if role in pack.components]


def fingerprints(models: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprint of each model, of an ensemble that of each member."""
    found: dict[str, str] = {}
    for name, model in models.items():
        members = model if isinstance(model, Mapping) else {name: model}
        found |= {role: member.fingerprint for role, member in members.items()}
    return found
