"""The models that a method takes beyond the diffusion model, held while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from pipelines.model_cache import ModelCache
from pipelines.packs import Pack
from pipelines.registry import Method


@contextmanager
def models_for(cache: ModelCache, pack: Pack, method: Method) -> Iterator[dict[str, Any]]:
    """Lease what `method.takes` names; give it by keyword.

    Raises:
        InputError: the pack has no such model.
    """
    encoders = [role for role, part in pack.components.items() if part.kind == "dual_encoder"]
    with ExitStack() as leases:

        def lease(role: str) -> Any:
            pack.component(role)
            return leases.enter_context(cache.lease(pack.name, role))

        models: dict[str, Any] = {}
        if "segmenter" in method.takes:
            models["segmenter"] = lease("scene_segmenter")
        if "clips" in method.takes:
            models["clips"] = {role: lease(role) for role in encoders or ["clip_vit"]}
        if "perceptual" in method.takes:
            models["perceptual"] = lease("lpips_loss")
        yield models


def fingerprints(models: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprint of each model, of an ensemble that of each member."""
    found: dict[str, str] = {}
    for name, model in models.items():
        members = model if isinstance(model, Mapping) else {name: model}
        found |= {role: member.fingerprint for role, member in members.items()}
    return found
