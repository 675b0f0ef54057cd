"""Train the scene model: text encoder and UNet together, on latents of the scene autoencoder.

    python -m pipelines.training.scene_diffusion --minutes 90

Two phases, as Stable Diffusion was trained at 256 before 512 pixels: the first part of the run
sees scenes at half size (16 x 16 latents), where a sample costs a quarter and words are learnt;
the rest sees them at full size (32 x 32). v-prediction, a loss that grounds nouns in the pixels
they name (pipelines.training.grounding), scenes drawn in proportion to the number of their things
and things weighted above their place (small things among others are learnt last), captions dropped
at 10 % so that the empty prompt means "any scene", an average of the weights over the last
thousands of steps. The run ends by writing the diffusers folder;
`python -m pipelines.benchmarks faithfulness` measures it.

A machine without the checkpoint goes on from what the pack ships, with new optimizer states:

    python -m pipelines.training.scene_diffusion --from-pack --rewarm --half-size-part 0 \
        --batch 48 --minutes 300
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipelines.data.captions import VOCABULARY
from pipelines.diffusion.attention import capture
from pipelines.diffusion.schedule import NoiseSchedule
from pipelines.training import word_tokenizer
from pipelines.training.common import (
    TOYBOX,
    Average,
    Progress,
    autocast,
    fraction_of,
    parser,
    save_checkpoint,
    train,
    write_json,
)
from pipelines.training.grounding import class_tokens, grounding_loss, noun_masks
from pipelines.training.muon import muon_and_adamw
from pipelines.training.scene_data import SceneSet

MAX_TOKENS = 32
TEXT_WIDTH = 128
CAPTION_DROPOUT = 0.1
GROUNDING_WEIGHT = 0.05
THING_WEIGHT = 3.0
"""Weight of pixels that show a thing; the place has 1, and the mean of a picture is 1 again."""
GROUNDING_EVERY = 4
"""Steps: attention maps and their gradient are a large part of a step that records them."""


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained CLIP text encoder; pieces of unknown words start (and stay) at zero."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModel(config)
    known = set(tokenizer.convert_tokens_to_ids([word + "</w>" for word in VOCABULARY]))
    known |= {tokenizer.bos_token_id, tokenizer.eos_token_id}
    embedding = encoder.get_input_embeddings().weight.data
    embedding.normal_(std=0.1)
    embedding[[i for i in range(len(tokenizer)) if i not in known]] = 0
    return encoder


def build_unet(widths: tuple[int, int, int], heads: tuple[int, int, int]) -> UNet2DConditionModel:
    """Return an untrained UNet with cross-attention at 32, 16 and 8.

    At 32 x 32 the cost of self-attention is quadratic in 1,024 positions: there both attentions
    of a layer look at the text (`only_cross_attention`), and only on the way up.
    """
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=heads,
        norm_num_groups=16,
        only_cross_attention=(True, False, False),
        mid_block_only_cross_attention=False,
    )


def build_scheduler() -> DDIMScheduler:
    """Return the noise schedule of Stable Diffusion, with v-prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@dataclass(frozen=True)
class Latents:
    """Latents (N, 2, 4, 32, 32) and half-size (N, 2, 4, 16, 16), float16; [:, 1] mirrored."""

    full: torch.Tensor
    half: torch.Tensor


@torch.no_grad()
def encode_scenes(scenes: SceneSet, vae: AutoencoderTiny, path: Path, device: str) -> Latents:
    """Return the latents of all scenes, from `path` when it holds those of this encoder."""
    weights = b"".join(p.detach().cpu().numpy().tobytes() for p in vae.encoder.parameters())
    key = f"{hashlib.sha256(weights).hexdigest()[:16]} {len(scenes)}"
    if path.exists():
        stored = torch.load(path, weights_only=True, mmap=True)
        if stored["key"] == key:
            return Latents(stored["full"], stored["half"])
    full = torch.empty(len(scenes), 2, 4, 32, 32, dtype=torch.float16)
    half = torch.empty(len(scenes), 2, 4, 16, 16, dtype=torch.float16)
    for first in range(0, len(scenes), 125):
        indices = range(first, min(first + 125, len(scenes)))
        for flip in (False, True):
            images = scenes.batch(indices, [flip] * len(indices))
            images = images.to(device, memory_format=torch.channels_last)
            full[list(indices), int(flip)] = vae.encode(images).latents.half().cpu()
            halved = vae.encode(F.avg_pool2d(images, 2)).latents
            half[list(indices), int(flip)] = halved.half().cpu()
    torch.save({"key": key, "full": full, "half": half}, path)
    return Latents(full, half)


