"""Cross-attention maps of any diffusers UNet2DConditionModel, without touching it.

A leased UNet serves several threads, so nothing may be set or hooked on it. `capture` makes a
*structural copy*: new module objects around the very same parameters (milliseconds, no weights),
and puts its hooks there. Drop the copy and nothing is left to restore.

A hook before every `attn2` computes softmax(Q K^T * scale) from the layer's own inputs, in the
graph, whatever attention kernel the layer then runs: outputs stay those of the original UNet to the
bit, and the maps can be differentiated (ZestGuide). The price is a second Q K^T for these layers.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional

Bias = Callable[[Tensor, tuple[int, int]], Tensor]
"""(scores Q K^T (B, heads, H*W, L), (H, W)) -> what is added to them, (B, H*W, L)."""

EditMaps = Callable[[Tensor, bool], Tensor]
"""(probabilities (B, heads, H*W, L), whether L are text tokens) -> those to use instead."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class PhraseError(ValueError):
    """The phrase has no tokens in the text the network reads; the message says why.

    Attributes:
        truncated: True if the phrase is in the text but beyond the tokenizer's last position.
    """

    def __init__(self, message: str, *, truncated: bool) -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.truncated = truncated


class AttentionStore:
    """The maps of the latest call of a captured UNet; one store belongs to one request.

    Attributes:
        maps: layer name -> (B, heads, H*W, L) probabilities over the L text tokens, in the order
            the network ran them. Names are the UNet's own ("down_blocks.0.attentions.0.
            transformer_blocks.0.attn2"). With gradients on they hold the graph: see `clear`.
        sizes: layer name -> (H, W).
    """

    def __init__(self) -> None:
        """Start empty."""
        self.maps: dict[str, Tensor] = {}
        self.sizes: dict[str, tuple[int, int]] = {}

    def clear(self) -> None:
        """Forget the maps, and with them the graph of the call."""
        self.maps.clear()
        self.sizes.clear()

    def fill(self, maps: Sequence[Tensor], sizes: Mapping[str, tuple[int, int]]) -> None:
        """Take the maps of a call that was made elsewhere, in the order of `sizes`."""
        self.maps = dict(zip(sizes, maps, strict=True))
        self.sizes = dict(sizes)

    def average(self, size: tuple[int, int] | int, layers: Collection[str] | None = None) -> Tensor:
        """Return the mean map over heads and layers, (B, H, W, L) float32, summing to 1 over L.

        Args:
            size: (H, W) of the result, or one number for a square; layers are brought there
                bilinearly.
            layers: parts of layer names, a layer counts if its name contains any of them (such as
                "down_blocks.2", "mid_block"); None takes all layers.
        """
        if not self.maps:
            raise ValueError("no attention maps yet: call the captured UNet first")
        height, width = (size, size) if isinstance(size, int) else size
        chosen = [n for n in self.maps if layers is None or any(part in n for part in layers)]
        if not chosen:
            raise ValueError(f"no layer name contains any of {layers}: {list(self.maps)}")
        layers_at_size = []
        for name in chosen:
            planes = self.maps[name].mean(1, dtype=torch.float32).transpose(1, 2)  # (B, L, H*W)
            planes = planes.unflatten(2, self.sizes[name])  # (B, L, H, W)
            layers_at_size.append(functional.interpolate(planes, (height, width), mode="bilinear"))
        return torch.stack(layers_at_size).mean(0).permute(0, 2, 3, 1)  # (B, H, W, L)


def capture(unet: UNet2DConditionModel) -> tuple[UNet2DConditionModel, AttentionStore]:
    """Return a UNet that shares all parameters with `unet`, and the store its calls fill.

    The copy is called like the original; each call replaces the maps in the store. It is for one
    request in one thread. `unet` itself is only read.
    """
    captured, store = structural_copy(unet), AttentionStore()
    captured.register_forward_pre_hook(lambda *_: store.clear())
    for name, transformer, attn in _cross_attention(captured):
        _record(name, transformer, attn, store)
    return captured, store


