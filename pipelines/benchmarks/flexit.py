"""FlexIT's claims, measured on cluster queries as the paper builds them (sec. 4.1).

    python -m pipelines.benchmarks flexit --n 96 --json assets/results/flexit.jsonl

The dev half chooses the strengths at which SDEdit and DiffEdit are as far from the input as FlexIT;
the test half reports. Metrics:

    accuracy    the scene judge, which took no part, finds the target class the likeliest of all
    lpips       distance to the input by the network that is in no loss
    csfid, sfid distance of the judge's mean features from those of renders, by class and in all
    clip_score  the mean of all CLIPs; of FlexIT this is what it optimised, and proves nothing

`copy`, `encode`, `retrieve` (another render of the target class) bound what is possible. Parts:
`headline`; `networks` (single, pairs); `augmentations`; `regularisers`; `space`; `settings` (Table
A.2 of the thesis); `cost` (a step against the release's loop over crops, and whole edits: see
`flexit_cost`); `published` (FlexIT's own queries: see `flexit_published`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.benchmarks.diffedit import Batch, fast, pasted, render_batches
from pipelines.benchmarks.faithfulness import rendered
from pipelines.benchmarks.flexit_cost import measure_cost
from pipelines.benchmarks.flexit_published import measure_published
from pipelines.benchmarks.report import Report, parser
from pipelines.data.cluster_queries import cluster_queries, one_thing
from pipelines.data.scenes import Scene, is_well_seen
from pipelines.data.spec import CLASSES
from pipelines.flexit import LATENT_NORMS
from pipelines.memo import Memo
from pipelines.method_params import FlexITParams
from pipelines.metrics.clip_score import clip_score
from pipelines.metrics.frechet import JudgeFeatures
from pipelines.metrics.simplified_frechet import csfid, sfid
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.judge import SceneJudge
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.models.perceptual import Perceptual
from pipelines.noise import sub_seed
from pipelines.packs import Pack
from pipelines.params import build, to_dict
from pipelines.registry import METHODS

CACHE_BYTES = 2**33
"""For the networks of a photo pack."""
REFERENCES = 20
"""Renders of every class that features are compared with."""
STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PUBLISHED = {"image_weight": 0.2, "perceptual_weight": 0.15, "latent_weight": 0.05}
"""Of the regularisers; a pack may have defaults of its own."""
WITHOUT = dict.fromkeys(PUBLISHED, 0.0)
TABLE_A2: dict[str, tuple[object, ...]] = {
    "image_weight": (0.0, 0.1, 0.2, 0.3, 0.4),
    "source_weight": (0.0, 0.2, 0.4, 0.5, 0.8),
    "latent_weight": (0.0, 0.05, 0.1),
    "perceptual_weight": (0.0, 0.05, 0.1, 0.15, 0.2),
    "learning_rate": (0.025, 0.05, 0.1),
    "loss": ("dot", "squared"),
    "normalise_gradient": (True, False),
}


@dataclass(frozen=True, eq=False)
class Lab:
    """Models, references and queries that every setting shares.

    Attributes:
        models: what methods take beyond the diffusion model, by keyword.
        evaluator: the perceptual network that is in no loss.
        references: features (REFERENCES, D) of renders of every class.
        batches: rendered queries of the "dev" and the "test" half.
        steps: of FlexIT, where a setting does not say.
    """

    pack: Pack
    model: LatentDiffusion
    judge: SceneJudge
    models: Mapping[str, object]
    evaluator: Perceptual
    references: Mapping[str, Tensor]
    batches: Mapping[str, Sequence[Batch]]
    report: Report
    steps: int = 160
    memo: Memo = field(default_factory=lambda: Memo(2**30))

    @property
    def clips(self) -> Mapping[str, DualEncoder]:
        """The ensemble."""
        return self.models["clips"]

    def run(
        self, method: str, values: Mapping[str, object], setting: str, *, half: str = "test",
        clips: Mapping[str, DualEncoder] | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Edit one half of the queries, record and return the means."""
        found = METHODS[method]
        steps = {"num_steps": self.steps} if method == "flexit" else {}
        usual = {**self.pack.defaults.get(method, {}), **steps}
        params = build(found.load_params(), {**usual, **values})
        models = {**self.models, "clips": clips or self.clips}
        made = []
        for batch in self.batches[half]:
            edits = found.load()(
                self.model, batch.images, batch.source, batch.target, params, seeds=batch.seeds,
                memo=self.memo, **{name: models[name] for name in found.takes},
            )  # fmt: skip
            made.append(pasted(batch.images, edits.images, edits.masks))
        return self.measured(method, made, setting, half)

    @torch.no_grad()
    def measured(
        self, method: str, made: Sequence[Tensor], setting: str, half: str = "test"
    ) -> dict[str, float]:
        """Record and return the metrics of the edited batches of one half."""
        rows: dict[str, list[float]] = {"accuracy": [], "lpips": [], "clip_score": []}
        features, targets = [], []
        for batch, edited in zip(self.batches[half], made, strict=True):
            names = [query.target.things[0].class_name for query in batch.queries]
            likeliest = self.judge(edited).presence.argmax(1).tolist()
            judged = zip(likeliest, names, strict=True)
            rows["accuracy"] += [float(self.judge.classes[k] == name) for k, name in judged]
            rows["lpips"] += self.evaluator.distance(batch.images, edited).tolist()
            scores = [clip_score(clip, edited, batch.target) for clip in self.clips.values()]
            rows["clip_score"] += torch.stack(scores).mean(0).tolist()
            features.append(JudgeFeatures(self.judge)(edited))
            targets += names
        label = setting if half == "test" else f"dev: {setting}"
        means = {k: self.report.add(k, method, v, setting=label) for k, v in rows.items()}
        seen = torch.cat(features)
        distances = {
            "csfid": csfid(seen, targets, self.references),
            "sfid": sfid(seen, torch.cat(list(self.references.values()))),
        }
        for name, value in distances.items():
            self.report.add(name, method, value, setting=label, n=len(targets))
        return means | distances


