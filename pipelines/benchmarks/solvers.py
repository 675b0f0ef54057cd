"""Error of both solvers against 1000-step DDIM, in both directions.

    python -m pipelines.benchmarks solvers --n 8 --json assets/results/solvers.jsonl

Two networks: the exact denoiser of a Gaussian mixture (32 n latents, float64), and the shipped
scene model where its folder is there (n held-out renders). The model's references take about
14 000 n UNet evaluations; `--mixture-only` leaves them out.
Encoding is unconditional to strength 0.8; decoding starts from the reference's own end, with
guidance; the round trip decodes the solver's own encoding without guidance, where the answer is the
input. Each error is the root mean square over a latent (of about unit scale), averaged over images,
with the standard error of that mean. The reference walks through every trained timestep. How far
the two solvers are apart there is recorded too ("all"): nothing below it can be told from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pipelines.benchmarks.report import Report, parser
from pipelines.diffusion.analytic import STABLE_DIFFUSION, GaussianMixture, rough_mixture
from pipelines.diffusion.guidance import classifier_free, condition
from pipelines.diffusion.schedule import CLEAN, Denoiser, EpsModel, NoiseSchedule
from pipelines.diffusion.solvers import SOLVERS

NUM_STEPS = (5, 8, 10, 15, 20, 25, 50)
STRENGTH = 0.8
GUIDANCE_SCALE = 5.0
MODEL_FOLDER = Path(__file__).parents[2] / "assets" / "toybox" / "scenes"


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and the latents it is tried on."""

    name: str
    schedule: NoiseSchedule
    latents0: Tensor
    unconditional: Denoiser
    guided: Denoiser


def mixture_subject(n: int, seed: int, schedule: NoiseSchedule) -> Subject:
    """Return a mixture of 12 whose text embedding (1, 1, 1) is 0 for all of them, 1 for four."""
    mixture = rough_mixture(12, (1, 4, 4), seed)
    few = GaussianMixture(
        torch.tensor([0.25] * 4, dtype=torch.float64), mixture.means[:4], mixture.variances[:4]
    )
    denoisers = (mixture.denoiser(schedule), few.denoiser(schedule))

    def eps_model(latents: Tensor, t: int | Tensor, text_embeds: Tensor) -> Tensor:
        named = text_embeds[:, 0, 0].reshape(-1, 1, 1, 1)
        return torch.where(named > 0, denoisers[1](latents, t), denoisers[0](latents, t))

    latents0 = few.sample(n, torch.Generator().manual_seed(seed))
    text = torch.ones(1, 1, 1)
    return _subject("mixture", schedule, latents0, eps_model, text, torch.zeros_like(text))


def model_subject(n: int, seed: int) -> Subject:
    """Return the shipped scene model with n held-out renders and their captions."""
    from pipelines.benchmarks.diffedit import draw_queries, render_batches
    from pipelines.devices import pick
    from pipelines.models.latent_diffusion import LatentDiffusion

    device = replace(pick(), dtype=torch.float32)
    model = LatentDiffusion.from_folder(MODEL_FOLDER, device)
    batches = render_batches(draw_queries(n, seed))
    latents0 = torch.cat([model.encode_images(batch.images) for batch in batches])
    text = model.embed_text([caption for batch in batches for caption in batch.source])
    return _subject("scenes", model.schedule, latents0, model.eps, text, model.embed_text([""]))


def _subject(
    name: str,
    schedule: NoiseSchedule,
    latents0: Tensor,
    eps_model: EpsModel,
    text: Tensor,
    empty: Tensor,
) -> Subject:
    unconditional = condition(eps_model, empty)
    guided = classifier_free(eps_model, text, empty, GUIDANCE_SCALE)
    return Subject(name, schedule, latents0, unconditional, guided)