def exposed(unet: UNet2DConditionModel) -> tuple[UNet2DConditionModel, AttentionStore]:
    """Return what `capture` does, but computing with the maps that it keeps, equal to rounding.

    Every attention layer is written out as products of matrices, self-attention too. On a CPU that
    is cheaper to differentiate than the fused kernel, which in bfloat16 takes three times as long
    backwards, and nothing is computed twice; maps of large pictures would fill the memory.
    """
    changed, store = structural_copy(unet), AttentionStore()
    changed.register_forward_pre_hook(lambda *_: store.clear())
    _write_out(changed, lambda maps, is_text: maps)
    for name, transformer, attn in _cross_attention(changed):
        _record_size(name, transformer, store)
        attn.set_processor(_EditedAttention(functools.partial(_keep, store, name)))
    return changed, store


def _keep(store: AttentionStore, name: str, maps: Tensor, is_text: bool) -> Tensor:
    store.maps[name] = maps
    return maps


def biased(unet: UNet2DConditionModel, bias: Bias) -> UNet2DConditionModel:
    """Return a UNet that shares all parameters, with softmax((Q K^T + bias) * scale) in attn2.

    Made for one request, like `capture`; `capture(biased(unet, ...))` records the maps with the
    bias, `biased(capture(unet)[0], ...)` those the network would have had without it.
    """
    changed = structural_copy(unet)
    for _, transformer, attn in _cross_attention(changed):
        _add_bias(transformer, attn, bias)
    return changed


def edited(unet: UNet2DConditionModel, edit: EditMaps) -> UNet2DConditionModel:
    """Return a UNet that shares all parameters, whose every attention layer uses edited maps.

    Self- and cross-attention both; made for one request, like `capture`.
    """
    changed = structural_copy(unet)
    _write_out(changed, edit)
    return changed


def _write_out(unet: nn.Module, edit: EditMaps) -> None:
    """Let every attention layer compute its maps and go on with edited ones."""
    for module in unet.modules():
        if isinstance(module, Attention):
            module.set_processor(_EditedAttention(edit))


def _cross_attention(unet: nn.Module) -> list[tuple[str, nn.Module, Attention]]:
    """Return (name, the transformer it is in, layer) of every attn2, in the order they run."""
    layers = [
        (f"{name}.{child_name}", transformer, child)
        for name, transformer in unet.named_modules()
        if isinstance(transformer, Transformer2DModel)
        for child_name, child in transformer.named_modules()
        if child_name.endswith(".attn2")
    ]
    if not layers:
        raise ValueError("this UNet has no cross-attention (attn2) layers")
    return layers


def structural_copy(module: ModuleT) -> ModuleT:
    """Return a deep copy of `module` that shares its parameters and buffers.

    Processors, hooks and attributes set on the copy stay on the copy; writing into a parameter
    or moving the copy to another device would not.
    """
    shared = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in shared})


def phrase_tokens(tokenizer: Any, text: str, phrase: str) -> list[int]:
    """Return the positions of `phrase` in the token sequence of `text`, as the network reads it.

    The phrase must occur as contiguous whole words ("a blue chair" does not match another "a").
    Every occurrence counts. Positions index the L axis of the maps, special tokens included.

    Args:
        tokenizer: a transformers tokenizer (CLIP's in Stable Diffusion).
        text: the full prompt.
        phrase: words of it.

    Raises:
        PhraseError: the phrase is not in the text, or only beyond `tokenizer.model_max_length`.
        ValueError: the phrase has no tokens at all.
    """
    wanted = tokenizer(phrase, add_special_tokens=False).input_ids
    if not wanted:
        raise ValueError(f"the phrase {phrase!r} has no tokens")
    limit = tokenizer.model_max_length
    kept = tokenizer(text, truncation=True, max_length=limit).input_ids
    starts = _occurrences(kept, wanted)
    if not starts and _occurrences(tokenizer(text, verbose=False).input_ids, wanted):
        raise PhraseError(
            f"“{phrase}” is cut off: only {limit} tokens of the text are read.", truncated=True
        )
    if not starts:
        raise PhraseError(f"“{phrase}” is not in the text “{text}”.", truncated=False)
    return [position for i in starts for position in range(i, i + len(wanted))]


