"""The models that a method takes beyond the diffusion model, held while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.errors import InputError
from pipelines.model_cache import ModelCache
from pipelines.packs import Pack
from pipelines.params import ParamSpec
from pipelines.registry import Method
from pipelines.repositories import OPENAI_CLIPS
from pipelines.results import OnStep

if TYPE_CHECKING:
    from pipelines.models.generator_space import GeneratorSpace
    from pipelines.models.inversion import InversionEncoder
    from pipelines.models.stylegan2 import StyleGAN2

CLIPS = {"dual_encoder", *(f"openai_clip/{name}" for name in OPENAI_CLIPS)}
"""Kinds of components that embed pictures and texts."""
ALL = "all"
FACE_SPACE = "face_stylegan2", "face_inversion"


@contextmanager
def models_for(
    cache: ModelCache,
    pack: Pack,
    method: Method,
    values: Mapping[str, object],
    on_step: OnStep | None = None,
) -> Iterator[dict[str, Any]]:
    """Lease what `method.takes` names; give it by keyword; of the CLIPs those that `values` choose.

    "space" is what to optimise in, where that is not the diffusion model's autoencoder: the pack's
    VQGAN, or its face generator where `values` choose that.

    Raises:
        InputError: the pack has no such model.
    """
    roles = chosen_encoders(pack, values) if "clips" in method.takes else []
    with ExitStack() as leases:

        def lease(role: str) -> Any:
            pack.component(role)
            return leases.enter_context(cache.lease(pack.name, role, on_step))

        models: dict[str, Any] = {}
        if "segmenter" in method.takes:
            models["segmenter"] = lease("scene_segmenter")
        if "clips" in method.takes:
            models["clips"] = {role: lease(role) for role in roles}
            if is_of_faces(values):
                models["space"] = face_space(pack, *(lease(role) for role in FACE_SPACE))
            elif "vqgan" in pack.components:
                models["space"] = lease("vqgan")
        if "perceptual" in method.takes:
            models["perceptual"] = lease("lpips_loss")
        yield models


def is_of_faces(values: Mapping[str, object]) -> bool:
    """Return whether FlexIT's parameters choose the face generator."""
    return values.get("space") == "faces"


def face_space(pack: Pack, generator: StyleGAN2, encoder: InversionEncoder) -> GeneratorSpace:
    """Return a pack's face generator as an autoencoder."""
    from pipelines import weights
    from pipelines.models.generator_space import GeneratorSpace

    known = [weights.fingerprint(pack.component(role).locate()) for role in FACE_SPACE]
    return GeneratorSpace(generator, encoder, fingerprint=" ".join(known))


def encoders(pack: Pack) -> list[str]:
    """Return the roles of a pack's dual encoders."""
    return [role for role, part in pack.components.items() if part.kind in CLIPS]


def options(pack: Pack, spec: ParamSpec) -> tuple[str, ...]:
    """Return what a choice offers with a pack."""
    return (*spec.options, *(encoders(pack) if spec.among == "clips" else ()))


def chosen_encoders(pack: Pack, values: Mapping[str, object]) -> list[str]:
    """Return the roles of the dual encoders that FlexIT's parameters choose.

    Raises:
        InputError: the pack has none, or not the one that is named.
    """
    roles, networks = encoders(pack), values.get("networks", ALL)
    if is_of_faces(values):
        roles = [role for role, part in pack.components.items() if part.kind == "face_clip"]
    if not roles:
        raise InputError(f"The pack “{pack.title}” has no CLIP for this. Choose another pack.")
    if networks not in (ALL, *roles):
        raise InputError(f"CLIP networks must be one of: {', '.join((ALL, *roles))}.")
    return roles if networks == ALL else [str(networks)]


def roles_of(pack: Pack, method: Method, values: Mapping[str, object]) -> list[str]:
    """Return the roles of all models that a method has in memory while it runs."""
    roles = ["latent_diffusion"]
    roles += ["scene_segmenter"] if "segmenter" in method.takes else []
    if "clips" in method.takes:
        space = FACE_SPACE if is_of_faces(values) else ("vqgan",)
        roles += [*chosen_encoders(pack, values), *space]
    roles += ["lpips_loss"] if "perceptual" in method.takes else []
    return [role for role in roles if role in pack.components]


def fingerprints(models: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprint of each model, of an ensemble that of each member."""
    found: dict[str, str] = {}
    for name, model in models.items():
        members = model if isinstance(model, Mapping) else {name: model}
        found |= {role: member.fingerprint for role, member in members.items()}
    return found
