"""Own networks on disk: config.json with what their constructor takes, and model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.devices import Device

M = TypeVar("M", bound=nn.Module)


def save_module(module: nn.Module, folder: Path, config: Mapping[str, Any]) -> None:
    """Write a network in float16; `module` stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2) + "\n")
    weights = {
        name: value.detach().cpu().half().contiguous() if value.is_floating_point() else value.cpu()
        for name, value in module.state_dict().items()
    }
    temporary = folder / "model.safetensors.part"
    save_file(weights, temporary)
    temporary.replace(folder / "model.safetensors")


def load_module(build: Callable[..., M], folder: Path, device: Device) -> M:
    """Return the frozen network that `save_module` wrote; it always computes in float32."""
    module = build(**json.loads((folder / "config.json").read_text()))
    module.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return module.float().eval().requires_grad_(False).to(device.torch_device)


def nbytes_of(module: nn.Module) -> int:
    """Return the bytes of all weights."""
    return sum(t.numel() * t.element_size() for t in module.state_dict().values())