def _occurrences(tokens: list[int], wanted: list[int]) -> list[int]:
    """Return the start of every non-overlapping occurrence."""
    starts, i = [], 0
    while i + len(wanted) <= len(tokens):
        found = tokens[i : i + len(wanted)] == wanted
        if found:
            starts.append(i)
        i += len(wanted) if found else 1
    return starts


def _record(name: str, transformer: nn.Module, attn: Attention, store: AttentionStore) -> None:
    """Hook `attn` so that each call writes its probabilities to `store` under `name`."""

    # the hook takes `attn` from its argument: a closure over it would be a reference cycle
    def remember_map(attn: Attention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden_states = args[0] if args else kwargs["hidden_states"]  # (B, H*W, C)
        store.maps[name] = _probabilities(
            attn, hidden_states, kwargs["encoder_hidden_states"], kwargs.get("attention_mask")
        )

    _record_size(name, transformer, store)
    attn.register_forward_pre_hook(remember_map, with_kwargs=True)


def _record_size(name: str, transformer: nn.Module, store: AttentionStore) -> None:
    """Hook `transformer` so that each call writes its (H, W) to `store` under `name`."""

    def remember_size(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden_states = args[0] if args else kwargs["hidden_states"]  # (B, C, H, W)
        store.sizes[name] = tuple(hidden_states.shape[-2:])

    transformer.register_forward_pre_hook(remember_size, with_kwargs=True)


def _add_bias(transformer: nn.Module, attn: Attention, bias: Bias) -> None:
    """Hook `attn` so that each call adds `bias` to its scores, as an attention mask."""
    size = [(0, 0)]

    def remember_size(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden_states = args[0] if args else kwargs["hidden_states"]  # (B, C, H, W)
        size[0] = tuple(hidden_states.shape[-2:])

    def add(
        attn: Attention, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden_states = args[0] if args else kwargs["hidden_states"]  # (B, H*W, C)
        text_states = kwargs["encoder_hidden_states"]
        query = attn.head_to_batch_dim(attn.to_q(hidden_states), out_dim=4)
        key = attn.head_to_batch_dim(attn.to_k(text_states), out_dim=4)  # (B, heads, L, C/heads)
        added = bias(query @ key.transpose(-1, -2), size[0]) * attn.scale  # (B, H*W, L)
        added = added.to(query.dtype)  # as the fused attention demands of a mask
        mask = kwargs.get("attention_mask")  # (B, 1, L) or None
        kwargs = {**kwargs, "attention_mask": added if mask is None else added + mask}
        return args, kwargs

    transformer.register_forward_pre_hook(remember_size, with_kwargs=True)
    attn.register_forward_pre_hook(add, with_kwargs=True)


class _EditedAttention:
    """An attention processor of diffusers that hands its maps to `edit` before using them."""

    def __init__(self, edit: EditMaps) -> None:
        self.edit = edit

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        is_text = encoder_hidden_states is not None
        states = encoder_hidden_states if encoder_hidden_states is not None else hidden_states
        maps = self.edit(_probabilities(attn, hidden_states, states, attention_mask), is_text)
        value = attn.head_to_batch_dim(attn.to_v(states))  # (B*heads, L, C/heads)
        mixed = attn.batch_to_head_dim(torch.bmm(maps.flatten(0, 1).to(value.dtype), value))
        return attn.to_out[1](attn.to_out[0](mixed))  # linear, dropout


def _probabilities(
    attn: Attention, hidden_states: Tensor, text_states: Tensor, mask: Tensor | None
) -> Tensor:
    """Return softmax(Q K^T * scale + mask), (B, heads, H*W, L), as diffusers' AttnProcessor."""
    batch, length, _ = text_states.shape
    mask = attn.prepare_attention_mask(mask, length, batch)  # (B*heads, 1, L) or None
    query = attn.head_to_batch_dim(attn.to_q(hidden_states))  # (B*heads, H*W, C/heads)
    key = attn.head_to_batch_dim(attn.to_k(text_states))  # (B*heads, L, C/heads)
    if mask is not None:
        mask = mask.expand(-1, query.shape[1], -1)
    probabilities = attn.get_attention_scores(query, key, mask)  # (B*heads, H*W, L)
    return probabilities.unflatten(0, (batch, attn.heads))
