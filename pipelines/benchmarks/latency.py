"""Time our DiffEdit against diffusers' StableDiffusionDiffEditPipeline: one run, same weights.

    python -m pipelines.benchmarks latency --n 5 --json assets/results/latency.jsonl

Every variant edits the same n pictures in turn, so that a slow moment of the machine falls on all,
in the number format that the app computes in here (`devices.pick`); diffusers in that one too, with
channels last as our networks have them, and once more as it comes: in float32.
diffusers gets the latents ready-made (its encoder call does not know AutoencoderTiny), which
spares it ten encodings. Both take 50 steps, encoding ratio 0.8, 10 maps, guidance 3.
The second edit of a picture has another target text than the first, the third another ratio.
Peak memory is that of a process of its own which loads the model and makes one edit.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.benchmarks.diffedit import Batch, draw_queries, fast, render_batches
from pipelines.benchmarks.memory import peak_mib
from pipelines.benchmarks.report import Report, parser
from pipelines.diffedit import diffedit
from pipelines.memo import Memo
from pipelines.method_params import DiffEditParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.packs import Pack
from pipelines.params import build

STEPS, RATIO, MAPS, GUIDANCE = 50, 0.8, 10, 3.0
OTHER_RATIO = 0.7
MEMO_BYTES = 2**28
Edit = Callable[[Batch], int]


def ours(
    model: LatentDiffusion, values: dict[str, object], memos: dict[int, Memo] | None = None
) -> Edit:
    """Return our edit: with an empty memo each time, or with the memo of that picture's past."""
    params = build(DiffEditParams, values)

    def edit(batch: Batch) -> int:
        memo = Memo(MEMO_BYTES) if memos is None else memos[batch.seeds[0]]
        texts = batch.source, batch.target
        edits = diffedit(model, batch.images, *texts, params, seeds=batch.seeds, memo=memo)
        return edits.network_evaluations

    return edit


def diffusers_edit(
    model: LatentDiffusion, folder: str, dtype: torch.dtype, layout: torch.memory_format
) -> Edit:
    """Return diffusers' own three calls: mask, inversion, masked decoding."""
    counted = [0]
    pipeline = diffusers_pipeline(folder, dtype, counted)
    pipeline.unet.to(memory_format=layout)

    def edit(batch: Batch) -> int:
        counted[0] = 0
        latents0 = model.encode_images(batch.images).to(dtype)
        generator = torch.Generator().manual_seed(batch.seeds[0])
        mask = pipeline.generate_mask(
            image=latents0,
            target_prompt=batch.target,
            source_prompt=batch.source,
            num_maps_per_mask=MAPS,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generator,
        )
        inverted = pipeline.invert(
            prompt=batch.source,
            image=latents0,
            inpaint_strength=RATIO,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generator,
        ).latents
        pipeline(
            prompt=batch.target,
            mask_image=mask,
            image_latents=inverted,
            inpaint_strength=RATIO,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generator,
            output_type="np",
        )
        return counted[0]

    return edit


def diffusers_pipeline(folder: str, dtype: torch.dtype, counted: list[int]) -> Any:
    """Return the deprecated pipeline on the same folder; its UNet counts samples in `counted`."""
    from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionDiffEditPipeline

    pipeline = StableDiffusionDiffEditPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False, torch_dtype=dtype
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.inverse_scheduler = DDIMInverseScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def count(_: Any, args: tuple[Tensor, ...]) -> None:
        counted[0] += len(args[0])

    pipeline.unet.register_forward_pre_hook(count)
    return pipeline


def peak_of(variant: str) -> float:
    """Return the peak resident memory of a process that loads everything and edits once."""
    command = [sys.executable, "-m", "pipelines.benchmarks.latency", "--peak-of", variant]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(output.splitlines()[-1]))


UNPREPARED = ("diffusers", "diffusers_float32", "faithful", "fast")
"""Variants that need no earlier edit of the picture."""


