"""What every training script shares: the run folder, checkpoints, the average, the rate schedule.

The learning rate follows warm-up, stable, decay (Hu et al. 2024, MiniCPM, arXiv 2404.06395): the
length of a run need not be known when it starts, and a later run resumes from the stable phase.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from pipelines.devices import choose_dtype, this_cpu_flags

DEFAULT_WORK = Path(os.environ.get("TOYBOX_WORK", "~/.cache/toybox-training")).expanduser()
TOYBOX = Path(__file__).parents[2] / "assets" / "toybox"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options all training scripts take."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--work", type=Path, default=DEFAULT_WORK, help="data and checkpoints")
    options.add_argument("--minutes", type=float, default=30.0, help="training time in all")
    options.add_argument("--steps", type=int, help="stop after this many steps instead")
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, help="folder of the pack entry to write")
    options.add_argument("--fresh", action="store_true", help="do not resume")
    options.add_argument(
        "--rewarm",
        action="store_true",
        help="resume from the end of a run, not of its stable phase",
    )
    return options


@dataclass
class Progress:
    """Where a run is. `elapsed_s` counts training time over all resumed sessions, see `busy_s`."""

    step: int = 0
    samples: int = 0
    elapsed_s: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)


def rate(fraction: float, step: int, *, warmup_steps: int = 100, decay_from: float = 0.7) -> float:
    """Return the learning-rate factor, in [0, 1], at `fraction` of the run."""
    warm = min(1.0, (step + 1) / warmup_steps)
    decay = min(1.0, (1.0 - fraction) / (1.0 - decay_from))
    return warm * max(decay, 0.0) if fraction > decay_from else warm


def autocast(device: str) -> torch.autocast:
    """Return the context of a forward pass: bfloat16 wherever that is quick, on CPUs too."""
    capability = torch.cuda.get_device_capability() if device == "cuda" else None
    dtype = choose_dtype(device, capability, this_cpu_flags())
    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")


class Average:
    """Exponential moving average of a module's parameters.

    Its horizon is a fiftieth of the steps so far, at most 1 / (1 - decay): an average over more of
    a short run would remember weights that the decay of the rate has left behind.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards `module`."""
        decay = min(self.decay, (1 + step) / (50 + step))
        averaged = [p for p in self.module.parameters() if p.is_floating_point()]
        current = [p for p in module.parameters() if p.is_floating_point()]
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)


def save_checkpoint(path: Path, progress: Progress, **parts: Any) -> None:
    """Write a checkpoint under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"progress": vars(progress), **states}, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path, **parts: Any) -> Progress | None:
    """Restore `parts` from `path`, or return None where there is no checkpoint."""
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return Progress(**state["progress"])


def resumed(
    args: argparse.Namespace, name: str, parts: Mapping[str, Any], decay_from: float
) -> Progress:
    """Restore the latest checkpoint of a run; return where it is (at the start without one).

    A run that had decayed its rate, and is now to last longer, goes on from the end of its stable
    phase instead, unless the rate is to rise again from there (`--rewarm`).
    """
    if args.fresh:
        return Progress()
    progress = load_checkpoint(args.work / f"{name}.pt", **parts) or Progress()
    if not args.rewarm and is_decayed(progress) and fraction_of(args, progress) < decay_from:
        progress = load_checkpoint(args.work / f"{name}_stable.pt", **parts) or progress
    return progress


def is_decayed(progress: Progress) -> bool:
    """Return whether the rate had begun to decay at the last line of the log."""
    return len(progress.log) > 1 and progress.log[-1]["rate"] < progress.log[-2]["rate"]