def measure(subject: Subject, num_steps: Sequence[int], report: Report) -> None:
    """Record the errors of every solver at every number of steps."""
    schedule, latents0 = subject.schedule, subject.latents0
    grids = {steps: schedule.grid(steps, STRENGTH) for steps in num_steps}
    encode, decode = SOLVERS["ddim"]
    finest = (CLEAN, *range(max(grid[-1] for grid in grids.values()) + 1))
    encoded = encode(subject.unconditional, latents0, finest, schedule)  # entry t + 1 at level t
    means: dict[tuple[str, int, str], float] = {}
    for steps, grid in grids.items():
        top = encoded[grid[-1] + 1]
        fine = finest[: grid[-1] + 2]
        decoded = decode(subject.guided, top, fine, schedule)
        for method, (up, down) in SOLVERS.items():
            own = up(subject.unconditional, latents0, grid, schedule)[-1]
            returned = down(subject.unconditional, own, grid, schedule)
            guided = down(subject.guided, top, grid, schedule)
            for metric, difference in (
                ("encode_error", own - top),
                ("decode_error", guided - decoded),
                ("round_trip_error", returned - latents0),
            ):
                setting = f"{subject.name}, {steps} steps"
                value = report.add(metric, method, _rms(difference), setting=setting)
                means[method, steps, metric] = value
    fast_up, fast_down = SOLVERS["dpm2m"]
    apart_up = fast_up(subject.unconditional, latents0, finest, schedule)[-1] - encoded[-1]
    report.add("encode_error", "dpm2m", _rms(apart_up), setting=f"{subject.name}, all steps")
    apart_down = fast_down(subject.guided, encoded[-1], finest, schedule) - decode(
        subject.guided, encoded[-1], finest, schedule
    )
    report.add("decode_error", "dpm2m", _rms(apart_down), setting=f"{subject.name}, all steps")
    if {20, 50} <= set(num_steps):
        _claim(subject.name, means, report)
    _print_table(subject.name, num_steps, means)


def _claim(name: str, means: dict[tuple[str, int, str], float], report: Report) -> None:
    """Compare 20 steps of the fast solver with 50 of DDIM."""
    pairs = {
        metric: (means["dpm2m", 20, metric], means["ddim", 50, metric])
        for metric in ("encode_error", "decode_error", "round_trip_error")
    }
    for metric, (fast, slow) in pairs.items():
        report.claim(
            f"{name}: {metric} of dpm2m in 20 steps is at most that of ddim in 50",
            fast <= slow,
            f"{fast:.4f} against {slow:.4f}",
        )


def _rms(difference: Tensor) -> list[float]:
    """Return the root mean square of each image's difference."""
    return difference.double().square().mean((1, 2, 3)).sqrt().tolist()


def _print_table(
    name: str, num_steps: Sequence[int], means: dict[tuple[str, int, str], float]
) -> None:
    metrics = ("encode_error", "decode_error", "round_trip_error")
    columns = [(metric, method) for metric in metrics for method in SOLVERS]
    print(f"\n{name:9}" + "".join(f"{metric.removesuffix('_error'):>20}" for metric in metrics))
    print(f"{'steps':9}" + "".join(f"{method:>10}" for _, method in columns))
    for steps in num_steps:
        row = "".join(f"{means[method, steps, metric]:10.4f}" for metric, method in columns)
        print(f"{steps:<9}{row}")
    print(flush=True)


@torch.no_grad()
def main(argv: list[str]) -> None:
    """Run both subjects and write the records."""
    options = parser(__doc__, n=8)
    options.add_argument("--mixture-only", action="store_true", help="leave out the scene model")
    args = options.parse_args(argv)
    report = Report("solvers", seed=args.seed, path=args.json)
    schedule = NoiseSchedule.from_config(STABLE_DIFFUSION)
    measure(mixture_subject(32 * args.n, args.seed, schedule), NUM_STEPS, report)
    if MODEL_FOLDER.exists() and not args.mixture_only:
        measure(model_subject(args.n, args.seed), NUM_STEPS, report)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
