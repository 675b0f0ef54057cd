"""Seconds and memory of every method of photo packs at their published sizes, random weights.

    python -m pipelines.benchmarks photo [--shape sd15|sdxl|tiny] [--steps 5] [--n 1]
    python -m pipelines.benchmarks photo --steps 2 --no-warm-up         (on two cores: memory)

FlexIT runs on VQGAN f16-1024, OpenAI's CLIPs of the pack (--clips takes some of them) and LPIPS's
VGG, beside the diffusion model that the page holds anyway. --methods takes some of the methods,
--append adds them to a file.

Speed and memory do not depend on what the weights say, so none are needed. Each method is run once
to warm up, unless --no-warm-up, and n times on the clock, in the device's own number format. Peak
memory while a method runs is that of the GPU's allocations, on a CPU that of the whole process.
--against-diffusers also times diffusers' DiffEdit at 50 steps beside ours (no Stable Diffusion XL:
theirs has none), same networks, one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, VQModel
from open_clip.tokenizer import SimpleTokenizer
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from pipelines import devices
from pipelines.benchmarks.diffedit import Batch, draw_queries
from pipelines.benchmarks.latency import diffusers_edit, ours
from pipelines.benchmarks.memory import peak_mib
from pipelines.benchmarks.report import Report, parser
from pipelines.devices import Device
from pipelines.layouts import Layout, Segment
from pipelines.models import dual_encoder, perceptual
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.models.text_encoders import SecondText
from pipelines.models.vqgan import RESOLUTION_PX, VQGAN
from pipelines.params import build, specs
from pipelines.registry import METHODS
from pipelines.repositories import OPENAI_CLIPS, role_of

SCHEDULER = {
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
LARGE = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True,
    "cross_attention_dim": 2048, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sdxl": {"sample_size": 128, **LARGE},
    "tiny": {
        "sample_size": 8, "cross_attention_dim": 32, "attention_head_dim": 2,
        "block_out_channels": (16, 32, 32, 32), "norm_num_groups": 8,
    },
}  # fmt: skip
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "latent_channels": 4, "norm_num_groups": 32,
    "layers_per_block": 2, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
TINY_VAE = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 8}
VQGAN_F16: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4 + ("AttnDownEncoderBlock2D",),
    "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 128, 256, 256, 512), "layers_per_block": 2,
    "latent_channels": 256, "vq_embed_dim": 256, "num_vq_embeddings": 1024,
}  # fmt: skip
TINY_VQGAN = {"block_out_channels": (32, 32, 32, 32, 32), "latent_channels": 4, "vq_embed_dim": 4}
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
SECOND = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20,
    "num_hidden_layers": 32, "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
TINY_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
EDITS = ("diffedit", "diffedit_no_encode", "encode_decode", "prompt_to_prompt", "sdedit")
PAINTS = ("zestguide", "zestguide_pww", "paint_with_words", "multidiffusion", "plain_sampling")
FLEXIT = "flexit"
ALL = (*EDITS, *PAINTS, FLEXIT)
BUDGET_MIB = 16 * 1024
SOURCE, TARGET = "a horse on the beach", "a zebra on the beach"


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Return CLIP's own tokenizer, from the vocabulary that open_clip carries."""
    words = SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(word, word): i for word, i in words.encoder.items()}
    merges = "\n".join(" ".join(pair) for pair in words.bpe_ranks)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def filled(network_class: type[Any], config: dict[str, Any], device: Device) -> Any:
    """Return a network with random weights, made where and in what format it computes."""
    with torch.device("meta"):
        network: nn.Module = network_class(**config).to(device.dtype)
    network = network.to_empty(device=device.torch_device)
    generator = torch.Generator(device.torch_device).manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.02, generator=generator)
            else:
                weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return network


def random_model(shape: str, device: Device) -> LatentDiffusion:
    """Return a model of a published shape with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        words = tokenizer(Path(folder))
    common = {"vocab_size": len(words), "bos_token_id": 49406, "eos_token_id": 49407}
    first = CLIPTextModel(CLIPTextConfig(**common, **(TINY_TEXT if shape == "tiny" else TEXT)))
    second = None
    if shape == "sdxl":
        encoder = CLIPTextModelWithProjection(CLIPTextConfig(**common, **SECOND))
        encoder = encoder.to(device.torch_device, device.dtype)
        second = SecondText(encoder, words, zero_empty=True)
    vae = VAE | (TINY_VAE if shape == "tiny" else {})
    return LatentDiffusion(
        filled(AutoencoderKL, vae, device),
        first.to(device.torch_device, device.dtype),
        words,
        filled(UNet2DConditionModel, UNETS[shape], device),
        SCHEDULER,
        fingerprint=f"random {shape}",
        second_text=second,
    )


def run_of(model: LatentDiffusion, name: str, steps: int) -> Callable[[], int]:
    """Return a call of one method that returns its UNet evaluations, counted by sample."""
    method = METHODS[name]
    known = {spec.name for spec in specs(method.load_params())}
    params = build(method.load_params(), {"num_maps": 2} if "num_maps" in known else {})
    params = replace(params, num_steps=steps)  # fewer than the page offers will do
    if method.tab == "layouts":
        side = model.resolution
        labels = np.zeros((side, side), np.uint8)
        labels[side // 4 : side // 2, side // 4 : side // 2] = 1
        layout = Layout("on the beach", (Segment("a horse"),), labels)
        return lambda: method.load()(model, [layout], params, seeds=[0]).network_evaluations
    images = torch.zeros(1, 3, model.resolution, model.resolution)
    given = [SOURCE], [TARGET], params
    return lambda: method.load()(model, images, *given, seeds=[0]).network_evaluations


def flexit_run(shape: str, clips: Sequence[str], steps: int, device: Device) -> Callable[[], int]:
    """Return a call of FlexIT with its own networks, which returns its UNet evaluations: none."""
    single = replace(device, dtype=torch.float32)  # as the app holds them: gradients need it
    config = VQGAN_F16 | (TINY_VQGAN if shape == "tiny" else {})
    space = VQGAN(filled(VQModel, config, single), fingerprint="random")
    where = device.torch_device
    encoders = {
        role_of(name): DualEncoder(
            dual_encoder.untrained(name).to(where),
            open_clip.get_tokenizer(name),
            name=name,
            fingerprint="random",
        )
        for name in clips
    }
    network = perceptual.untrained(perceptual.PUBLISHED).to(where)
    distance = perceptual.Perceptual(network, fingerprint="random")
    method = METHODS[FLEXIT]
    params = replace(build(method.load_params(), {}), num_steps=steps)
    pictures = torch.zeros(1, 3, space.resolution, space.resolution, device=where)
    given = space, pictures, [SOURCE], [TARGET], params
    models = {"clips": encoders, "perceptual": distance}
    return lambda: method.load()(*given, seeds=[0], **models).network_evaluations


def timed(run: Callable[[], int], device: Device) -> tuple[float, int]:
    """Return the seconds of one run, the device's queue emptied, and what it returned."""
    started = time.perf_counter()
    evaluations = run()
    if device.name == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, evaluations


