"""Do Face sliders answer in time, and is a new direction trained in time.

    python -m pipelines.benchmarks sliders [--n 30] [--json FILE]

Wall times of what the page calls, with the threads that it has, once everything is loaded: n moves
of two sliders (a part's, of a text), each answered with its picture and its heat map; a new slider
of a text; and one LELSD direction for hair, as *Train a direction* does it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from pipelines.benchmarks.report import Report, parser

MOVE_MS, TRAINING_S = 150.0, 120.0
PART, TEXTS = "hair", ("smiling", "wearing a red hat", "with pink hair")


def timed_s(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main(argv: Sequence[str] | None = None) -> None:
    """Time moves, new sliders and a training."""
    from pipelines import face_sources, faces, packs
    from pipelines.jobs import Gate
    from pipelines.lelsd import lelsd
    from pipelines.memo import Memo
    from pipelines.method_params import LELSDParams
    from pipelines.model_cache import ModelCache
    from pipelines.workbench import Services

    args = parser(__doc__, n=30).parse_args(argv)
    report = Report("sliders", seed=args.seed, path=args.json)
    report.provenance["threads"] = torch.get_num_threads()
    pack = packs.find("toybox")
    cache = ModelCache(2**30, packs.LOADERS)
    services = Services(cache, Memo(2**26), Gate(), pack, lambda image, name: name)
    face = face_sources.from_seed(services, args.seed)
    desk = faces.Desk(face)
    mode = face_sources.modes(services)[0]

    def text_slider(text: str) -> faces.Slider:
        return face_sources.text_slider(services, text, mode, face)

    sliders = face_sources.part_slider(services, PART, "lelsd"), text_slider(TEXTS[0])
    places = [desk.add(slider) for slider in sliders]
    layers = faces.layers_of(face, faces.GROUPS)

    def move(strength: float) -> None:
        strengths = [0.0] * faces.SLOTS
        for place in places:
            strengths[place] = strength
        faces.answer(services, desk, strengths, layers)

    move(1.0)
    spent = [1000 * timed_s(lambda s=s: move(s)) for s in torch.linspace(-1, 1, args.n).tolist()]
    report.add("move_ms", "sliders", spent, setting=f"{PART} and {TEXTS[0]}")
    report.claim(
        f"Face sliders answer a move in less than {MOVE_MS:g} ms",
        max(spent) < MOVE_MS,
        f"median {statistics.median(spent):.0f} ms, worst {max(spent):.0f} ms of {len(spent)}",
    )
    added = [1000 * timed_s(lambda t=t: text_slider(t)) for t in TEXTS]
    report.add("text_ms", "sliders", added, setting=f"a new slider, {mode}")
    with (
        faces.latents_of(services) as latents,
        cache.lease(pack.name, "face_parser") as parts,
    ):
        trained = timed_s(lambda: lelsd(latents, parts, PART, LELSDParams(), seed=args.seed))
    report.add("training_s", "lelsd", trained, setting=PART)
    report.claim(
        f"a direction is trained in {TRAINING_S:g} s or less", trained <= TRAINING_S,
        f"{trained:.0f} s for {PART}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
