"""Train the mapper that reads captions: a face's code and a text, to the code of the true edit.

    python -m pipelines.training.caption_mapper --minutes 12

Not CLIP2GAN's own training, which sees pictures alone (`training.latent_mapper`), but a second mode
beside it, for a generator that started from renders: it knows where any face of the world lies in
W. Two faces are drawn, and a caption of the second, or a sentence that says one fact of it. The
edit is the first face with what the text says, and the mapper regresses the way from one code to
the other. Codes get noise, as those that an inversion encoder finds are never exact. No picture is
made or seen; text comes in by CLIP's embedding alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines import views
from pipelines.data.faces import Face, hidden_by, sample_face
from pipelines.data.faces.captions import ANY_HAT, caption, describe, facts, parse
from pipelines.images import to_pil
from pipelines.models.caption_mapper import CaptionMapper
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.noise import seeded_noise, sub_seed
from pipelines.training.common import TOYBOX, Progress, parser, train, write_json
from pipelines.training.face_codes import codes, wanted_w
from pipelines.training.face_likeness import device_of, mapped, require_warm_start

EMBED_BATCH = 500
ONE_FACT = 0.5  # part of the texts that say one thing
VAGUE = 0.5  # part of them that call any hat a hat
SHORTENED = 0.3  # part of all texts that become as visitors write
SMALLEST = 0.1  # of the mean square of a move: errors of smaller ones count as if of this one
INSTEAD = {
    "hat_colour": {"hat": "cap"},
    "glasses_colour": {"glasses": "round"},
    **dict.fromkeys(("eye_colour", "eye_size", "eye_openness"), {"glasses": "none"}),
    **dict.fromkeys(("earrings", "hair_colour"), {"hair": "short"}),
}
"""What gives way where it would hide an attribute that a text names, and to what."""
SHOWN = (
    "wearing a red hat", "smiling", "an old person", "a bald person", "wearing sunglasses",
    "with a full beard", "with pink hair",
)  # fmt: skip
FACES_SHOWN = 5
MOST_NOISE = 0.5
"""On codes: part of their own standard deviation."""


def text_of(face: Face, rng: np.random.Generator) -> str:
    """Return a caption of a face, or a sentence that says one fact of it."""
    if rng.random() >= ONE_FACT:
        return caption(face, int(rng.integers(2**31)))
    said = facts(face)
    name = sorted(said)[rng.integers(len(said))]
    return describe({name: said[name]}, vague=bool(rng.random() < VAGUE))


def shortened(text: str) -> str:
    """Return a text as visitors write it: "wearing a red hat", "smiling"."""
    article, _, rest = text.partition(" ")
    if article in ("a", "an") and rest.endswith(" person") and " of " not in rest:
        return rest.removesuffix(" person")
    return text.removeprefix("a person ")


def edited(face: Face, model: Face, text: str) -> Face:
    """Return `face` with what `text` says, in the amounts that `model` has, of whom it is true.

    What the text leaves open stays, or is always the same: a mean over hats would be no hat.
    """
    said = parse(text).facts
    if said.get("hat") == ANY_HAT:
        del said["hat"]
        face = replace(face, **INSTEAD["hat_colour"]) if face.hat == "none" else face
    face = replace(face, **{name: getattr(model, name) for name in said})
    for name in said:
        if hidden_by(face, name) is not None:
            face = replace(face, **INSTEAD[name])
    return face


def draw(seed: int) -> tuple[Face, str, Face]:
    """Return a face, a text (some of them shortened), and the face that the text makes of it."""
    face, model = (sample_face(sub_seed(seed, "caption_mapper", i)) for i in range(2))
    rng = np.random.default_rng((seed, 0x7E87))
    text = text_of(model, rng)
    end = edited(face, model, text)
    return face, shortened(text) if rng.random() < SHORTENED else text, end


@torch.no_grad()
def write_samples(
    clip: DualEncoder, mapper: CaptionMapper, generator: StyleGAN2, path: Path
) -> None:
    """Write random faces, and what each of SHOWN makes of them."""
    z = seeded_noise((generator.config.z_dim,), range(FACES_SHOWN), generator.w_avg)
    w = mapped(generator, z)
    codes = [w, *(w + mapper(clip.embed_texts([text] * len(w)), w) for text in SHOWN)]
    columns = [to_pil(generator.synthesis(generator.w_plus(code))) for code in codes]
    rows = [list(row) for row in zip(*columns, strict=True)]
    views.sheet(rows, ["", *SHOWN], [""] * len(rows)).save(path)


@torch.no_grad()
def embedded(clip: DualEncoder, texts: Sequence[str]) -> Tensor:
    """Return the embeddings (N, D) of many texts."""
    starts = range(0, len(texts), EMBED_BATCH)
    return torch.cat([clip.embed_texts(texts[start : start + EMBED_BATCH]) for start in starts])


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the pack entry; return its folder."""
    options = parser(__doc__)
    options.add_argument("--clip", type=Path, default=TOYBOX / "clip_faces")
    options.add_argument("--generator", type=Path, default=TOYBOX / "face_stylegan2")
    options.add_argument("--edits", type=int, default=80_000, help="drawn before training")
    options.add_argument("--width", type=int, default=512)
    options.set_defaults(batch=512)
    args = options.parse_args(argv)
    torch.manual_seed(args.seed)
    require_warm_start(args.generator)
    device = device_of(args)
    clip = DualEncoder.from_folder(args.clip, device)
    generator = StyleGAN2.from_folder(args.generator, device)
    faces, texts, ends = zip(*(draw(seed) for seed in range(args.edits)), strict=True)
    w_dim = generator.config.w_dim
    z, z_end = (codes(some, args.seed).to(args.device) for some in (faces, ends))
    start, moves = mapped(generator, z), wanted_w(z_end, w_dim) - wanted_w(z, w_dim)
    embeds = embedded(clip, texts)
    spread, sizes = start.std(0), moves.square().mean(1)
    sizes = sizes.clamp(min=SMALLEST * sizes.mean())
    mapper = CaptionMapper(clip.dim, w_dim, width=args.width, clip=clip.name).to(args.device)
    mapper.read_along(embeds)

    def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(start), (args.batch,), device=start.device)
        strength = MOST_NOISE * torch.rand(args.batch, 1, device=start.device)
        w = start[rows] + strength * spread * torch.randn_like(start[rows])
        far = (mapper(embeds[rows], w) - moves[rows]).square().mean(1)
        missed = (far / sizes[rows]).mean()  # a smile is a small move beside a hat
        return missed, {"missed": missed.item()}

    progress = train(
        args,
        name="caption_mapper",
        parts={"mapper": mapper},
        optimizers=[torch.optim.AdamW(mapper.parameters(), 1e-3, weight_decay=0.05)],
        loss_of_step=loss_of_step,
        decay_from=0.4,
    )
    folder = args.out or TOYBOX / "caption_mapper"
    mapper.eval().save(folder)
    write_samples(clip, mapper, generator, folder / "samples.webp")
    counted = {"samples": progress.samples, "minutes": round(progress.elapsed_s / 60, 1)}
    write_json(folder / "training.json", {**counted, "edits": args.edits, "log": progress.log})
    return folder


if __name__ == "__main__":
    main()
