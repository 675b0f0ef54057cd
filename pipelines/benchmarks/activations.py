"""Numbers that networks of published sizes hold at once: the constants of `pipelines.estimates`.

    python -m pipelines.benchmarks activations [--shapes sd15 sdxl]

The networks run on fake tensors, which have shapes and no contents, while every storage that is
alive is counted; weights and inputs are not. So it takes seconds and no memory, and says the same
on every machine. One sample; forward without gradients, and forward and backward to the latents.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipelines import estimates
from pipelines.benchmarks.photo import UNETS, VAE
from pipelines.benchmarks.report import Report, parser

TOKENS = 77


class Alive(TorchDispatchMode):
    """Counts the numbers of all tensors that operations made and somebody still holds."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        """Leave out what was `given`: operations also return views of it."""
        super().__init__()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), tensor.element_size())
        self.peak = max(self.peak, self.now)
        return made

    def _count(self, storage: torch.UntypedStorage, item_bytes: int) -> None:
        key, numbers = storage._cdata, storage.nbytes() // item_bytes
        if key not in self._known:
            self._known.add(key)
            self.now += numbers
            weakref.finalize(storage, self._forget, key, numbers)

    def _forget(self, key: int, numbers: int) -> None:
        self._known.discard(key)
        self.now -= numbers


def held(
    network: nn.Module, run: Callable[[Tensor], Tensor], latents: Tensor, *, backward: bool
) -> int:
    """Return the most numbers alive beside weights and latents while `run` turns these around."""
    latents = latents.requires_grad_(backward)
    given = *network.parameters(), *network.buffers(), latents
    with torch.set_grad_enabled(backward), Alive(given) as alive:
        out = run(latents)
        if backward:
            torch.autograd.grad(out.sum(), latents)
    return alive.peak


def unet_numbers(shape: str, *, backward: bool) -> float:
    """Return the numbers of one UNet call for each cell of the latents."""
    config = UNETS[shape]
    side, is_large = config["sample_size"], "addition_embed_type" in config
    with FakeTensorMode():
        unet = frozen(UNet2DConditionModel(**config))
        texts = torch.zeros(1, TOKENS, config["cross_attention_dim"])
        pooled = config.get("projection_class_embeddings_input_dim", 0) - 6 * 256
        more = {"text_embeds": torch.zeros(1, max(pooled, 0)), "time_ids": torch.zeros(1, 6)}
        added = {"added_cond_kwargs": more} if is_large else {}

        def run(latents: Tensor) -> Tensor:
            noise: Tensor = unet(latents, torch.tensor(1), encoder_hidden_states=texts, **added)[0]
            return noise

        return held(unet, run, torch.zeros(1, 4, side, side), backward=backward) / side**2


def decoder_numbers(side: int, *, backward: bool) -> float:
    """Return the numbers of one decoded picture for each of its pixels."""
    with FakeTensorMode():
        vae = frozen(AutoencoderKL(**VAE))

        def run(latents: Tensor) -> Tensor:
            images: Tensor = vae.decode(latents).sample
            return images

        return held(vae, run, torch.zeros(1, 4, side, side), backward=backward) / (8 * side) ** 2


def frozen(network: nn.Module) -> nn.Module:
    """Return a network whose weights need no gradient, as the app holds them."""
    return network.eval().requires_grad_(False)


def main(argv: Sequence[str] | None = None) -> None:
    """Record the numbers, and whether the constants of the estimates cover them."""
    options = parser(__doc__, n=1)
    options.add_argument("--shapes", nargs="+", choices=list(UNETS), default=["sd15", "sdxl"])
    args = options.parse_args(argv)
    report = Report("activations", seed=args.seed, path=args.json)
    said = {
        "unet forward": estimates.FORWARD, "unet backward": estimates.BACKWARD,
        "decoder forward": estimates.DECODER, "decoder backward": estimates.DECODER_BACKWARD,
    }  # fmt: skip
    worst = dict.fromkeys(said, 0.0)
    for shape in args.shapes:
        for way in ("forward", "backward"):
            counted = {
                "unet": unet_numbers(shape, backward=way == "backward"),
                "decoder": decoder_numbers(UNETS[shape]["sample_size"], backward=way == "backward"),
            }
            for network, numbers in counted.items():
                name = f"{network} {way}"
                worst[name] = max(worst[name], numbers)
                report.add("numbers_per_cell", name, numbers, setting=shape)
    report.claim(
        "estimates of activations are no less than what networks hold, and no more than 1.25 times",
        all(worst[name] <= said[name] <= 1.25 * worst[name] for name in said),
        "; ".join(f"{name} {worst[name]:.0f}, said {number}" for name, number in said.items()),
    )


if __name__ == "__main__":
    main()
