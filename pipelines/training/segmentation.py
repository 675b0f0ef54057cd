"""What training the segmentation networks of the two worlds shares."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from pipelines.models.segmenter import Segmenter
from pipelines.training.common import Average, Progress, train, write_json
from pipelines.training.muon import muon_and_adamw


def untrained(classes: Sequence[str], *, stride: int = 4) -> SegformerForSemanticSegmentation:
    """Return a network for the background and `classes`, half as wide as the published b0.

    `stride` is that of its logits; the published networks have 4.
    """
    names = dict(enumerate(("background", *classes)))
    config = SegformerConfig(
        strides=(stride, 2, 2, 2),
        hidden_sizes=(24, 48, 96, 128),
        num_attention_heads=(1, 2, 4, 4),
        depths=(2, 2, 2, 2),
        sr_ratios=(4, 2, 1, 1) if stride == 4 else (8, 4, 2, 1),
        decoder_hidden_size=96,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    return SegformerForSemanticSegmentation(config)


def train_segmenter(
    args: argparse.Namespace,
    segmenter: Segmenter,
    loss_of_batch: Callable[[Segmenter], Tensor],
    *,
    name: str,
    folder: Path,
) -> Path:
    """Train (or resume) and write the pack entry of the average; return its folder."""
    average = Average(segmenter, 0.998)
    outer = "patch_embeddings", "classifier"
    optimizers = muon_and_adamw(segmenter.named_parameters(), 2e-3, outer)

    def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
        loss = loss_of_batch(segmenter)
        return loss, {"loss": loss.item()}

    progress = train(
        args,
        name=name,
        parts={"segmenter": segmenter, "average": average.module},
        optimizers=optimizers,
        loss_of_step=loss_of_step,
        after_step=lambda p: average.update(segmenter, p.step),
        decay_from=0.5,
    )
    print(f"{progress.samples} samples in {progress.elapsed_s / 60:.1f} minutes")
    average.module.network.half().save_pretrained(folder)
    write_json(folder / "training_log.json", progress.log)
    return folder


def label_loss(segmenter: Segmenter, images: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross-entropy with class maps (B, H, W), at the stride of the logits."""
    logits = segmenter.network(images).logits  # (B, 1 + K, h, w)
    stride = images.shape[-1] // logits.shape[-1]
    first = (stride - 1) // 2
    return F.cross_entropy(logits, wanted[:, first::stride, first::stride])
