"""Train one perceptual network: LPIPS for FlexIT's loss (squeeze), another to evaluate with (alex).

    python -m pipelines.training.perceptual --net squeeze --minutes 20
    python -m pipelines.training.perceptual --net alex --minutes 20

Writes `assets/toybox/lpips_loss` or `lpips_eval`. First the backbone learns to name what toy scenes
show (classes, where they are, colours, place), for three quarters of the time, as LPIPS starts from
a classifier of photos. Then its features stay and the non-negative weights of their channels are
calibrated. LPIPS does that on human judgements, of which this world has none: here the order of
two versions of a picture is known by construction (`data.distortions`: the same distortion at two
strengths; one more distortion), and the `lpips` package's own ranking loss (2AFC) is followed.
Last, one factor makes two unrelated scenes 0.72 apart, as Retrieve is in FlexIT's Table 1, so that
the published weight of the distance means what it means there.

A run with longer `--minutes` goes on with both stages. To calibrate anew only, remove
`<work>/perceptual_*_layers*.pt`. `python -m pipelines.benchmarks perceptual` measures what the
calibration brought.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import lpips
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.distortions import DISTORTIONS, SPOILT, triplets
from pipelines.data.scenes import CLASSES, COLOURS, PLACES
from pipelines.models.judge import Verdict
from pipelines.models.perceptual import NETS, Perceptual, stored, untrained
from pipelines.training.common import TOYBOX, Average, Progress, parser, train, write_json
from pipelines.training.muon import muon_and_adamw
from pipelines.training.scene_data import SceneSet, class_indices
from pipelines.training.scene_judge import class_masks, disturb, judge_loss, targets

FOLDERS = {"squeeze": "lpips_loss", "alex": "lpips_eval"}
UNRELATED = 0.72
FEATURES_PART = 0.75
PAIRS = 256


class Head(nn.Module):
    """The scene judge's four questions, asked of the last features alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(width, len(CLASSES), 1)
        self.colour = nn.Conv2d(width, len(CLASSES) * (len(COLOURS) + 1), 1)
        self.place = nn.Linear(width, len(PLACES))

    def forward(self, features: Tensor) -> Verdict:
        """Return the verdict on features (B, width, h, w)."""
        planes = self.maps(features)
        flat = planes.flatten(2)  # (B, K, h w)
        colours = self.colour(features).unflatten(1, (len(CLASSES), -1)).flatten(3)
        return Verdict(
            presence=flat.logsumexp(-1) - math.log(flat.shape[-1]),
            colour=(colours * flat.softmax(-1)[:, :, None]).sum(-1),
            place=self.place(features.mean((2, 3))),
            maps=planes,
        )


def build(net: str) -> lpips.LPIPS:
    """Return an untrained network, its rectifiers fed at even scale, every channel worth the same.

    Until it is calibrated, its distance is that of the package's `lpips=False`, the mean of layers.
    """
    network = untrained(net)
    for layer in network.net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    for lin in network.lins:
        nn.init.constant_(lin.model[-1].weight, 1 / len(network.lins))
    return network


def share(args: argparse.Namespace, part: float) -> argparse.Namespace:
    """Return the options of one of the two stages, `part` of the minutes."""
    return argparse.Namespace(**{**vars(args), "minutes": args.minutes * part})


def train_features(
    args: argparse.Namespace, network: lpips.LPIPS, scenes: SceneSet, rng: np.random.Generator
) -> None:
    """Teach the backbone to name what scenes show; leaves the average of its weights in it."""
    answers, classes = targets(scenes.scenes), class_indices(scenes.scenes)
    reader = nn.ModuleDict({"net": network.net, "head": Head(network.chns[-1])}).to(args.device)
    average = Average(reader, 0.998)
    network.net.requires_grad_()

    def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
        images, labels, rows = batch_of(args, scenes, rng)
        features = reader["net"](network.scaling_layer(disturb(images, rng)))[-1]
        verdict = reader["head"](features)
        masks = class_masks(classes[rows], labels)
        masks = F.interpolate(masks, verdict.maps.shape[-2:], mode="area").to(args.device)
        expected = [answer[rows].to(args.device) for answer in answers]
        loss = judge_loss(verdict, *expected, masks)
        right = ((verdict.presence > 0) == (expected[0] > 0)).float().mean().item()
        return loss, {"loss": loss.item(), "presence": right}

    train(
        share(args, FEATURES_PART),
        name=f"perceptual_{args.net}_features",
        parts={"reader": reader, "average": average.module},
        optimizers=muon_and_adamw(
            reader.named_parameters(), 2e-3, ("slice1", "maps", "colour", "place")
        ),
        loss_of_step=loss_of_step,
        after_step=lambda p: average.update(reader, p.step),
        decay_from=0.5,
    )
    network.net.load_state_dict(average.module["net"].state_dict())
    network.net.requires_grad_(False)


