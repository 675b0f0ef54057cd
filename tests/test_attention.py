"""Cross-attention maps from real diffusers UNets that stay untouched."""

import threading
import weakref

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from pipelines.diffusion.attention import (
    PhraseError,
    capture,
    exposed,
    phrase_tokens,
)

TOKENS, WIDTH = 7, 16


def tiny_unet(**extra):
    """Stable Diffusion 1.5's layout at a thousandth of its size, with random weights."""
    torch.manual_seed(0)
    config = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(config | extra)).eval()


@pytest.fixture(scope="module")
def unet():
    return tiny_unet()


def inputs(batch=2, height=8, width=8):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, 4, height, width, generator=generator)
    return latents, torch.randn(batch, TOKENS, WIDTH, generator=generator)


def call(unet, latents, text, **extra):
    return unet(latents, 500, encoder_hidden_states=text, **extra).sample


def probabilities_by_hand(unet, latents, text, **extra):
    """Record to_q and to_k of every attn2 with hooks on a UNet of our own; redo the softmax."""
    seen, handles, maps = {}, [], {}
    attentions = {n: m for n, m in unet.named_modules() if n.endswith("attn2")}
    for name, attn in attentions.items():
        for part in ("to_q", "to_k"):
            key = (name, part)
            handles.append(
                getattr(attn, part).register_forward_hook(
                    lambda _, args, out, key=key: seen.__setitem__(key, out)
                )
            )
    call(unet, latents, text, **extra)
    for handle in handles:
        handle.remove()
    for name, attn in attentions.items():
        query, key = (
            seen[name, part].unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for part in ("to_q", "to_k")
        )
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        mask = extra.get("encoder_attention_mask")
        if mask is not None:
            scores = scores - 10000.0 * (1 - mask.float())[:, None, None]
        maps[name] = scores.softmax(-1)
    return maps


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("slow_kernel", [False, True])
@pytest.mark.parametrize(("watch", "rounding"), [(capture, 0.0), (exposed, 1e-5)])
def test_outputs_are_unchanged_and_maps_are_the_softmax(masked, slow_kernel, watch, rounding):
    unet = tiny_unet()
    if slow_kernel:
        unet.set_attn_processor(AttnProcessor())
    latents, text = inputs()
    extra = {}
    if masked:
        mask = torch.ones(2, TOKENS)
        mask[0, 3:] = 0
        extra = {"encoder_attention_mask": mask}
    captured, store = watch(unet)
    result = call(captured, latents, text, **extra)
    plain = call(unet, latents, text, **extra)
    torch.testing.assert_close(result, plain, rtol=rounding, atol=rounding)
    assert list(store.sizes) == list(store.maps)
    expected = probabilities_by_hand(unet, latents, text, **extra)
    assert set(store.maps) == set(expected)
    for name, probabilities in expected.items():
        torch.testing.assert_close(store.maps[name], probabilities, rtol=1e-4, atol=1e-6)
        if masked:
            assert store.maps[name][0, ..., 3:].max() == 0
            assert store.maps[name][1, ..., 3:].min() > 0


@torch.no_grad()
def test_maps_have_a_row_of_probabilities_for_every_pixel(unet):
    captured, store = capture(unet)
    call(captured, *inputs(height=8, width=12))
    sizes = {(8, 12), (4, 6)}
    assert set(store.sizes.values()) == sizes
    assert len(store.maps) == 4  # one down, one middle, two up
    for name, maps in store.maps.items():
        height, width = store.sizes[name]
        heads = unet.get_submodule(name).heads
        assert maps.shape == (2, heads, height * width, TOKENS)
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))


@torch.no_grad()
def test_average_over_chosen_layers(unet):
    captured, store = capture(unet)
    call(captured, *inputs(height=8, width=12))
    everything = store.average((16, 24))
    assert everything.shape == (2, 16, 24, TOKENS)
    torch.testing.assert_close(everything.sum(-1), torch.ones(2, 16, 24))
    (name,) = (n for n in store.maps if n.startswith("down_blocks.0"))
    own = store.maps[name].mean(1).unflatten(1, (8, 12))  # (B, H, W, L)
    torch.testing.assert_close(store.average((8, 12), layers=["down_blocks.0"]), own)
    ups = store.average((8, 12), layers=["up_blocks"])
    middle = store.average((8, 12), layers=["mid_block"])
    torch.testing.assert_close(store.average((8, 12)), (own + middle + 2 * ups) / 4)
    assert store.average(16).shape == (2, 16, 16, TOKENS)
    with pytest.raises(ValueError, match="nowhere"):
        store.average(8, layers=["nowhere"])
    store.clear()
    with pytest.raises(ValueError, match="call the captured UNet first"):
        store.average(8)


@pytest.mark.parametrize("watch", [capture, exposed])
def test_the_original_is_untouched_and_shares_every_parameter(unet, watch):
    processors = dict(unet.attn_processors)
    attributes = {name: set(vars(module)) for name, module in unet.named_modules()}
    captured, store = watch(unet)
    call(captured, *inputs())
    assert all(unet.attn_processors[n] is p for n, p in processors.items())
    assert attributes == {name: set(vars(module)) for name, module in unet.named_modules()}
    for module in unet.modules():
        assert not module._forward_pre_hooks and not module._forward_hooks
    for ours, theirs in zip(captured.parameters(), unet.parameters(), strict=True):
        assert ours is theirs
    assert not set(map(id, captured.modules())) & set(map(id, unet.modules()))
    store.clear()
    call(unet, *inputs())
    assert store.maps == {}