def edit_of(name: str, pack: Pack, model: LatentDiffusion, folder: str) -> Edit:
    """Return one of UNPREPARED, with nothing loaded for the others."""
    base = {"strength": RATIO, "num_maps": MAPS, "guidance_scale": GUIDANCE}
    if name == "diffusers":
        return diffusers_edit(model, folder, model.dtype, torch.channels_last)
    if name == "diffusers_float32":
        return diffusers_edit(model, folder, torch.float32, torch.contiguous_format)
    if name == "faithful":
        return ours(model, {**base, "num_steps": STEPS, "solver": "ddim"})
    return ours(model, {**base, **fast(pack)})


def main(argv: Sequence[str] | None = None) -> None:
    """Time all variants and record seconds, evaluations, peak memory and the ratios."""
    from pipelines.devices import pick
    from pipelines.packs import find

    options = parser(__doc__, n=5)
    options.add_argument("--peak-of", choices=UNPREPARED)
    args = options.parse_args(argv)
    pack, device = find("toybox"), pick()
    folder = pack.component("latent_diffusion").locate()
    model = LatentDiffusion.from_folder(folder, device)
    batches = render_batches_of_one(args.n, args.seed)
    if args.peak_of:
        edit_of(args.peak_of, pack, model, str(folder))(batches[0])
        print(json.dumps(peak_mib(device)))
        return
    edits = {name: edit_of(name, pack, model, str(folder)) for name in UNPREPARED}
    report = Report("latency", seed=args.seed, path=args.json)
    report.provenance.update(model=model.fingerprint, threads=torch.get_num_threads())
    report.provenance["dtype"] = str(model.dtype).removeprefix("torch.")
    second = {**fast(pack), "strength": RATIO, "num_maps": MAPS, "guidance_scale": GUIDANCE}
    memos = {batch.seeds[0]: Memo(MEMO_BYTES) for batch in batches}
    edits["second_edit"] = ours(model, second, memos)  # another target text
    edits["third_edit"] = ours(model, {**second, "strength": OTHER_RATIO}, memos)  # the same texts
    other = other_targets(batches)
    for batch in other:  # the first edit of each picture, towards another text
        edits["second_edit"](batch)
    seconds: dict[str, list[float]] = {name: [] for name in edits}
    evaluations: dict[str, int] = {}
    for name in UNPREPARED:
        edits[name](batches[0])  # warm-up
    for batch in batches:
        for name, edit in edits.items():
            started = time.perf_counter()
            evaluations[name] = edit(batch)
            seconds[name].append(time.perf_counter() - started)
    medians = {}
    for name, row in seconds.items():
        medians[name] = sorted(row)[len(row) // 2]
        report.add("seconds", name, row)
        report.add("unet_evaluations", name, float(evaluations[name]))
    for name in UNPREPARED:
        report.add("peak_mib", name, peak_of(name))
    ratios = {
        "ratio_to_diffusers": ("faithful", "diffusers", 0.6),
        "ratio_to_diffusers_float32": ("faithful", "diffusers_float32", 0.6),
        "ratio_fast_to_faithful": ("fast", "faithful", 1 / 2.5),
        "ratio_second_edit": ("second_edit", "fast", 1 / 2),
        "ratio_third_edit": ("third_edit", "fast", 1 / 2),
    }
    for metric, (ours_name, base_name, bound) in ratios.items():
        ratio = medians[ours_name] / medians[base_name]
        report.add(metric, ours_name, ratio, n=args.n)
        report.claim(
            f"{ours_name} takes at most {bound:.2f} of the time of {base_name}",
            ratio <= bound,
            f"{medians[ours_name]:.2f} s against {medians[base_name]:.2f} s (medians)",
        )


def render_batches_of_one(n: int, seed: int) -> list[Batch]:
    """Return n queries, each a batch of its own, as a visitor edits."""
    queries = draw_queries(n, seed)
    return [
        dataclasses.replace(render_batches([query])[0], seeds=[i])
        for i, query in enumerate(queries)
    ]


def other_targets(batches: Sequence[Batch]) -> list[Batch]:
    """Return the same pictures with their source text as target: an edit of the same picture."""
    return [
        dataclasses.replace(
            batch,
            queries=[dataclasses.replace(q, target_text=q.source_text) for q in batch.queries],
        )
        for batch in batches
    ]


if __name__ == "__main__":
    main()
