"""A latent diffusion model: autoencoder, text encoder, UNet and noise schedule in one bundle.

Opens a diffusers folder (layout of Stable Diffusion 1, 2 and XL, the toybox's scene model
included).
Latent scaling and the conversion of v-prediction to epsilon happen here and nowhere else.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipelines import devices, hub, weights
from pipelines.devices import Device
from pipelines.diffusion.attention import AttentionStore, capture
from pipelines.diffusion.schedule import EpsModel, NoiseSchedule, epsilon_from_v
from pipelines.models import residence, text_encoders
from pipelines.models.frozen import Mapped, Network, bytes_of, frozen, pays_to_freeze
from pipelines.models.parts import open_part, weights_of
from pipelines.models.residence import Residence
from pipelines.models.text_encoders import Sampled, SecondText

AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
MAX_BATCH = 64
"""Samples of the toybox's 32 x 32 cells in one UNet call; see `LatentDiffusion.max_batch`."""
MIN_BATCH = 3
"""Samples that one call takes whatever their size: Prompt-to-Prompt's three branches."""
ENCODERS, AUTOENCODER, UNET = range(3)
"""Groups of networks that are needed together, as `Residence` counts them."""
NOWHERE: Mapping[str, Path] = MappingProxyType({})


class LatentDiffusion:
    """Networks of one diffusers folder, in evaluation mode and never modified.

    Shapes: images (B, 3, H, W) in [-1, 1]; latents0 (B, C, h, w) of about unit scale, where
    (C, h, w) is `latent_shape`; text_embeds (B, L, D), for Stable Diffusion XL packed with one row
    more (see `text_encoders`), which the methods carry along unseen.

    Attributes:
        schedule: the noise levels of training.
        fingerprint: hash of the weights.
        origin: where they came from, with the commit where the hub gave one.
        resolution: side of its pictures in pixels.
        residence: what lets the networks take turns on a device too small for all; None usually.
    """

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler_config: dict[str, object],
        *,
        fingerprint: str,
        origin: str = "",
        second_text: SecondText | None = None,
        turns_on: torch.device | None = None,
    ) -> None:
        self.vae = vae.eval().requires_grad_(False)
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.unet = unet.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self._whole_texts = copy.deepcopy(tokenizer)  # cutting is a state; threads read at will
        self.schedule = NoiseSchedule.from_config(scheduler_config)
        self.fingerprint, self.origin = fingerprint, origin
        self.second_text = second_text
        encoders = [self.text_encoder, *([second_text.encoder] if second_text else [])]
        groups = encoders, [self.vae], [self.unet]
        self.residence = None if turns_on is None else Residence(turns_on, groups)
        if second_text is not None:
            second_text.encoder.eval().requires_grad_(False)
            with torch.no_grad():  # transformers hooks an encoder when first asked for inner layers
                self.embed_text([""])
        levels = len(vae.config.block_out_channels)
        self.latent_shape = (
            int(unet.config.in_channels),
            int(unet.config.sample_size),
            int(unet.config.sample_size),
        )
        self.cell_px = 2 ** (levels - 1)
        self.resolution = int(unet.config.sample_size) * self.cell_px
        self._eps_model: EpsModel = epsilon_from_v(self._network, self.schedule)

    @classmethod
    def from_folder(
        cls, folder: Path, device: Device, parts: Mapping[str, Path] = NOWHERE
    ) -> LatentDiffusion:
        """Load a diffusers folder in `device`'s dtype; safetensors only, nothing downloaded.

        Args:
            folder: with sub-folders unet, vae, text_encoder, tokenizer and scheduler;
                text_encoder_2 and tokenizer_2 make it a Stable Diffusion XL.
            device: where to.
            parts: sub-folders that lie elsewhere, such as the autoencoder of half precision.

        Raises:
            InputError: weights are missing, damaged or of another architecture.
        """
        target, dtype = device.torch_device, device.dtype
        vae_folder = parts.get("vae", folder / "vae")
        config = json.loads((vae_folder / "config.json").read_text())
        if config["_class_name"] not in AUTOENCODERS:
            raise ValueError(
                f"{vae_folder} is a {config['_class_name']}, expected one of {list(AUTOENCODERS)}"
            )
        overflows = dtype == torch.float16 and config.get("force_upcast", False)
        vae_dtype = torch.float32 if overflows else dtype
        vae = open_part(AUTOENCODERS[config["_class_name"]], vae_folder, vae_dtype)
        if isinstance(vae, AutoencoderKL):
            vae.enable_slicing()  # one picture at a time: the same pixels, less memory
        unet = open_part(UNet2DConditionModel, folder / "unet", dtype)
        text_encoder = open_part(CLIPTextModel, folder / "text_encoder", dtype)
        second_text = second_text_of(folder, device)
        sources = [folder, *parts.values()]
        encoders = [text_encoder, *([second_text.encoder] if second_text else [])]
        size_bytes = sum(bytes_of(part) for part in (vae, unet, *encoders))
        offload = devices.must_offload(device.name, size_bytes, devices.free_bytes(device))
        home = residence.REST if offload else target
        for encoder in encoders:
            encoder.to(home)
        return cls(
            vae.to(home, memory_format=torch.channels_last),
            text_encoder,
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            unet.to(home, memory_format=torch.channels_last),
            json.loads((folder / "scheduler" / "scheduler_config.json").read_text()),
            fingerprint=weights.fingerprint(folder, used_weights(folder, vae_folder)),
            origin=", ".join(hub.origin(source) for source in sources),
            second_text=second_text,
            turns_on=target if offload else None,
        )

    def with_unet(self, unet: UNet2DConditionModel) -> LatentDiffusion:
        """Return the same bundle around another UNet: a copy from `diffusion.attention`."""
        if unet is self.unet:
            return self
        return self._around(unet, None)

    def watched(self) -> tuple[LatentDiffusion, AttentionStore]:
        """Return a bundle whose `eps` fills the store with attention maps, as `capture` does.

        It is for one request and latents of `latent_shape`; what is frozen for it serves all
        requests from the first one on.
        """
        if self._frozen_maps is None:
            unet, store = capture(self.unet)
            return self._around(unet, None), store
        network, sizes = self._frozen_maps
        store = AttentionStore()

        def predict(latents: Tensor, times: Tensor, text_embeds: Tensor) -> Tensor:
            sample, *maps = network(latents, times, text_embeds)
            store.fill(maps, sizes)
            return sample

        return self._around(self.unet, predict), store

    def _around(self, unet: UNet2DConditionModel, network: Network | None) -> LatentDiffusion:
        other = copy.copy(self)
        other.unet, other._frozen, other._frozen_maps = unet, network, None
        other._eps_model = epsilon_from_v(other._network, other.schedule)
        return other

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.unet.device if self.residence is None else self.residence.device

    @property
    def is_offloaded(self) -> bool:
        """Whether the networks take turns on the device."""
        return self.residence is not None

    def _bring(self, group: int) -> None:
        if self.residence is not None:
            self.residence.bring(group)

    @functools.cached_property
    def dtype(self) -> torch.dtype:
        """In what the networks compute; latents themselves stay float32."""
        return self.unet.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, those that will be laid out again included."""
        parts = [self.vae, self.text_encoder, self.unet]
        parts += [self.second_text.encoder] if self.second_text is not None else []
        parts += [self.unet] if pays_to_freeze(self.unet) else []
        return sum(bytes_of(part) for part in parts)

    def warm_up(self) -> None:
        """Do now what the first prediction would wait for; `unet` may not change from then on."""
        _ = self._frozen

    @functools.cached_property
    def _frozen(self) -> Network | None:
        if self.residence is not None:
            return None
        return frozen(Sampled(self.unet), self.unet, self.tokenizer.model_max_length)

    @functools.cached_property
    def _frozen_maps(self) -> tuple[Network, dict[str, tuple[int, int]]] | None:
        if self.residence is not None:
            return None
        mapped = Mapped(self.unet)
        network = frozen(mapped, self.unet, self.tokenizer.model_max_length)
        return None if network is None else (network, mapped.sizes)

    @property
    def max_batch(self) -> int:
        """Samples in one UNet call; larger batches are split, which bounds memory alone."""
        cells = self.latent_shape[1] * self.latent_shape[2]
        return max(MIN_BATCH, MAX_BATCH * 32**2 // cells)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return latents0 (B, C, h, w) float32 of images in [-1, 1]: the posterior's mode."""
        self._bring(AUTOENCODER)
        encoded = self.vae.encode(images.to(self.device, self.vae.dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    def decode_latents(self, latents0: Tensor) -> Tensor:
        """Return images (B, 3, H, W) float32 in [-1, 1] of latents0."""
        self._bring(AUTOENCODER)
        latents = (latents0 / self.vae.config.scaling_factor).to(self.vae.dtype)
        return self.vae.decode(latents).sample.float().clamp(-1, 1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Return text_embeds (B, L, D); the part of a text beyond L tokens is cut."""
        self._bring(ENCODERS)
        if self.second_text is None:
            return text_encoders.embed(self.text_encoder, self.tokenizer, texts)
        return text_encoders.embed_twice(self.text_encoder, self.tokenizer, self.second_text, texts)

    def truncated_text(self, text: str) -> str:
        """Return the end of `text` that does not fit the text encoder ("" where all fits)."""
        ids = self._whole_texts(text, truncation=False, verbose=False).input_ids[1:-1]
        room = self.tokenizer.model_max_length - 2
        return self.tokenizer.decode(ids[room:], skip_special_tokens=True).strip()

    def eps(self, latents: Tensor, t: int | Tensor, text_embeds: Tensor) -> Tensor:
        """Return the noise predicted in `latents` (B, C, h, w) at timestep t (int or (B,))."""
        return self._eps_model(latents, t, text_embeds)

    def _network(self, latents: Tensor, t: int | Tensor, text_embeds: Tensor) -> Tensor:
        self._bring(UNET)
        size = len(latents)
        times = torch.as_tensor(t, device=latents.device).expand(size)
        text = text_embeds.expand(size, -1, -1)
        fits = latents.shape[1:] == self.latent_shape
        whole = Sampled(self.unet, self.cell_px)
        unet = self._frozen if self._frozen is not None and fits else whole
        step = self.max_batch
        outputs = [
            unet(
                latents[i : i + step].to(self.dtype),
                times[i : i + step],
                text[i : i + step].to(self.dtype),
            ).to(latents.dtype)
            for i in range(0, size, step)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def second_text_of(folder: Path, device: Device) -> SecondText | None:
    """Return the second text encoder of a Stable Diffusion XL folder; None for the others."""
    if not (folder / "text_encoder_2").is_dir():
        return None
    index = json.loads((folder / "model_index.json").read_text())
    return SecondText(
        open_part(CLIPTextModelWithProjection, folder / "text_encoder_2", device.dtype),
        CLIPTokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True),
        zero_empty=bool(index.get("force_zeros_for_empty_prompt", False)),
    )


def used_weights(folder: Path, vae_folder: Path) -> list[Path]:
    """Return the weights files that `from_folder` reads; others may lie beside them."""
    encoders = [folder / name for name in ("text_encoder", "text_encoder_2")]
    networks = [(one, False) for one in encoders if one.is_dir()]
    networks += [(folder / "unet", True), (vae_folder, True)]
    return [path for one, kind in networks for path in weights_of(one, is_diffusers=kind)]
