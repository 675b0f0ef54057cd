"""Train SIMAT's adaptation heads for one CLIP, all temperatures in one run.

    python -m pipelines.training.adaptation_heads --clip assets/toybox/clip_resnet --minutes 2

The CLIP is frozen: its embeddings of the training scenes and of their captions are computed once
(about two minutes of one core for 24,000 scenes) and kept in `--work`. The loss is eq. 3.3 of the
thesis at a fixed temperature; published are 30 epochs of 4,096 captions with Adam at 1e-3. The last
scenes are held out: `heads.json` has the image-to-text recall at 1 among RECALL_AMONG of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.benchmarks.clip import recall_at_1
from pipelines.devices import Device
from pipelines.models.adaptation_heads import AdaptationHeads, save_heads
from pipelines.models.dual_encoder import DualEncoder
from pipelines.simat import adapt
from pipelines.training.common import TOYBOX, Progress, parser, train
from pipelines.training.scene_clip import contrastive_loss
from pipelines.training.scene_data import CAPTIONS_PER_SCENE, SceneSet

TEMPERATURES = ("0.01", "0.03", "0.1", "0.3", "1")
RECALL_AMONG = 256
HELD_OUT_SCENES = 4 * RECALL_AMONG
CHUNK = 64


@torch.no_grad()
def embed_batches(encoder: DualEncoder, batches: Iterable[Tensor]) -> Tensor:
    """Return unit vectors (N, D) on the CPU of batches of images (B, 3, H, H) in [-1, 1]."""
    return torch.cat([encoder.embed_images(batch).cpu() for batch in batches])


@torch.no_grad()
def embed_texts(encoder: DualEncoder, texts: Sequence[str]) -> Tensor:
    """Return unit vectors (N, D) on the CPU."""
    starts = range(0, len(texts), 4 * CHUNK)
    return torch.cat([encoder.embed_texts(texts[i : i + 4 * CHUNK]).cpu() for i in starts])


def embeddings(encoder: DualEncoder, work: Path) -> tuple[Tensor, Tensor]:
    """Return images (N, D) and captions (N, CAPTIONS_PER_SCENE, D) of the training scenes."""
    path = work / f"embeddings_{encoder.fingerprint}.safetensors"
    if not path.exists():
        scenes = SceneSet(work / "scenes")
        rows = np.array_split(np.arange(len(scenes)), max(1, len(scenes) // CHUNK))
        images = embed_batches(encoder, (scenes.batch(r, [False] * len(r)) for r in rows))
        texts = [text for wordings in scenes.captions() for text in wordings]
        captions = embed_texts(encoder, texts).view(len(scenes), CAPTIONS_PER_SCENE, -1)
        save_file({"images": images, "captions": captions}, path)
    kept = load_file(path)
    return kept["images"], kept["captions"]


def mean_recall(image_embeds: Tensor, text_embeds: Tensor) -> float:
    """Return how often a picture's own caption is the closest among RECALL_AMONG."""
    pools = zip(image_embeds.split(RECALL_AMONG), text_embeds.split(RECALL_AMONG), strict=True)
    return fmean(recall_at_1(images, texts) for images, texts in pools)


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the heads beside the CLIP's embeddings; return their folder."""
    options = parser(__doc__)
    options.add_argument(
        "--clip", type=Path, default=TOYBOX / "clip_resnet", help="open_clip folder"
    )
    options.set_defaults(minutes=2.0, batch=1024)
    args = options.parse_args(argv)
    encoder = DualEncoder.from_folder(
        args.clip, Device(args.device, torch.device(args.device), torch.float32)
    )
    images, captions = embeddings(encoder, args.work)
    first_held_out = len(images) - min(HELD_OUT_SCENES, len(images) // 3)
    rng = np.random.default_rng(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    heads = nn.ModuleList(
        AdaptationHeads.near_identity(encoder.dim, generator) for _ in TEMPERATURES
    ).to(args.device)

    def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
        rows = torch.from_numpy(rng.permutation(first_held_out)[: args.batch])
        wording = torch.from_numpy(rng.integers(CAPTIONS_PER_SCENE, size=len(rows)))
        shown, said = images[rows].to(args.device), captions[rows, wording].to(args.device)
        losses = {
            tau: contrastive_loss(
                adapt(shown, pair.image), adapt(said, pair.text), torch.tensor(1 / float(tau))
            )
            for tau, pair in zip(TEMPERATURES, heads, strict=True)
        }  # the heads share no weight, so the sum trains each on its own loss
        numbers = {f"loss_{tau}": loss.item() for tau, loss in losses.items()}
        return torch.stack(list(losses.values())).sum(), numbers

    progress = train(
        args,
        name=f"heads_{encoder.name}_{encoder.fingerprint}",
        parts={"heads": heads},
        optimizers=[torch.optim.Adam(heads.parameters(), lr=1e-3)],
        loss_of_step=loss_of_step,
    )
    shown, said = images[first_held_out:], captions[first_held_out:, 0]
    trained = dict(zip(TEMPERATURES, heads.cpu(), strict=True))
    recall = {"raw": mean_recall(shown, said)}
    for tau, pair in trained.items():
        recall[tau] = mean_recall(adapt(shown, pair.image), adapt(said, pair.text))
    facts = {
        "clip": encoder.fingerprint,
        "samples": progress.samples,
        f"recall_at_1_of_{min(RECALL_AMONG, len(shown))}": {
            k: round(v, 4) for k, v in recall.items()
        },
    }
    print(facts)
    folder = args.out or TOYBOX / "retrieval" / encoder.name
    save_heads(folder, trained, facts)
    return folder


if __name__ == "__main__":
    main()
