"""FlexIT on its own queries, for whoever has ImageNet's validation pictures.

    ... benchmarks flexit --parts published --pack sd15 --queries queries.csv --imagenet FOLDER

Distances to the input alone: no judge here knows photos. They are by the pack's evaluation network
or, where it has none, by the one in the loss, which the setting then says.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from pipelines import images as pictures
from pipelines.benchmarks.report import Report
from pipelines.data.cluster_queries import published
from pipelines.errors import InputError
from pipelines.leases import models_for
from pipelines.model_cache import ModelCache
from pipelines.packs import Pack
from pipelines.params import build
from pipelines.registry import METHODS

EVALUATORS = {"lpips_eval": "another network", "lpips_loss": "the loss's network"}


@torch.no_grad()
def measure_published(
    report: Report, cache: ModelCache, pack: Pack, queries: Path, folder: Path, n: int, steps: int
) -> None:
    """Record the distance to the input of n published test queries, for Encode and FlexIT.

    Raises:
        InputError: a picture is missing.
    """
    flexit = METHODS["flexit"]
    values = {**pack.defaults.get("flexit", {}), "num_steps": steps}
    rows = [row for row in published(queries) if row.is_test][:n]
    role = next(role for role in EVALUATORS if role in pack.components)
    with (
        cache.lease(pack.name, "latent_diffusion") as diffusion,
        cache.lease(pack.name, role) as evaluator,
        models_for(cache, pack, flexit, values) as further,
    ):
        model = further.pop("space", diffusion)
        tried = {"encode": ({}, {}), "flexit": (values, further)}
        for name, (given, models) in tried.items():
            method, far = METHODS[name], []
            params = build(method.load_params(), given)
            for i, row in enumerate(rows):
                square, _ = pictures.fit(opened(folder / row.path), model.resolution)
                image = pictures.to_tensor([square], model.resolution).to(model.device)
                edits = method.load()(
                    model, image, [row.source], [row.target], params, seeds=[i], **models
                )
                far += evaluator.distance(image, edits.images).tolist()
            setting = f"published queries, {pack.name}, by {EVALUATORS[role]}"
            report.add("lpips", name, far, setting=setting)


def opened(path: Path) -> Image.Image:
    """Return a picture of ImageNet.

    Raises:
        InputError: it is not there.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is missing. Please give the folder that the paths of queries.csv start from."
        )
    return pictures.decode(path)