def velocity_error(
    unet: UNet2DConditionModel,
    text: torch.Tensor,
    latents0: torch.Tensor,
    alphas_cumprod: torch.Tensor,
) -> torch.Tensor:
    """Return the squared error (B, h, w) of the v-prediction (Salimans and Ho 2022, appendix D).

    Timesteps are stratified over the batch, which lowers the variance of the gradient.

    Args:
        unet: called with (noisy latents, timesteps, text).
        text: states of the captions, (B, L, C).
        latents0: clean latents, (B, 4, h, w).
        alphas_cumprod: (T,).
    """
    size, device = len(latents0), latents0.device
    strata = (torch.arange(size, device=device) + torch.rand(size, device=device)) / size
    timesteps = (strata * len(alphas_cumprod)).long()
    alpha = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noise = torch.randn_like(latents0)
    noisy = alpha.sqrt() * latents0 + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents0
    predicted = unet(noisy, timesteps, text, return_dict=False)[0].float()
    return (predicted - velocity).square().mean(1)


def emphasis(labels: torch.Tensor, side: int) -> torch.Tensor:
    """Return weights (B, side, side) of mean 1 in each picture, larger where its things are.

    A weight leaves the best prediction of each pixel as it is; it moves what the network learns
    first. `labels` (B, H, W) are label maps, 0 = background.
    """
    things = F.interpolate((labels > 0).float().unsqueeze(1), (side, side), mode="area")[:, 0]
    weights = 1 + (THING_WEIGHT - 1) * things
    return weights / weights.mean((1, 2), keepdim=True)


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the scene pack entry; return its folder."""
    options = parser(__doc__)
    options.add_argument("--widths", type=int, nargs=3, default=(32, 64, 192))
    options.add_argument("--heads", type=int, nargs=3, default=(2, 2, 6))
    options.add_argument("--half-size-part", type=float, default=0.35, help="of the run")
    options.add_argument("--learning-rate", type=float, default=2e-3)
    options.add_argument(
        "--from-pack", action="store_true", help="without a checkpoint, go on from --out's weights"
    )
    args = options.parse_args(argv)
    folder = args.out or TOYBOX / "scenes"
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    scenes = SceneSet(args.work / "scenes")
    vae = AutoencoderTiny.from_pretrained(folder / "vae").float().to(args.device)
    latents = encode_scenes(scenes, vae, args.work / "scene_latents.pt", args.device)
    tokenizer = word_tokenizer.build(VOCABULARY, folder / "tokenizer", max_length=MAX_TOKENS)
    tokens = tokenize(tokenizer, scenes.captions())
    empty = tokenize(tokenizer, [[""]])[0, 0]
    things = class_tokens(tokenizer, scenes.scenes)
    counts = np.array([len(scene.things) for scene in scenes.scenes], dtype=np.float64)
    crowded = counts / counts.sum()
    text_encoder = build_text_encoder(tokenizer).to(args.device)
    unet = build_unet(tuple(args.widths), tuple(args.heads))
    unet = unet.to(args.device, memory_format=torch.channels_last)
    if args.device == "cpu":  # the fused kernel's gradient takes longer than its parts' on a CPU
        unet.set_attn_processor(AttnProcessor())
    shipped = open_pack(folder, unet, text_encoder) if args.from_pack else Progress()
    watched, attention = capture(unet)
    averages = Average(unet, 0.999), Average(text_encoder, 0.999)
    scheduler = build_scheduler()
    schedule = NoiseSchedule.from_config(scheduler.config)
    alphas_cumprod = schedule.alphas_cumprod.float().to(args.device)
    modules = [*unet.named_parameters(), *text_encoder.named_parameters()]
    outer = "conv_in", "conv_out", "embedding", "embeddings"
    optimizers = muon_and_adamw(modules, args.learning_rate, outer)
    parts = {
        "unet": unet,
        "text_encoder": text_encoder,
        "average_unet": averages[0].module,
        "average_text_encoder": averages[1].module,
    }
    checkpoint = args.work / "scene_diffusion.pt"
    if args.from_pack and not checkpoint.exists():
        states = {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
        save_checkpoint(checkpoint, shipped, **parts, **states)

    def loss_of_step(progress: Progress):
        at_half = fraction_of(args, progress) < args.half_size_part
        source = latents.half if at_half else latents.full
        rows = torch.from_numpy(rng.choice(len(scenes), args.batch, p=crowded))
        flips = torch.from_numpy(rng.integers(2, size=args.batch))
        varied = torch.from_numpy(rng.integers(tokens.shape[1], size=args.batch))
        token_ids = tokens[rows, varied].clone()
        token_ids[torch.from_numpy(rng.random(args.batch) < CAPTION_DROPOUT)] = empty
        latents0 = source[rows, flips].float().to(args.device, memory_format=torch.channels_last)
        is_grounded = progress.step % GROUNDING_EVERY == 0
        with autocast(args.device):
            text = text_encoder(token_ids.to(args.device)).last_hidden_state
            network = watched if is_grounded else unet
            errors = velocity_error(network, text, latents0, alphas_cumprod)
        labels = scenes.labels(rows.tolist(), flips.tolist())
        velocity = (emphasis(labels, latents0.shape[-1]).to(args.device) * errors).mean()
        numbers = {"velocity_mse": errors.mean().item(), "weighted_mse": velocity.item()}
        if not is_grounded:
            return velocity, numbers
        nouns, masks = (x.to(args.device) for x in noun_masks(token_ids, things[rows], labels))
        grounding = grounding_loss(attention, nouns, masks)
        loss = velocity + GROUNDING_EVERY * GROUNDING_WEIGHT * grounding
        return loss, {**numbers, "grounding": grounding.item()}

    def after_step(progress: Progress) -> None:
        averages[0].update(unet, progress.step)
        averages[1].update(text_encoder, progress.step)

    progress = train(
        args,
        name="scene_diffusion",
        parts=parts,
        optimizers=optimizers,
        loss_of_step=loss_of_step,
        after_step=after_step,
    )
    print(f"{progress.samples} samples in {progress.elapsed_s / 60:.1f} minutes")
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=averages[1].module,
        tokenizer=tokenizer,
        unet=averages[0].module,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to("cpu", torch.float16).save_pretrained(folder, max_shard_size="12MB")
    write_json(folder / "training_log.json", progress.log)
    return folder


def open_pack(folder: Path, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> Progress:
    """Copy the weights of a diffusers folder into both networks; return how far they had come."""
    shipped = UNet2DConditionModel.from_pretrained(folder / "unet")
    unet.load_state_dict(shipped.float().state_dict())
    words = CLIPTextModel.from_pretrained(folder / "text_encoder")
    text_encoder.load_state_dict(words.float().state_dict())
    log = json.loads((folder / "training_log.json").read_text())
    last = log[-1]
    return Progress(last["step"], last["samples"], 60 * last["minutes"], log)


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[Sequence[str]]) -> torch.Tensor:
    """Return token ids (N, K, MAX_TOKENS) of N lists of K texts."""
    flat = [text for row in texts for text in row]
    ids = tokenizer(flat, padding="max_length", truncation=True, max_length=MAX_TOKENS).input_ids
    return torch.tensor(ids).view(len(texts), -1, MAX_TOKENS)


if __name__ == "__main__":
    main()
