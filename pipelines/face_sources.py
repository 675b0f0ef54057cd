"""Where the faces and sliders of Face sliders come from: numbers, texts, pictures, files.

All of it is light but for `refined`, which is a job for the gate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines import images, recipes, verdicts
from pipelines.errors import InputError
from pipelines.faces import METHODS, Desk, Face, Slider, latents_of
from pipelines.method_params import FaceParams
from pipelines.packs import Pack
from pipelines.results import OnStep
from pipelines.workbench import MAX_SEED, Services

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.clip2gan import Clip2Gan
    from pipelines.directions import Direction
    from pipelines.models.direction_set import DirectionSet

RESULTS = 4  # faces for one text
CAPTIONS = "captions"  # the mode, and the mapper, that packs with a caption_mapper have
MODES = (CAPTIONS, "difference", "published")
"""What a text's direction is: where this face has to move (not of the paper), what sets the text's
code apart from a neutral one's, or the code itself."""
FIRST = ("hair", "hat", "glasses", "beard", "eyes")
"""Parts whose sliders are there from the start."""
LIMITS = "likeness.json"  # beside the inversion encoder, see training.inversion_likeness


@contextmanager
def clip2gan_of(services: Services) -> Iterator[Clip2Gan]:
    """Lease the networks of CLIP2GAN, with the mapper that read captions where the pack has one.

    Raises:
        InputError: the pack lacks one.
    """
    with ExitStack() as leases, latents_of(services) as latents:
        from pipelines.clip2gan import Clip2Gan

        def lease(role: str) -> Any:
            services.pack.component(role)
            return leases.enter_context(services.cache.lease(services.pack.name, role))

        mapper = lease("latent_mapper")
        captions = lease("caption_mapper") if reads_captions(services) else None
        yield Clip2Gan(lease(mapper.clip), mapper, latents.model, captions=captions)


def reads_captions(services: Services) -> bool:
    """Return whether the pack has a mapper that read captions."""
    return "caption_mapper" in services.pack.components


def modes(services: Services) -> tuple[str, ...]:
    """Return those of MODES that the pack can do, the best first."""
    return tuple(mode for mode in MODES if mode != CAPTIONS or reads_captions(services))


# ---------------------------------------------------------------- faces


def from_seed(services: Services, seed: int) -> Face:
    """Return the face of a number."""
    import torch

    with latents_of(services) as latents, torch.no_grad():
        (z,) = latents.draw("z", [seed])
        w_plus = latents.model.w_plus(latents.model.mapping(z, psi=latents.psi))
        picture = images.to_pil(latents.model.synthesis(w_plus))[0]
    return Face(w_plus, picture, {"seed": seed}, z)


def from_text(
    services: Services, text: str, params: FaceParams, seed: int, count: int = RESULTS
) -> list[Face]:
    """Return different faces that fit a text; the i-th is the one of seed + i.

    Raises:
        InputError: there is no text.
    """
    text = checked_text(text)
    if not reads_captions(services):
        params = replace(params, mapper="pictures")
    seeds = [(seed + i) % (MAX_SEED + 1) for i in range(count)]
    with clip2gan_of(services) as models:
        from pipelines.clip2gan import generate

        made = generate(models, [text] * count, params, seeds=seeds)
    told = {
        "text": text, "mapper": params.mapper, "noise": params.noise, "amount": params.amount
    }  # fmt: skip
    pictures = images.to_pil(made.images)
    return [
        Face(code, picture, {**told, "seed": one})
        for code, picture, one in zip(made.w_plus.split(1), pictures, seeds, strict=True)
    ]


def from_picture(services: Services, picture: Image.Image | None, params: FaceParams) -> Face:
    """Return the face that the generator makes of a picture.

    Raises:
        InputError: there is none.
    """
    import torch

    if picture is None:
        raise InputError("Please choose a picture first.")
    square = squared(services, picture)
    if params.base == "inverted":
        w_plus = inverted(services, square)
    else:
        with clip2gan_of(services) as models, torch.no_grad():
            from pipelines.clip2gan import base_codes

            pixels = pixels_of(services, square).to(models.generator.w_avg)
            w_plus = base_codes(models, pixels, params.base)
    origin = {"upload": recipes.fingerprint(picture), "base": params.base}
    face = reconstructed(services, Face(w_plus, square, origin, upload=square))
    return replace(face, encoded=face.distance if params.base == "inverted" else None)