def calibrate(
    args: argparse.Namespace, network: lpips.LPIPS, scenes: SceneSet, rng: np.random.Generator
) -> None:
    """Rank triplets with `lpips.BCERankingLoss`; the channels' weights stay non-negative."""
    distance, ranking = Perceptual(network, fingerprint=""), lpips.BCERankingLoss().to(args.device)
    kinds = [*DISTORTIONS, *[SPOILT] * len(DISTORTIONS)]  # half of the time where pixels mislead
    network.lins.requires_grad_()

    def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
        images, labels, _ = batch_of(args, scenes, rng)
        kind = kinds[int(rng.integers(len(kinds)))]
        pair = triplets(images.cpu(), labels, kind, int(rng.integers(2**31)))
        seen = distance.features(images)
        near, far = (distance.distance_to(seen, side.to(args.device)) for side in pair)
        second = torch.from_numpy(rng.random(len(images)) < 0.5).to(args.device)
        first_d, second_d = torch.where(second, far, near), torch.where(second, near, far)
        loss = ranking(*(d.view(-1, 1, 1, 1) for d in (first_d, second_d, 2.0 * second - 1)))
        right = (near < far).float().mean().item()
        return loss, {"loss": loss.item(), "two_afc": right}

    def keep_positive(progress: Progress) -> None:
        with torch.no_grad():
            for lin in network.lins:
                lin.model[-1].weight.clamp_(min=0)

    weights = [*network.lins.parameters(), *ranking.parameters()]
    train(
        share(args, 1 - FEATURES_PART),
        name=f"perceptual_{args.net}_layers",
        parts={"lins": network.lins, "ranking": ranking},
        optimizers=[torch.optim.AdamW(weights, 1e-3, weight_decay=0)],
        loss_of_step=loss_of_step,
        after_step=keep_positive,
    )
    network.lins.requires_grad_(False)


@torch.no_grad()
def rescale(network: lpips.LPIPS, scenes: SceneSet, device: str) -> float:
    """Make unrelated scenes UNRELATED apart on average; return what they were."""
    distance = Perceptual(network, fingerprint="")
    count = min(PAIRS, len(scenes) // 2)
    apart = [
        distance.distance(
            *scenes.batch([i, len(scenes) - 1 - i], [False, False]).to(device)[:, None]
        )
        for i in range(count)
    ]
    before = float(torch.cat(apart).mean())
    for lin in network.lins:
        lin.model[-1].weight.mul_(UNRELATED / before)
    return before


def batch_of(
    args: argparse.Namespace, scenes: SceneSet, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (B, 3, 128, 128) on the device, label maps and row numbers of random scenes."""
    rows, flips = rng.integers(len(scenes), size=args.batch), rng.random(args.batch) < 0.5
    images = scenes.batch(rows, flips).to(args.device)
    return images, scenes.labels(rows, flips), torch.from_numpy(rows)


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) one network and write its pack entry; return its folder."""
    options = parser(__doc__)
    options.add_argument("--net", choices=NETS, required=True)
    args = options.parse_args(argv)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    scenes = SceneSet(args.work / "scenes")
    network = build(args.net).to(args.device)
    train_features(args, network, scenes, rng)
    calibrate(args, network, scenes, rng)
    before = rescale(network, scenes, args.device)
    print(f"unrelated scenes were {before:.3f} apart and are now {UNRELATED}")
    folder = args.out or TOYBOX / FOLDERS[args.net]
    write_json(folder / "config.json", {"net": args.net})
    save_file(stored(network.cpu()), folder / "model.safetensors")
    return folder


if __name__ == "__main__":
    main()
