"""Train a CLIP on captioned toy scenes, on clay faces, or on both in turns.

    python -m pipelines.training.scene_clip --size resnet --batch 96 --minutes 30
    python -m pipelines.training.scene_clip --size vit --world both --batch 96 --minutes 60

`--size` names one of three architectures. A batch is of one world, so that no caption is told
from another by the world it speaks of.

The loss of Radford et al. 2021 (arXiv 2103.00020, fig. 3), with hard negatives: every caption comes
with captions that name one thing differently (a class, colour, pattern or place; one attribute of
a face), and its picture must prefer the true one (NegCLIP, Yuksekgonul et al. 2023, arXiv
2210.01936). Without them the words of a caption that a batch does not need are learnt late.
Of faces, every sentence that says one thing is embedded in every step besides, and each true pair
of picture and sentence must beat all false ones of its picture and of its sentence, as in UniCL
(Yang et al. 2022, arXiv 2204.03610): captions of a few facts each leave small things unlearnt.
`python -m pipelines.benchmarks clip` measures the retrieval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from pipelines.data import captions, face_rewordings, rewordings
from pipelines.data.face_statements import FALSE, STATEMENTS, TRUE
from pipelines.data.faces import captions as face_captions
from pipelines.training import word_tokenizer
from pipelines.training.common import (
    TOYBOX,
    Average,
    Progress,
    autocast,
    parser,
    train,
    write_json,
)
from pipelines.training.face_data import FaceSet
from pipelines.training.muon import muon_and_adamw
from pipelines.training.scene_data import SceneSet

EMBED_DIM = 128
HARD_NEGATIVES = 2
MAX_LOGIT_SCALE = math.log(100)
VISION = {
    "vit": {"image_size": 128, "layers": 6, "width": 192, "head_width": 32, "patch_size": 16},
    "resnet": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 24},
    "resnet_large": {"image_size": 128, "layers": [1, 1, 2, 2], "width": 32},
}
MEAN, STD = 0.5, 0.25
MOST_NOISE = 0.5
"""Standard deviation, where pictures lie in [-1, 1]."""
RADIUS = 0.05
"""Of adversarial examples: root mean square over the values of a picture in [-1, 1]."""


@dataclass(frozen=True)
class World:
    """What captions speak of.

    Attributes:
        load: opens the folder of its rendered pictures below `--work`.
        words: its vocabulary.
        max_tokens: of its longest caption, start and end included.
        contradictions: texts that are false where a text is true.
        statements: sentences whose truth the pictures know, see `FaceSet.truth`.
    """

    load: Callable[[Path], SceneSet | FaceSet]
    words: tuple[str, ...]
    max_tokens: int
    contradictions: Callable[[str], list[str]]
    statements: tuple[str, ...] = ()


WORLDS = {
    "scenes": World(SceneSet, captions.VOCABULARY, 32, rewordings.contradictions),
    "faces": World(
        FaceSet, (",", *face_captions.VOCABULARY), 48, face_rewordings.contradictions, STATEMENTS
    ),
}
SETS = {"scenes": ("scenes",), "faces": ("faces",), "both": ("scenes", "faces")}


def build(size: str, folder: Path, world: str = "scenes") -> open_clip.CLIP:
    """Return one of VISION's architectures, untrained; write its tokenizer and its config.

    It knows the words of one of SETS.
    """
    worlds = [WORLDS[name] for name in SETS[world]]
    max_tokens = max(world.max_tokens for world in worlds)
    words = [word for world in worlds for word in world.words]
    tokenizer = word_tokenizer.build(words, folder, max_length=max_tokens)
    config = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": VISION[size],
        "text_cfg": {
            "context_length": max_tokens,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": "tokenizer",  # any name: a local folder brings its own
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    }
    preprocessing = {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic"}
    write_json(
        folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocessing}
    )
    return open_clip.CLIP(**config)


def save(network: open_clip.CLIP, folder: Path) -> None:
    """Write the weights beside the files that `build` wrote."""
    weights = {k: v.contiguous() for k, v in network.cpu().half().state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def negatives(others: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Return `count` of the texts that contradict one, each once where there are enough."""
    if not others:
        return []
    return [others[i] for i in rng.choice(len(others), count, replace=len(others) < count)]