def renders_of(class_name: str, count: int, seed: int) -> list[Scene]:
    """Return scenes with one well-seen thing of a class, from no query and no training."""
    rng = np.random.default_rng((seed, CLASSES.index(class_name), 0x5EED))
    found: list[Scene] = []
    while len(found) < count:
        scene = one_thing(int(rng.integers(2**62)), class_name)
        found += [scene] if is_well_seen(scene) else []
    return found


@torch.no_grad()
def references_of(judge: SceneJudge, seed: int) -> dict[str, Tensor]:
    """Return the judge's features of renders of every class."""
    read = JudgeFeatures(judge)
    return {name: read(rendered(renders_of(name, REFERENCES, seed))) for name in CLASSES}


def retrieved(lab: Lab, seed: int) -> list[Tensor]:
    """Return for every test query another render of its target class."""
    made = []
    for batch in lab.batches["test"]:
        names = [query.target.things[0].class_name for query in batch.queries]
        drawn = zip(names, batch.seeds, strict=True)
        scenes = [renders_of(name, 1, sub_seed(seed, "retrieve", s))[0] for name, s in drawn]
        made.append(rendered(scenes))
    return made


# ---------------------------------------------------------------- parts


def headline(lab: Lab, base: Mapping[str, float], seed: int) -> None:
    """Compare FlexIT with its baselines, and with diffusion methods as far from the input."""
    for name in ("copy", "encode"):
        lab.run(name, {}, "")
    retrieve = lab.measured("retrieve", retrieved(lab, seed), "")
    lab.run("flexit", {"num_steps": 32}, "32 steps")
    lab.report.claim("accuracy of at least 0.5", base["accuracy"] >= 0.5, f"{base['accuracy']:.3f}")
    lab.report.claim(
        "at most half as far from the input as Retrieve (LPIPS)",
        base["lpips"] <= 0.5 * retrieve["lpips"],
        f"{base['lpips']:.3f} against {retrieve['lpips']:.3f}",
    )
    aim = lab.run("flexit", {}, "default", half="dev")["lpips"]
    for name in ("sdedit", "diffedit"):
        strength, other = matched(lab, name, aim)
        lab.report.claim(
            f"{METHODS[name].title} succeeds more often than FlexIT at equal LPIPS (DiffEdit)",
            other["accuracy"] > base["accuracy"],
            f"{other['accuracy']:.3f} at {other['lpips']:.3f} (strength {strength:g}) against "
            f"{base['accuracy']:.3f} at {base['lpips']:.3f}",
        )


def matched(lab: Lab, name: str, aim: float) -> tuple[float, dict[str, float]]:
    """Return the strength whose LPIPS on the dev half is nearest to `aim`, and its test numbers."""
    quick = fast(lab.pack)
    gaps = {}
    for strength in reversed(STRENGTHS):  # the longest inversion serves the others
        values = {**quick, "strength": strength}
        seen = lab.run(name, values, f"strength {strength:g}", half="dev")
        gaps[strength] = abs(seen["lpips"] - aim)
    best = min(gaps, key=gaps.__getitem__)
    values = {**quick, "strength": best}
    return best, lab.run(name, values, "at FlexIT's LPIPS")


def networks(lab: Lab, base: Mapping[str, float], seed: int) -> None:
    """Compare ensembles (Table A.3)."""
    single = {}
    for count in range(1, len(lab.clips)):
        for roles in combinations(lab.clips, count):
            chosen = {role: lab.clips[role] for role in roles}
            row = lab.run("flexit", {}, " + ".join(roles), clips=chosen)
            single |= {roles[0]: row["accuracy"]} if count == 1 else {}
    best = max(single, key=single.__getitem__)
    lab.report.claim(
        "the ensemble succeeds more often than every single network",
        base["accuracy"] > single[best],
        f"{base['accuracy']:.3f} against {single[best]:.3f} ({best})",
    )