def squared(services: Services, picture: Image.Image) -> Image.Image:
    """Return the square of a picture that the pack's networks take.

    Raises:
        InputError: they need the face of one who looks at the camera, and there is none.
    """
    if not services.pack.aligns:
        return images.fit(picture, services.pack.resolution_px)[0]
    with services.cache.lease(services.pack.name, "face_parser") as parser:
        from pipelines.face_alignment import align

        return align(parser, picture, services.pack.resolution_px)


def inverted(services: Services, square: Image.Image) -> Tensor:
    """Return the code (1, L, w_dim) that the pack's inversion encoder finds.

    Raises:
        InputError: the encoder belongs to another generator.
    """
    import torch

    services.pack.component("face_inversion")
    with (
        latents_of(services) as latents,
        services.cache.lease(services.pack.name, "face_inversion") as encoder,
        torch.no_grad(),
    ):
        code: Tensor = encoder(pixels_of(services, square).to(latents.model.w_avg))
        config = latents.model.config
        if code.shape[1:] != (config.w_layers, config.w_dim):
            raise InputError(
                "The inversion encoder belongs to a generator of another size. Choose files that "
                "belong together."
            )
    return code


def refined(services: Services, face: Face, params: FaceParams, on_step: OnStep) -> Face:
    """Return a face from a picture, its code closer to that picture.

    Raises:
        InputError: it is from elsewhere.
        Cancelled: `on_step` stopped it.
    """
    if face.upload is None:
        raise InputError("Only a face from a picture can be refined. Please upload one first.")
    with latents_of(services, on_step) as latents:
        from pipelines.models.inversion import refine

        wanted = pixels_of(services, face.upload).to(face.w_plus)
        with services.cache.lease(services.pack.name, "lpips_loss", on_step) as perceptual:
            w_plus = refine(
                latents.model, perceptual, wanted, face.w_plus, steps=params.refine_steps,
                on_step=on_step,
            )  # fmt: skip
    steps = face.origin.get("refine_steps", ())
    origin = {**face.origin, "refine_steps": [*steps, params.refine_steps]}
    return reconstructed(services, replace(face, w_plus=w_plus, origin=origin))


def reconstructed(services: Services, face: Face) -> Face:
    """Return a face from a picture with what the generator makes of its code, and how near."""
    import torch

    assert face.upload is not None
    with latents_of(services) as latents, torch.no_grad():
        made = latents.model.synthesis(face.w_plus)
        with services.cache.lease(services.pack.name, "lpips_eval") as perceptual:
            wanted = pixels_of(services, face.upload).to(made)
            distance = perceptual.distance(wanted, made).item()
    return replace(face, picture=images.to_pil(made)[0], distance=distance)


def pixels_of(services: Services, square: Image.Image) -> Tensor:
    """Return a square as a batch of one, (1, 3, H, H) in [-1, 1]."""
    return images.to_tensor([square], services.pack.resolution_px)


def likeness(services: Services, face: Face) -> str:
    """Return what to tell of a reconstruction; "" for a face from elsewhere.

    The limit is what renders of clay faces that no training saw keep to, measured by
    `training.inversion_likeness`; without that file there is only the number.
    """
    if face.distance is None:
        return ""
    told = f"The reconstruction is LPIPS {face.distance:.2f} from your picture."
    file = services.pack.component("face_inversion").locate() / LIMITS
    if face.encoded is None or not file.is_file():
        return told
    limits = json.loads(file.read_text())
    kept = (
        f"{100 * limits['quantile']:.0f} % of {limits['n']} clay faces come back from the encoder "
        f"within {limits['lpips']:.2f}"
    )
    if face.encoded <= limits["lpips"]:
        return f"{told} It passes for a clay face: {kept}."
    return (
        f"{told} This does not look like a clay face: {kept}, your picture within "
        f"{face.encoded:.2f}. The sliders edit the reconstruction, which may have little to do "
        "with it."
    )


# ---------------------------------------------------------------- sliders


