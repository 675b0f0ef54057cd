"""One network of a diffusers or transformers folder, opened strictly: nothing is made up.

The libraries fill a missing tensor with random numbers and warn; here that is a refusal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pipelines import hub, weights
from pipelines.errors import InputError

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model.safetensors", "model.safetensors"


def open_part(network_class: type[Any], folder: Path, dtype: torch.dtype) -> Any:
    """Return the network of a folder in `dtype`; safetensors only, nothing downloaded.

    Weights in half precision ("model.fp16.safetensors") serve where they are.

    Raises:
        InputError: the weights are missing, damaged, incomplete or of another architecture.
    """
    is_diffusers = hasattr(network_class, "load_config")
    paths = weights_of(folder, is_diffusers=is_diffusers)
    path = paths[0]
    options: dict[str, Any] = {"torch_dtype" if is_diffusers else "dtype": dtype}
    if path.name.endswith(".fp16.safetensors"):
        options["variant"] = "fp16"
    try:
        network, found = network_class.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{path} cannot be opened as {network_class.__name__}: it is of another architecture "
            f"than {folder / 'config.json'} says. Choose the files that belong together."
        ) from error
    # Old text encoders also stored the numbers 0, 1, 2... as a tensor.
    strange = [key for key in found["unexpected_keys"] if not key.endswith("position_ids")]
    misfits = {key: (tuple(a), tuple(b)) for key, a, b in found["mismatched_keys"]}
    weights.refuse_misfits(path, sorted(found["missing_keys"]), strange, misfits)
    return network


def weights_of(folder: Path, *, is_diffusers: bool) -> list[Path]:
    """Return the weights files of a folder, once their headers show that they are whole.

    Raises:
        InputError: there are none, a shard is missing, or one is damaged.
    """
    name = DIFFUSERS if is_diffusers else TRANSFORMERS
    index = folder / f"{name}.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        paths = [hub.weights_in(folder, shard) for shard in shards]
    else:
        paths = [hub.weights_in(folder, name)]
    for path in paths:
        weights.check_safetensors(path)
    return paths