def augmentations(lab: Lab, base: Mapping[str, float], seed: int) -> None:
    """Compare numbers of augmentations (Table A.3)."""
    rows = {d: lab.run("flexit", {"augmentations": d}, f"d = {d}") for d in (0, 8, 32)}
    lab.report.claim(
        "one augmentation is much better than none (CSFID)",
        base["csfid"] < rows[0]["csfid"],
        f"{base['csfid']:.3f} against {rows[0]['csfid']:.3f}",
    )
    lab.report.claim(
        "more than one augmentation brings little (accuracy within 0.05)",
        max(rows[8]["accuracy"], rows[32]["accuracy"]) <= base["accuracy"] + 0.05,
        ", ".join(f"{d}: {row['accuracy']:.3f}" for d, row in {1: base, **rows}.items()),
    )


def regularisers(lab: Lab, base: Mapping[str, float], seed: int) -> None:
    """Switch all regularisers on as published and off, then each on by itself (Figure 7)."""
    every = lab.run("flexit", PUBLISHED, "all regularisers, as published")
    free = lab.run("flexit", WITHOUT, "no regulariser")
    for name, weight in PUBLISHED.items():
        lab.run("flexit", {**WITHOUT, name: weight}, f"{name} alone")
    lab.report.claim(
        "regularisers keep the result nearer to the input, and natural (LPIPS, CSFID)",
        every["lpips"] < free["lpips"] and every["csfid"] < free["csfid"],
        f"{every['lpips']:.3f} against {free['lpips']:.3f}, "
        f"{every['csfid']:.3f} against {free['csfid']:.3f}",
    )


def space(lab: Lab, base: Mapping[str, float], seed: int) -> None:
    """Optimise raw pixels instead of latents (Figure 10)."""
    raw = lab.run("flexit", {"space": "pixels"}, "pixels")
    lab.report.claim(
        "latents succeed more often than raw pixels",
        base["accuracy"] > raw["accuracy"],
        f"{base['accuracy']:.3f} against {raw['accuracy']:.3f}",
    )


def settings(lab: Lab, base: Mapping[str, float], seed: int) -> None:
    """Vary one setting at a time (Table A.2); the latents' norms with their published weight."""
    usual = to_dict(build(FlexITParams, lab.pack.defaults.get("flexit", {})))
    for name, values in TABLE_A2.items():
        for value in values:
            if value != usual[name]:  # else it is "default"
                lab.run("flexit", {name: value}, f"{name} {value}")
    weight = {"latent_weight": PUBLISHED["latent_weight"]}
    for norm in LATENT_NORMS:
        lab.run("flexit", {**weight, "latent_norm": norm}, f"latent_norm {norm}")


def cost(lab: Lab, base: Mapping[str, float], seed: int) -> None:
    """Time a step against the release's loop, and whole edits."""
    batch = next(iter(lab.batches["test"]))
    measure_cost(lab.report, lab.pack, lab.model, lab.models, batch, seed)


PARTS = headline, networks, augmentations, regularisers, space, settings, cost
RUN = {part.__name__: part for part in PARTS}


def prepared(pack: Pack, report: Report, n: int, seed: int, steps: int) -> Lab:
    """Return the laboratory: every model loaded, every query rendered."""
    from pipelines.devices import pick
    from pipelines.packs import LOADERS

    device = pick()

    def load(role: str):
        part = pack.component(role)
        return LOADERS[part.kind](part.locate(), device)

    judge, model = load("scene_judge"), load("latent_diffusion")
    report.provenance["model"] = model.fingerprint
    roles = [role for role, part in pack.components.items() if part.kind == "dual_encoder"]
    return Lab(
        pack, model, judge, models={"clips": {r: load(r) for r in roles},
        "perceptual": load("lpips_loss")}, evaluator=load("lpips_eval"),
        references=references_of(judge, seed), report=report, steps=steps,
        batches={h: render_batches(cluster_queries(n, seed, h)) for h in ("dev", "test")},
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts asked for."""
    from pipelines.model_cache import ModelCache
    from pipelines.packs import LOADERS, find

    options = parser(__doc__, n=96)
    options.add_argument("--parts", nargs="+", choices=(*RUN, "published"), default=list(RUN))
    options.add_argument("--steps", type=int, default=160, help="of FlexIT; fewer are quicker")
    options.add_argument("--queries", type=Path, help="FlexIT's queries.csv")
    options.add_argument("--imagenet", type=Path, help="folder of ImageNet's validation pictures")
    options.add_argument("--pack", default="toybox", help="of the published part, such as sd15")
    args = options.parse_args(argv)
    report = Report("flexit", seed=args.seed, path=args.json)
    report.provenance["steps"] = args.steps
    if "published" in args.parts:
        if not (args.queries and args.imagenet):
            raise SystemExit("--parts published needs --queries and --imagenet")
        cache, data = ModelCache(CACHE_BYTES, LOADERS), (args.queries, args.imagenet)
        measure_published(report, cache, find(args.pack), *data, args.n, args.steps)
    parts = [part for part in args.parts if part != "published"]
    if not parts:
        return
    lab = prepared(find("toybox"), report, args.n, args.seed, args.steps)
    base = lab.run("flexit", {}, "default") if set(parts) - {"cost"} else {}
    for part in parts:
        RUN[part](lab, base, args.seed)


if __name__ == "__main__":
    main()