def theirs(model: LatentDiffusion, batch: Batch) -> Callable[[], int]:
    """Return diffusers' deprecated DiffEdit around the same networks."""
    from diffusers import (
        DDIMInverseScheduler,
        DDIMScheduler,
        StableDiffusionDiffEditPipeline,
    )

    scheduler, inverse = (
        kind(**SCHEDULER, clip_sample=False) for kind in (DDIMScheduler, DDIMInverseScheduler)
    )
    pipeline = StableDiffusionDiffEditPipeline(
        vae=model.vae, text_encoder=model.text_encoder, tokenizer=model.tokenizer,
        unet=model.unet, scheduler=scheduler, inverse_scheduler=inverse, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    edit = diffusers_edit(pipeline, model, [0])
    return lambda: edit(batch)


def ratio_to_diffusers(model: LatentDiffusion, device: Device, *, n: int, seed: int) -> float:
    """Return how many times as long diffusers' DiffEdit takes at 50 steps: the median of n."""
    images = torch.zeros(1, 3, model.resolution, model.resolution, device=model.device)
    batch = Batch(draw_queries(1, seed), images, images, images[:, 0], [seed])
    mine = ours(model, {"num_steps": 50, "guidance_scale": 3.0})
    pairs = [
        (timed(theirs(model, batch), device)[0], timed(lambda: mine(batch), device)[0])
        for _ in range(n + 1)  # the first one warms up
    ][1:]
    return statistics.median(theirs_s / ours_s for theirs_s, ours_s in pairs)


def main(argv: Sequence[str] | None = None) -> None:
    """Record seconds, evaluations and memory of every method."""
    options = parser(__doc__, n=1)
    options.add_argument("--shape", choices=list(UNETS), default="sd15")
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--warm-up", action=argparse.BooleanOptionalAction, default=True)
    options.add_argument("--methods", nargs="+", choices=ALL, default=ALL)
    options.add_argument("--clips", nargs="+", choices=list(OPENAI_CLIPS), default=OPENAI_CLIPS)
    options.add_argument("--append", action="store_true", help="keep the records of --json")
    options.add_argument("--against-diffusers", action="store_true")
    args = options.parse_args(argv)
    device = devices.pick()
    report = Report("photo", seed=args.seed, path=args.json, append=args.append)
    model = random_model(args.shape, device)
    dtype = str(device.dtype).removeprefix("torch.")
    where = f"{torch.get_num_threads()} threads" if device.name == "cpu" else device.name
    setting = f"{args.shape} {model.resolution} px {args.steps} steps {dtype} {where}"
    settings = dict.fromkeys(ALL, setting)
    settings[FLEXIT] = f"{args.shape} {RESOLUTION_PX} px {args.steps} steps float32 {where}"
    settings[FLEXIT] += f" {len(args.clips)} CLIPs"
    for name in args.methods:
        if name == FLEXIT:
            run = flexit_run(args.shape, args.clips, args.steps, device)
        else:
            run = run_of(model, name, args.steps)
        if args.warm_up:
            timed(run, device)
        peak_mib(device)
        seconds, evaluations = zip(*(timed(run, device) for _ in range(args.n)), strict=True)
        report.add("seconds", name, seconds, setting=settings[name])
        report.add("unet_evaluations", name, float(evaluations[0]), setting=settings[name])
        report.add("peak_mib", name, peak_mib(device), setting=settings[name])
    found = {name: report.value("peak_mib", name, told) for name, told in settings.items()}
    peaks = {name: peak for name, peak in found.items() if peak is not None}
    worst = max(peaks, key=peaks.__getitem__)
    report.claim(
        f"every method runs within {BUDGET_MIB // 1024} GiB ({args.shape}, {model.resolution} px)",
        peaks[worst] <= BUDGET_MIB,
        f"{worst} takes {peaks[worst]:.0f} MiB, the most of {len(peaks)} ({dtype}, {where})",
    )
    if args.against_diffusers and model.second_text is None:
        ratio = ratio_to_diffusers(model, device, n=args.n, seed=args.seed)
        report.add("ratio_to_diffusers", "diffedit", ratio, setting=setting, n=args.n)


if __name__ == "__main__":
    main()