@pytest.mark.parametrize("watch", [capture, exposed])
def test_gradients_flow_from_the_maps_to_the_latents(unet, watch):
    latents, text = inputs()
    latents.requires_grad_()
    captured, store = watch(unet)
    call(captured, latents, text)
    loss = store.average(8)[0, :4, :4, 2].sum()
    (gradient,) = torch.autograd.grad(loss, latents)
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0  # the other image has nothing to do with it
    direction = torch.zeros_like(latents)
    direction[0, 1, 2, 3] = 1e-2

    def shifted(sign):
        with torch.no_grad():
            call(captured, latents + sign * direction, text)
            return store.average(8)[0, :4, :4, 2].sum()

    numeric = (shifted(1) - shifted(-1)) / 2e-2
    torch.testing.assert_close(gradient[0, 1, 2, 3], numeric, rtol=0.02, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("watch", "rounding"), [(capture, 0.0), (exposed, 1e-5)])
@pytest.mark.parametrize(
    "extra",
    [
        {"only_cross_attention": True},
        {"use_linear_projection": True, "upcast_attention": True},
        {"transformer_layers_per_block": 2},
        {"attention_head_dim": (2, 4)},
    ],
    ids=["only-cross", "sd2", "two-layers", "heads-per-block"],
)
def test_other_unets(extra, watch, rounding):
    unet = tiny_unet(**extra)
    latents, text = inputs()
    captured, store = watch(unet)
    result = call(captured, latents, text)
    torch.testing.assert_close(result, call(unet, latents, text), rtol=rounding, atol=rounding)
    expected = probabilities_by_hand(unet, latents, text)
    assert set(store.maps) == set(expected)
    for name, probabilities in expected.items():
        torch.testing.assert_close(store.maps[name], probabilities, rtol=1e-4, atol=1e-6)


def test_a_unet_without_text_is_rejected():
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(16,),
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    with pytest.raises(ValueError, match="no cross-attention"):
        capture(unet)


def test_two_threads_capture_the_same_unet(unet):
    wanted, results = {}, {}

    @torch.no_grad()
    def work(image, into):
        captured, store = capture(unet)
        latents, text = inputs(batch=3)
        for _ in range(3):
            call(captured, latents[image : image + 1], text[image : image + 1])
        into[image] = store.average(8)

    for image in range(3):
        work(image, wanted)
    threads = [threading.Thread(target=work, args=(image, results)) for image in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for image in range(3):
        torch.testing.assert_close(results[image], wanted[image])


def test_the_copy_goes_with_its_last_reference(unet):
    """No reference cycle: maps and graph do not wait for the garbage collector."""
    captured, store = capture(unet)
    call(captured, *inputs())
    copy_alive, store_alive = weakref.ref(captured), weakref.ref(store)
    del captured, store
    assert copy_alive() is None
    assert store_alive() is None


# --- phrases


@pytest.fixture(scope="module")
def tokenizer():
    """A CLIP tokenizer of eight positions that knows a few words, and "cat" inside "category"."""
    words = ["a", "red", "cat", "and", "blue", "chair", "category"]
    merges = []
    for word in words:
        symbols = [*word[:-1], word[-1] + "</w>"]
        while len(symbols) > 1:
            merges.append((symbols[0], symbols[1]))
            symbols = [symbols[0] + symbols[1], *symbols[2:]]
    merges = list(dict.fromkeys(merges))
    letters = sorted(set("".join(words)))
    pieces = [*letters, *(c + "</w>" for c in letters), *map("".join, merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=8)


@pytest.mark.parametrize(
    ("text", "phrase", "positions"),
    [
        ("a red cat", "cat", [3]),
        ("a red cat", "a red", [1, 2]),
        ("A Blue CHAIR and a cat", "a cat", [5, 6]),  # not the first "a"
        ("a cat and a cat", "a cat", [1, 2, 4, 5]),  # every occurrence
        ("category cat", "cat", [2]),  # whole words only
        ("a category", "category", [2]),
    ],
)
def test_phrases_are_contiguous_whole_words(tokenizer, text, phrase, positions):
    assert phrase_tokens(tokenizer, text, phrase) == positions


def test_missing_and_truncated_phrases_say_so(tokenizer):
    with pytest.raises(PhraseError, match="“blue cat” is not in the text") as missing:
        phrase_tokens(tokenizer, "a blue chair and a cat", "blue cat")
    assert not missing.value.truncated
    with pytest.raises(PhraseError, match="cut off: only 8 tokens") as truncated:
        phrase_tokens(tokenizer, "a red cat and a blue chair", "chair")
    assert truncated.value.truncated
    with pytest.raises(ValueError, match="no tokens"):
        phrase_tokens(tokenizer, "a red cat", " ")