def train(
    args: argparse.Namespace,
    *,
    name: str,
    parts: Mapping[str, Any],
    optimizers: Sequence[torch.optim.Optimizer],
    loss_of_step: Callable[[Progress], tuple[torch.Tensor, dict[str, float]]],
    after_step: Callable[[Progress], None] = lambda progress: None,
    decay_from: float = 0.7,
    save_every_s: float = 240.0,
    log_every: int = 50,
) -> Progress:
    """Run the loop of `run` with one loss: its gradient, clipped, moves every optimizer."""

    def step(progress: Progress) -> dict[str, float]:
        loss, numbers = loss_of_step(progress)
        descend(loss, optimizers)
        return numbers

    return run(
        args,
        name=name,
        parts=parts,
        optimizers=optimizers,
        step=step,
        after_step=after_step,
        decay_from=decay_from,
        save_every_s=save_every_s,
        log_every=log_every,
    )


def descend(
    loss: torch.Tensor,
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Move what the optimizers hold by the gradient of a loss, clipped to norm 1."""
    parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        optimizer.step()


def run(
    args: argparse.Namespace,
    *,
    name: str,
    parts: Mapping[str, Any],
    optimizers: Sequence[torch.optim.Optimizer],
    step: Callable[[Progress], dict[str, float]],
    after_step: Callable[[Progress], None] = lambda progress: None,
    decay_from: float = 0.7,
    save_every_s: float = 240.0,
    log_every: int = 50,
) -> Progress:
    """Repeat `step` until `--minutes` or `--steps`; resume from and write `<work>/<name>.pt`.

    `step` trains once and returns numbers for the log; `after_step` finds the step counted.
    `parts` maps names to everything with a state_dict that a checkpoint holds besides the
    optimizers, whose learning rates are those of the stable phase. The state at the end of that
    phase stays in `<work>/<name>_stable.pt`.
    """
    path, stable = args.work / f"{name}.pt", args.work / f"{name}_stable.pt"
    everything = {**parts, **{f"optimizer_{i}": o for i, o in enumerate(optimizers)}}
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    progress = resumed(args, name, everything, decay_from)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    is_rewarmed = args.rewarm and fraction_of(args, progress) < decay_from
    is_stable = is_rewarmed or not is_decayed(progress)
    seen: dict[str, list[float]] = {}  # since the last line of the log
    last_saved, last = time.monotonic(), busy_s()
    while (fraction := fraction_of(args, progress)) < 1.0:
        factor = rate(fraction, progress.step, decay_from=decay_from)
        if is_stable and fraction > decay_from:
            save_checkpoint(stable, progress, **everything)
            is_stable = False
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * factor
        numbers = step(progress)
        progress.step += 1
        progress.samples += args.batch
        after_step(progress)
        now = busy_s()
        progress.elapsed_s += min(now[0] - last[0], now[1] - last[1])
        last = now
        for key, value in numbers.items():
            seen.setdefault(key, []).append(value)
        if progress.step % log_every == 0:
            line = {
                "step": progress.step,
                "samples": progress.samples,
                "minutes": round(progress.elapsed_s / 60, 2),
                "rate": round(factor, 4),
                **{key: round(fmean(values), 5) for key, values in seen.items()},
            }
            progress.log.append(line)
            print(json.dumps(line), flush=True)
            seen = {}
        if now[0] - last_saved > save_every_s:
            save_checkpoint(path, progress, **everything)
            last_saved, last = time.monotonic(), busy_s()
    save_checkpoint(path, progress, **everything)
    return progress


def busy_s() -> tuple[float, float]:
    """Return wall time and processor time; the smaller step of the two is time spent training.

    Between steps of a run that is suspended, or waits for a core, only the first one advances.
    """
    return time.monotonic(), time.process_time()


def fraction_of(args: argparse.Namespace, progress: Progress) -> float:
    """Return how much of the run is behind, in [0, 1] or above; all of a run of no length."""
    if args.steps is not None:
        return progress.step / args.steps if args.steps else 1.0
    return progress.elapsed_s / (60 * args.minutes) if args.minutes else 1.0


def write_json(path: Path, content: Mapping[str, Any] | Iterable[Any]) -> None:
    """Write JSON with a final newline, creating the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
