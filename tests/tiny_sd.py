"""Folders of the published layouts, Stable Diffusion 1.5 and XL, with small random networks."""

import json

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from pipelines.devices import Device
from pipelines.models.latent_diffusion import LatentDiffusion

CPU = Device("cpu", torch.device("cpu"), torch.float32)
WIDTH = 32
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer(folder, pad=END):
    """CLIP's tokenizer with one token a letter: 75 letters are read."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokens = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def text_config(words, **extra):
    end = words.convert_tokens_to_ids(END)
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=77, bos_token_id=end - 1, eos_token_id=end,
        pad_token_id=end, **extra,
    )  # fmt: skip


def autoencoder():
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4, sample_size=128,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def write_sd(folder, *, prediction_type="epsilon", variant=None):
    """Write Stable Diffusion 1.5's layout (or 2.1's, by the prediction type), at 128 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = tokenizer(folder / "tokenizer")
        if prediction_type == "epsilon":
            scheduler = PNDMScheduler(**BETAS, set_alpha_to_one=False, steps_offset=1)
        else:
            scheduler = DDIMScheduler(
                **BETAS, prediction_type=prediction_type, set_alpha_to_one=False, steps_offset=1,
                clip_sample=False,
            )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=16, cross_attention_dim=WIDTH, block_out_channels=(16, 32, 32, 32),
            attention_head_dim=2, norm_num_groups=8, layers_per_block=1,
        )  # fmt: skip
        StableDiffusionPipeline(
            vae=autoencoder(), text_encoder=CLIPTextModel(text_config(words)), tokenizer=words,
            unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder, variant=variant)  # fmt: skip
    return folder


def write_sdxl(folder):
    """Write Stable Diffusion XL's layout at 128 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words, others = tokenizer(folder / "tokenizer"), tokenizer(folder / "tokenizer_2", pad="!")
        projected = text_config(words, projection_dim=24, hidden_act="gelu")
        unet = UNet2DConditionModel(
            sample_size=16, cross_attention_dim=2 * WIDTH, block_out_channels=(16, 32, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2), attention_head_dim=(2, 4, 4),
            norm_num_groups=8, layers_per_block=1, use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        )  # fmt: skip
        StableDiffusionXLPipeline(
            vae=autoencoder(), text_encoder=CLIPTextModel(text_config(words)), tokenizer=words,
            text_encoder_2=CLIPTextModelWithProjection(projected), tokenizer_2=others, unet=unet,
            scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading"),
            force_zeros_for_empty_prompt=True,
        ).save_pretrained(folder)  # fmt: skip
    return folder


def tiny_sd(folder, **options):
    """Return the model of `write_sd`, loaded as the app loads it."""
    return LatentDiffusion.from_folder(write_sd(folder, **options), CPU)


def tiny_sdxl(folder):
    """Return the model of `write_sdxl`, loaded as the app loads it."""
    return LatentDiffusion.from_folder(write_sdxl(folder), CPU)
