"""What Face sliders tells of a face once its sliders rest: the judges' numbers, its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines import recipes
from pipelines.faces import Desk, Edit, Face, Slider, latents_of, moved, painted
from pipelines.workbench import Services

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Measured:
    """What is told about a face once its sliders rest.

    Attributes:
        scores: localization score of each slider of a part that is not at rest, by title.
        identity: cosine between the persons before and after; None without a network for that.
        distance: LPIPS between the pictures before and after.
        facts: what the texts in use say, and whether the judge sees it.
    """

    scores: Mapping[str, float | None]
    identity: float | None
    distance: float
    facts: Sequence[tuple[str, bool]]


def measure(
    services: Services, desk: Desk, strengths: Sequence[object], layers: Sequence[int]
) -> Measured:
    """Return how local each slider is on this face, and what the whole edit kept and changed."""
    import torch

    face, edits = desk.face_in_hand, desk.edits(strengths)
    with latents_of(services) as latents, torch.no_grad():
        alone = [[edit] for edit in edits]
        combinations = [[], *alone] if len(edits) == 1 else [[], *alone, edits]
        codes = [moved(latents, face, some, layers) for some in combinations]
        pictures, features = painted(latents, codes)
        before, after = pictures[:1], pictures[-1:]
        identity = None
        if "face_identity" in services.pack.components:
            with services.cache.lease(services.pack.name, "face_identity") as network:
                one, other = network(torch.cat([before, after]))
                identity = float(one @ other)
        with services.cache.lease(services.pack.name, "lpips_eval") as perceptual:
            distance = perceptual.distance(before, after).item()
        scores = _scores(services, [slider for slider, _ in edits], pictures, features)
        facts = _facts(services, face, edits, after)
    return Measured(scores, identity, distance, facts)


def _scores(
    services: Services,
    sliders: Sequence[Slider],
    pictures: Tensor,
    features: Sequence[Tensor],
) -> dict[str, float | None]:
    """Return the localization score of each slider alone; None where its part is not shown.

    `pictures` and `features` are of the face, of every slider alone, then of all edits.
    """
    from pipelines.metrics.localization import combined, localization_scores

    with services.cache.lease(services.pack.name, "face_parser") as parser:
        if not any(slider.direction.part in parser.parts for slider in sliders):
            return {}
        seen = parser(pictures[: len(sliders) + 1]).argmax(1)
        scores: dict[str, float | None] = {}
        for i, slider in enumerate(sliders, 1):
            if slider.direction.part in parser.parts:
                masks = parser.masks_in(seen[[0, i]], slider.direction.part)
                mask = combined(masks[:1], masks[1:], "average")
                layers = [(layer[:1], layer[i : i + 1]) for layer in [*features, pictures]]
                found = localization_scores(*zip(*layers, strict=True), mask)
                scores[slider.title] = float(found.mean()) if mask.any() else None
        return scores


def _facts(
    services: Services, face: Face, edits: Sequence[Edit], picture: Tensor
) -> list[tuple[str, bool]]:
    """Return what the face's text and the texts of pulled sliders say, and if the judge sees it."""
    from pipelines.data.faces.captions import parse
    from pipelines.metrics.face_accuracy import shows

    texts = [face.origin.get("text", "")]
    texts += [slider.told["text"] for slider, s in edits if s > 0 and "text" in slider.told]
    said = {name: value for text in texts for name, value in parse(text).facts.items()}
    if not said or "face_judge" not in services.pack.components:
        return []
    with services.cache.lease(services.pack.name, "face_judge") as judge:
        verdict = judge(picture)
    return [
        (f"{name.replace('_', ' ')}: {value}", shows(verdict, 0, name, value))
        for name, value in said.items()
    ]


def recipe_of(
    services: Services,
    desk: Desk,
    strengths: Sequence[object],
    layers: Sequence[int],
) -> dict[str, Any]:
    """Return all that is needed to make the latest answer again, given what was uploaded."""
    with latents_of(services) as latents:
        generator, weight = latents.fingerprint, latents.model.w_avg
    return {
        "face": dict(desk.face_in_hand.origin),
        "edits": [
            {**slider.told, "strength": strength} for slider, strength in desk.edits(strengths)
        ],
        "layers": list(layers),
        "pack": services.pack.name,
        "generator": generator,
        "device": str(weight.device),
        "versions": recipes.versions(),
        "result": desk.picture and recipes.fingerprint(desk.picture),
    }