def checked_text(text: object) -> str:
    """Return a text without spaces at its ends.

    Raises:
        InputError: nothing is left.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError("Please describe a face first, such as “an old person wearing a hat”.")
    return text.strip()


def text_slider(services: Services, text: str, mode: str, face: Face) -> Slider:
    """Return the slider of a text (CLIP2GAN); with captions it is this face's alone.

    Raises:
        InputError: there is no text or no such mode.
    """
    import torch

    text, known = checked_text(text), modes(services)
    if mode not in known:
        raise InputError(f"The direction of a text must be one of: {', '.join(known)}.")
    with clip2gan_of(services) as models, torch.no_grad():
        from pipelines.clip2gan import caption_moves, directions
        from pipelines.directions import Direction
        from pipelines.models.latent_spaces import StyleGAN2Latents

        if mode == CAPTIONS:
            moves = caption_moves(models, face.w_plus, [text]).expand_as(face.w_plus)
        else:
            moves = directions(models, [text], mode)
        fingerprint = StyleGAN2Latents(models.generator).fingerprint
    direction = Direction(moves[0].unbind(0), "w+", text, f"clip2gan {mode}", fingerprint)
    title = text if mode == known[0] else f"{text} · {mode}"
    return Slider(title, direction, {"text": text, "mode": mode})


def hold(services: Services, desk: Desk, face: Face) -> None:
    """Put a face on the desk; sliders that are one face's alone are made anew for it."""
    desk.face = face
    for place, one in enumerate(desk.sliders):
        if one is not None and one.told.get("mode") == CAPTIONS:
            desk.sliders[place] = text_slider(services, one.told["text"], CAPTIONS, face)


def part_slider(services: Services, part: str, method: str) -> Slider:
    """Return the slider of a part that ships with the pack.

    Raises:
        InputError: there is none that was found so, or it is another generator's.
    """
    with shipped(services) as known:
        found = {(label_of(one), one.method): one for one in known.values()}
    wanted = str(part), str(method)
    if wanted not in found:
        others = [METHODS[name] for label, name in found if label == part and name in METHODS]
        offered = (
            f"For this part there are: {', '.join(others)}."
            if others
            else (f"The parts are: {', '.join(dict.fromkeys(label for label, _ in found))}.")
        )
        raise InputError(f"No direction of that kind ships with the app. {offered}")
    direction = checked(services, found[wanted])
    return Slider(f"{part} · {METHODS[method]}", direction, {"part": part, "method": method})


def label_of(direction: Direction) -> str:
    """Return a direction's part, with its number from the second for the same part on."""
    index = int(direction.settings.get("index", 0))
    return f"{direction.part} {index + 1}" if index else direction.part


def parts(services: Services) -> list[str]:
    """Return the parts that have sliders."""
    directions = services.pack.components.get("lelsd")
    if directions is None or not directions.is_here():
        return []
    with shipped(services) as known:
        return list(dict.fromkeys(label_of(one) for one in known.values()))


@contextmanager
def shipped(services: Services) -> Iterator[DirectionSet]:
    """Lease the directions of the pack."""
    services.pack.component("lelsd")
    with services.cache.lease(services.pack.name, "lelsd") as known:
        yield known


def checked(services: Services, direction: Direction) -> Direction:
    """Return a direction of the pack's generator, on its device.

    Raises:
        InputError: it was found with another one.
    """
    from pipelines.directions import check

    with latents_of(services) as latents:
        check(direction, latents)
        return replace(
            direction, vectors=tuple(v.to(latents.model.w_avg) for v in direction.vectors)
        )


def slider_from_file(services: Services, path: str | Path) -> Slider:
    """Return the slider of a direction's file.

    Raises:
        InputError: it holds none, or one of another generator.
    """
    from pipelines.directions import load

    return own_slider(checked(services, load(Path(path))))


def own_slider(direction: Direction) -> Slider:
    """Return the slider of a direction that was trained here or came from a file."""
    digest = hashlib.sha256()
    for vector in direction.vectors:
        digest.update(vector.cpu().numpy().tobytes())
    name = digest.hexdigest()[:8]
    told = {"direction": name, "part": direction.part, "method": direction.method}
    return Slider(f"{direction.part} · yours {name[:4]}", direction, told)


def first_desk(services: Services, seed: int) -> Desk:
    """Return a desk with the face of a number, and sliders of the first parts."""
    desk = Desk(from_seed(services, seed))
    for part in [part for part in FIRST if part in parts(services)]:
        desk.add(part_slider(services, part, "lelsd"))
    return desk


# ---------------------------------------------------------------- words


def unknown_words(pack: Pack, text: str | None) -> dict[str, str]:
    """Return {word: closest known word or ""} of those that no caption of a clay face has.

    None on packs that know more words than a list can hold.
    """
    from pipelines.data.faces.captions import VOCABULARY

    return verdicts.unknown_words([text or ""], pack.words() and VOCABULARY)


def word_groups() -> Mapping[str, tuple[str, ...]]:
    """Return the words of clay faces in the groups a visitor thinks in."""
    from pipelines.data.faces import CHOICES
    from pipelines.data.faces.captions import LEVELS

    levels = {name: (low, high) for name, (_, low, _, high) in LEVELS.items()}
    groups = {**levels, **{name: tuple(odds) for name, odds in CHOICES.items()}}
    return {name.replace("_", " "): group for name, group in groups.items()}