def contrastive_loss(image_embeds: Tensor, text_embeds: Tensor, scale: Tensor) -> Tensor:
    """Return the mean of both cross-entropies.

    Args:
        image_embeds: (B, D), unit vectors.
        text_embeds: (B + N, D); the first B are the captions of the pictures, the others true of
            none of them (N may be 0).
        scale: the inverse temperature.
    """
    logits = scale * image_embeds @ text_embeds.T  # (B, B + N)
    matches = torch.arange(len(logits), device=logits.device)
    captions = logits[:, : len(logits)]
    return (F.cross_entropy(logits, matches) + F.cross_entropy(captions.T, matches)) / 2


def statement_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean over true pairs of both cross-entropies, each against what is false alone.

    Args:
        logits: (B, S), of pictures and statements.
        truth: (B, S), TRUE, FALSE, or something else for pairs that do not count.
    """
    false = logits.masked_fill(truth != FALSE, -torch.inf)
    of_picture, of_statement = false.logsumexp(1, keepdim=True), false.logsumexp(0, keepdim=True)
    losses = F.softplus(of_picture - logits) + F.softplus(of_statement - logits)
    return losses[truth == TRUE].mean() / 2


def embed_texts(network: open_clip.CLIP, ids: Tensor) -> Tensor:
    """Return unit vectors (B, D) of tokens (B, T), as `encode_text` does.

    But for the padding behind the longest text, which causal attention never sees.
    """
    ends = ids.argmax(1)
    length = int(ends.max()) + 1
    x = network.token_embedding(ids[:, :length]) + network.positional_embedding[:length]
    x = network.transformer(x, attn_mask=network.attn_mask[:length, :length])
    pooled = network.ln_final(x)[torch.arange(len(ids), device=ids.device), ends]
    return F.normalize((pooled @ network.text_projection).float(), dim=-1)


def noisy(images: Tensor, rng: np.random.Generator, most: float) -> Tensor:
    """Return images (B, 3, H, H), each with noise of its own strength up to `most`.

    A network that sees through noise has gradients that look like things, not like noise
    (Kaur, Cohen and Lipton 2019, arXiv 1910.08640): FlexIT follows them.
    """
    strengths = torch.from_numpy(rng.random((len(images), 1, 1, 1), dtype=np.float32)) * most
    return images + strengths * torch.randn_like(images)


def adversarial(images: Tensor, loss_of: Callable[[Tensor], Tensor], radius: float) -> Tensor:
    """Return images (B, 3, H, H), each moved by at most `radius` to where its loss is greater.

    One step up the gradient from a random start, in L2 (Wong, Rice and Kolter 2020, arXiv
    2001.03994). A network trained on such pictures has gradients that change things, not noise
    (Santurkar et al. 2019, arXiv 1906.09453).

    Args:
        radius: root mean square of the move over the values of one picture.
    """
    side = math.sqrt(images[0].numel())
    start = torch.rand(len(images), 1, 1, 1, device=images.device) * torch.randn_like(images)
    leaf = (images + radius * start).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(leaf), leaf)
    move = radius * (start + side * gradient / l2(gradient))
    return images + move * (radius * side / l2(move)).clamp(max=1)


def l2(values: Tensor) -> Tensor:
    """Return the norm of each (B, C, H, W), (B, 1, 1, 1)."""
    return values.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]


def standardised(images: Tensor, side_px: int) -> Tensor:
    """Return images (B, 3, H, H) in [-1, 1] as the image encoder takes them."""
    if images.shape[-1] != side_px:
        images = F.interpolate(images, (side_px, side_px), mode="bicubic", antialias=True)
    return ((images + 1) / 2 - MEAN) / STD


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write one CLIP's folder in open_clip's layout; return it."""
    options = parser(__doc__)
    options.add_argument("--size", choices=VISION, default="resnet")
    options.add_argument("--world", choices=SETS, default="scenes")
    options.add_argument("--hard-negatives", type=int, default=HARD_NEGATIVES)
    options.add_argument("--noise", type=float, default=MOST_NOISE, help="on pictures, at most")
    options.add_argument("--radius", type=float, default=RADIUS, help="of adversarial examples")
    args = options.parse_args(argv)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    folder = args.out or TOYBOX / f"clip_{args.size}"
    worlds = {name: WORLDS[name] for name in SETS[args.world]}
    pictures = {name: world.load(args.work / name) for name, world in worlds.items()}
    wordings = {name: seen.captions() for name, seen in pictures.items()}
    truths = {
        n: seen.truth().to(args.device) for n, seen in pictures.items() if worlds[n].statements
    }
    network = build(args.size, folder, args.world).to(
        args.device, memory_format=torch.channels_last
    )
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    average = Average(network, 0.998)
    side_px = VISION[args.size]["image_size"]
    outer = (
        "conv1",
        "attnpool",
        "token_embedding",
        "positional_embedding",
        "class_embedding",
        "text_projection",
    )
    optimizers = muon_and_adamw(network.named_parameters(), 2e-3, (*outer, "proj", "c_proj"))

    def embedded(images: Tensor) -> Tensor:
        with autocast(args.device):
            return F.normalize(network.encode_image(images).float(), dim=-1)

    def read(texts: Sequence[str]) -> Tensor:
        with autocast(args.device):
            return embed_texts(network, tokenize(list(texts)).to(args.device))

    def batch_of(name: str) -> tuple[Tensor, list[str], np.ndarray]:
        """Return pictures and their captions, then what contradicts these; the pictures' rows."""
        seen, said = pictures[name], wordings[name]
        rows = rng.choice(len(seen), args.batch, replace=False)
        images = seen.batch(rows, rng.random(args.batch) < 0.5)
        texts = [said[row][rng.integers(len(said[row]))] for row in rows]
        for text in list(texts):
            texts += negatives(worlds[name].contradictions(text), args.hard_negatives, rng)
        images = noisy(images, rng, args.noise).to(args.device)
        return standardised(images, side_px), texts, rows

    def loss_of_step(progress: Progress):
        name = SETS[args.world][progress.step % len(worlds)]
        images, texts, rows = batch_of(name)
        words, statements = read(texts), worlds[name].statements
        network.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        scale = network.logit_scale.exp()

        def loss_of(pictures: Tensor) -> Tensor:
            return contrastive_loss(embedded(pictures), words.detach(), scale.detach())

        if args.radius > 0:
            images = adversarial(images, loss_of, args.radius / STD / 2)
        seen = embedded(images)
        loss = contrastive_loss(seen, words, scale)
        matches = (seen @ words.T).argmax(1) == torch.arange(args.batch, device=words.device)
        numbers = {"loss": loss.item(), "scale": scale.item()}
        numbers[f"recall_{name}"] = matches.float().mean().item()
        if statements:
            told = statement_loss(scale * seen @ read(statements).T, truths[name][rows])
            loss, numbers["statements"] = loss + told, told.item()
        return loss, numbers

    named = "" if args.world == "scenes" else f"_{args.world}"
    progress = train(
        args,
        name=f"clip_{args.size}{named}",
        parts={"network": network, "average": average.module},
        optimizers=optimizers,
        loss_of_step=loss_of_step,
        after_step=lambda p: average.update(network, p.step),
        decay_from=0.5,
    )
    print(f"{progress.samples} samples in {progress.elapsed_s / 60:.1f} minutes")
    save(average.module, folder)
    write_json(folder / "training_log.json", progress.log)
    return folder


if __name__ == "__main__":
    main()
