"""Texts to embeddings as Stable Diffusion 1 and 2, and as Stable Diffusion XL, read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer


@dataclass(frozen=True, eq=False)
class SecondText:
    """What Stable Diffusion XL has beside the first text encoder (Podell et al. 2023, sec. 2.1).

    Attributes:
        encoder, tokenizer: the second pair; the encoder also projects the whole text.
        zero_empty: the empty text stands for embeddings of zero, as in training.
    """

    encoder: CLIPTextModelWithProjection
    tokenizer: CLIPTokenizer
    zero_empty: bool


def token_ids(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Return (B, L); the part of a text beyond L tokens is cut."""
    ids: Tensor = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids


def embed(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Return the last hidden state (B, L, D): Stable Diffusion 1 and 2."""
    ids = token_ids(tokenizer, texts).to(encoder.device)
    states: Tensor = encoder(ids).last_hidden_state
    return states


def embed_twice(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, second: SecondText, texts: Sequence[str]
) -> Tensor:
    """Return (B, L + 1, D), packed so that it travels like any other text embedding.

    Rows 0 to L - 1 are the hidden states of both encoders before their last layer, side by side;
    the last row starts with the pooled embedding of the second. `unpacked` takes it apart again.
    """
    states, pooled = [], None
    for network, words in ((encoder, tokenizer), (second.encoder, second.tokenizer)):
        ids = token_ids(words, texts).to(network.device)
        output = network(ids, output_hidden_states=True)
        states.append(output.hidden_states[-2])
        pooled = getattr(output, "text_embeds", None)
    both = torch.cat(states, -1)  # (B, L, D)
    packed = torch.cat([both, F.pad(pooled, (0, both.shape[-1] - pooled.shape[-1]))[:, None]], 1)
    if second.zero_empty:
        is_empty = torch.tensor([text == "" for text in texts], device=packed.device)
        packed = packed.masked_fill(is_empty[:, None, None], 0)
    return packed


class Sampled(nn.Module):
    """A UNet that returns its sample alone, and takes packed text embeddings.

    Args:
        unet: never modified.
        cell_px: pixels on a side of a latent cell, which decide the sizes that Stable Diffusion XL
            is told (original size, no crop, target size; Podell et al. 2023, sec. 2.2).
    """

    def __init__(self, unet: nn.Module, cell_px: int = 8) -> None:
        super().__init__()
        self.unet, self.cell_px = unet, cell_px
        self.pooled_width = 0
        if unet.config.addition_embed_type == "text_time":
            told = 6 * unet.config.addition_time_embed_dim
            self.pooled_width = unet.add_embedding.linear_1.in_features - told

    def forward(self, latents: Tensor, times: Tensor, text_embeds: Tensor) -> Tensor:
        """Return the prediction (B, C, h, w)."""
        if not self.pooled_width:
            sample: Tensor = self.unet(latents, times, text_embeds, return_dict=False)[0]
            return sample
        height, width = (side * self.cell_px for side in latents.shape[-2:])
        sizes = latents.new_tensor([height, width, 0, 0, height, width]).expand(len(latents), -1)
        pooled = text_embeds[:, -1, : self.pooled_width]
        conditions = {"text_embeds": pooled, "time_ids": sizes}
        sample = self.unet(
            latents, times, text_embeds[:, :-1], added_cond_kwargs=conditions, return_dict=False
        )[0]
        return sample
