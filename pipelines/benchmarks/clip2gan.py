"""CLIP2GAN's protocol on clay faces: generation, editing, and what its parts bring.

    python -m pipelines.benchmarks clip2gan --n 200 --json assets/results/clip2gan.jsonl
    python -m pipelines.benchmarks clip2gan --variants runs/depth_4 runs/no_diversity

Judges that took no part in any training: face_judge, face_identity_eval, lpips_eval. Metrics:

    attribute_accuracy   part of the facts of a text that its face shows; of edits, whether the one
                         asked for is there
    lpips                of a generated face to the one its text describes; of an edit to its source
    diversity            LPIPS between two results of one text
    identity             cosine of an edit and its source, where the edit is none of identity itself
    others_kept          part of the other attributes that the edit left as they were
    degree               how much of the asked attribute is seen, at every beta
    frechet              to held-out renders, on the judge's features, not Inception's

`generate` and the first three directions have the mapper of the paper, trained on pictures alone;
"captions" says what has the second one, which read captions (`training.caption_mapper`).
`random` ignores the text, `copy` returns the source, `render` is the truth itself, and so bounds
what the judge can give. `--variants` are folders of mappers trained otherwise (Tables 3 and 4).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipelines.benchmarks.clip2gan_judges import Judges, apart, judged, load_judges
from pipelines.benchmarks.face_judges import BATCH, held_out_faces, rendered, verify
from pipelines.benchmarks.report import Report, parser
from pipelines.clip2gan import (
    Clip2Gan,
    base_codes,
    caption_moves,
    clip_moves,
    directions,
    generate,
    moved,
)
from pipelines.data.face_queries import sample_face_query
from pipelines.data.faces import CHOICES, Face
from pipelines.data.faces.captions import LEVELS, caption, describe, facts, parse
from pipelines.data.people import IDENTITY
from pipelines.devices import Device
from pipelines.method_params import Clip2GanParams
from pipelines.metrics import face_accuracy
from pipelines.models.caption_mapper import CaptionMapper
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.inversion import InversionEncoder
from pipelines.models.latent_mapper import LatentMapper
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.noise import seeded_noise, sub_seed
from pipelines.training.common import TOYBOX
from pipelines.training.rendered import HELD_OUT

WORDED = (*LEVELS, *CHOICES)  # attributes that a text can ask for
BETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
DIRECTIONS = ("published", "difference", "clip")
CAPTIONS = "captions"  # the mapper that read them, and its direction
NOISES = {"pictures": ("published", "training", "none"), CAPTIONS: ("published", "none")}
KINDS = {"pictures": "as published", CAPTIONS: CAPTIONS}
ENOUGH = 0.8  # of named or asked attributes
VISIBLE = 0.1  # LPIPS from which two results differ visibly


@dataclasses.dataclass(frozen=True)
class Edit:
    """A wanted edit: the words for one attribute, and the face before and after."""

    source: Face
    target: Face
    attribute: str
    value: str

    @property
    def text(self) -> str:
        """Return a sentence that says the attribute and nothing else."""
        return describe({self.attribute: self.value})


def draw_edit(seed: int, attribute: str) -> Edit:
    """Return an edit whose attribute can be said, and is not true yet."""
    for attempt in range(1000):
        query = sample_face_query(sub_seed(seed, attribute, attempt), attribute)
        value = facts(query.target).get(attribute)
        if value is not None and facts(query.source).get(attribute) != value:
            return Edit(query.source, query.target, attribute, value)
    raise ValueError(f"no edit of {attribute} can be said")


def load_models(folder: Path, mapper: Path, device: Device) -> Clip2Gan:
    """Return the method's networks; the mapper names its CLIP, which both mappers share."""
    network = LatentMapper.from_folder(mapper, device)
    return Clip2Gan(
        DualEncoder.from_folder(folder / network.clip, device),
        network,
        StyleGAN2.from_folder(folder / "face_stylegan2", device),
        InversionEncoder.from_folder(folder / "face_inversion", device),
        CaptionMapper.from_folder(folder / "caption_mapper", device),
    )


# ---------------------------------------------------------------- generation


class Generation:
    """Texts of held-out faces, and the measurement of pictures that follow them."""

    def __init__(self, report: Report, judges: Judges, n: int, seed: int, device: Device) -> None:
        self.report, self.judges, self.seed = report, judges, seed
        self.faces = [face for b in held_out_faces(500_000 * seed, n) for face in b]
        self.texts = [caption(face, 0) for face in self.faces]
        self.truth = rendered(self.faces).to(device.torch_device)

    def measure(self, method: str, setting: str, images: Tensor) -> dict[str, float]:
        """Record and return the metrics of one picture for each text."""
        verdict = judged(self.judges.judge, images)
        right = [
            face_accuracy.facts_right(verdict, i, parse(text).facts)
            for i, text in enumerate(self.texts)
        ]
        far = apart(self.judges.perceptual, images, self.truth)
        add, n = self.report.add, len(images)
        return {
            "attribute_accuracy": add("attribute_accuracy", method, right, setting=setting),
            "lpips": add("lpips", method, far, setting=setting),
            "frechet": add(
                "frechet", method, self.judges.distance(images), setting=setting, n=n
            ),
        }  # fmt: skip

    def made(
        self, models: Clip2Gan, noise: str, result: int = 0, mapper: str = "pictures"
    ) -> Tensor:
        """Return a face for each text, the `result`-th of its results."""
        params = Clip2GanParams(mapper, noise)
        seeds = [sub_seed(self.seed, i, result) for i in range(len(self.texts))]
        return torch.cat([
            generate(models, self.texts[s : s + BATCH], params, seeds=seeds[s : s + BATCH]).images
            for s in range(0, len(self.texts), BATCH)
        ])  # fmt: skip

    def diversity(self, models: Clip2Gan, noise: str, mapper: str = "pictures") -> float:
        """Record and return the LPIPS between two results of one text."""
        pair = [self.made(models, noise, result, mapper) for result in (0, 1)]
        far = apart(self.judges.perceptual, *pair)
        setting = setting_of(mapper, noise)
        return self.report.add("diversity", "generate", far, setting=setting)


def setting_of(mapper: str, noise: str) -> str:
    """Return how a record names what made a face of a text."""
    if mapper != CAPTIONS:
        return f"noise {noise}"
    return f"{CAPTIONS}, {'average face' if noise == 'none' else 'random faces'}"


def generation(cases: Generation, models: Clip2Gan) -> None:
    """Measure text to face, and the ends between which it lies."""
    cases.measure("render", "the truth", cases.truth)
    seeds = [sub_seed(cases.seed, "random", i) for i in range(len(cases.texts))]
    z = seeded_noise((models.generator.config.z_dim,), seeds, cases.truth)
    cases.measure(
        "random", "ignores the text", torch.cat([models.generator(b) for b in z.split(BATCH)])
    )
    for mapper, noises in NOISES.items():
        right, differ = {}, {}
        for noise in noises:
            setting, images = setting_of(mapper, noise), cases.made(models, noise, 0, mapper)
            right[setting] = cases.measure("generate", setting, images)["attribute_accuracy"]
            if noise != "none":
                differ[setting] = cases.diversity(models, noise, mapper)
        published = setting_of(mapper, "published")
        cases.report.claim(
            f"text to face gets {ENOUGH} of the named attributes right ({KINDS[mapper]})",
            right[published] >= ENOUGH,
            told(right),
        )
        cases.report.claim(
            f"results of one text differ visibly (LPIPS {VISIBLE} at least, {KINDS[mapper]})",
            differ[published] >= VISIBLE,
            told(differ),
        )


def told(found: Mapping[str, float]) -> str:
    """Return numbers with their names."""
    return ", ".join(f"{name} {value:.3f}" for name, value in found.items())


# ---------------------------------------------------------------- editing


class Editing:
    """Edits of held-out faces, every attribute in turn, and their measurement."""

    def __init__(self, report: Report, judges: Judges, n: int, seed: int, device: Device) -> None:
        self.report, self.judges = report, judges
        first = HELD_OUT + 4_000_000 + 500_000 * seed
        self.edits = [draw_edit(first + i, WORDED[i % len(WORDED)]) for i in range(n)]
        self.texts = [edit.text for edit in self.edits]
        self.sources = rendered([edit.source for edit in self.edits]).to(device.torch_device)
        self.targets = rendered([edit.target for edit in self.edits]).to(device.torch_device)
        self.before = judged(judges.judge, self.sources)

    def measure(self, method: str, setting: str, images: Tensor) -> dict[str, float]:
        """Record and return the metrics of one picture for each edit."""
        verdict = judged(self.judges.judge, images)
        asked = [(i, edit.attribute, edit.value) for i, edit in enumerate(self.edits)]
        kept = [
            face_accuracy.others_kept(
                self.before, verdict, i, source=edit.source, edited=edit.attribute
            )
            for i, edit in enumerate(self.edits)
        ]
        alike = (self.judges.identity(images) * self.judges.identity(self.sources)).sum(1).tolist()
        same = [
            a for a, edit in zip(alike, self.edits, strict=True) if edit.attribute not in IDENTITY
        ]
        measured: Mapping[str, list[float]] = {
            "attribute_accuracy": [float(face_accuracy.shows(verdict, *fact)) for fact in asked],
            "degree": [face_accuracy.degree(verdict, *fact) for fact in asked],
            "others_kept": kept,
            "identity": same,
            "lpips": apart(self.judges.perceptual, images, self.sources),
        }
        add = self.report.add
        row = {
            name: add(name, method, values, setting=setting) for name, values in measured.items()
        }
        distance = self.judges.distance(images)
        row["frechet"] = add("frechet", method, distance, setting=setting, n=len(images))
        return row

    def made(self, models: Clip2Gan, direction: str, base: str, beta: float) -> Tensor:
        """Return the edited faces."""
        images = []
        for start in range(0, len(self.texts), BATCH):
            sources, texts = self.sources[start : start + BATCH], self.texts[start : start + BATCH]
            codes = base_codes(models, sources, base)
            if direction == "clip":
                moves = clip_moves(models, sources, texts, beta)
            elif direction == CAPTIONS:
                moves = beta * caption_moves(models, codes, texts)
            else:
                moves = beta * directions(models, texts, direction)
            codes = moved(codes, moves)
            images.append(models.generator.synthesis(codes))
        return torch.cat(images)


Rows = dict[tuple[str, str, float], dict[str, float]]


def editing(cases: Editing, models: Clip2Gan, threshold: float) -> Rows:
    """Measure every direction from both bases at every beta, and the ends."""
    cases.measure("copy", "the source", cases.sources)
    cases.measure("render", "the truth", cases.targets)
    rows: Rows = {}
    for base in ("mapped", "inverted"):
        for direction in (*DIRECTIONS, CAPTIONS):
            for beta in BETAS:
                images = cases.made(models, direction, base, beta)
                setting = f"{direction}, {base}, beta {beta:g}"
                rows[direction, base, beta] = cases.measure("edit", setting, images)
    editing_claims(cases.report, rows, threshold)
    return rows


def editing_claims(report: Report, rows: Rows, threshold: float) -> None:
    """Record which of the paper's conclusions on editing hold."""
    ours, theirs = (rows[direction, "mapped", 0.5] for direction in ("published", "clip"))
    report.claim(
        "adding in W+ gives better pictures than adding in CLIP space (Table 6)",
        ours["frechet"] < theirs["frechet"],
        f"Frechet distance {ours['frechet']:.2f} against {theirs['frechet']:.2f}, beta 0.5",
    )
    for direction in (*DIRECTIONS[:2], CAPTIONS):
        steps = [rows[direction, "inverted", beta]["degree"] for beta in BETAS]
        report.claim(
            f"more beta, more of the attribute ({direction}, Fig. 9)",
            all(a < b for a, b in zip(steps, steps[1:], strict=False)),
            ", ".join(f"{beta:g}: {step:.3f}" for beta, step in zip(BETAS, steps, strict=True)),
        )
    keeping = {key: row for key, row in rows.items() if row["identity"] >= threshold}
    for mapper, among in (("pictures", DIRECTIONS), (CAPTIONS, (CAPTIONS,))):
        candidates = [key for key in keeping if key[0] in among]
        best = max(candidates, key=lambda k: keeping[k]["attribute_accuracy"], default=None)
        row = {} if best is None else keeping[best]
        report.claim(
            f"edits reach {ENOUGH} of what is asked at a strength that keeps identity "
            f"({KINDS[mapper]})",
            bool(row) and row["attribute_accuracy"] >= ENOUGH,
            f"identity of at least {threshold:.2f} nowhere"
            if best is None
            else f"{best[0]}, {best[1]}, beta {best[2]:g}: {row['attribute_accuracy']:.3f}, "
            f"identity {row['identity']:.3f} (threshold {threshold:.2f}), "
            f"others kept {row['others_kept']:.3f}",
        )


# ---------------------------------------------------------------- ablations


@dataclasses.dataclass(frozen=True)
class Variant:
    """A mapper's folder and the switches it was trained with."""

    folder: Path
    depth: int
    adversarial: bool
    diversity: bool

    @classmethod
    def of(cls, folder: Path) -> Variant:
        """Read the switches that the training script wrote."""
        told = json.loads((folder / "training.json").read_text())
        return cls(folder, told["depth"], told["adversarial"], told["diversity"])

    @property
    def setting(self) -> str:
        """Return the switches in words."""
        losses = [name for name in ("adversarial", "diversity") if getattr(self, name)]
        return f"depth {self.depth}, {' and '.join(losses) or 'neither'} loss"


def ablations(
    cases: Generation, models: Clip2Gan, variants: Sequence[Variant], device: Device
) -> None:
    """Measure every variant's generation; the first one is what the others are compared with."""
    found: dict[Variant, dict[str, float]] = {}
    for variant in variants:
        mapper = LatentMapper.from_folder(variant.folder, device)
        other = dataclasses.replace(models, mapper=mapper)
        images = cases.made(other, "published")
        found[variant] = cases.measure("generate", variant.setting, images)
    first, *others = variants
    for variant in others:
        full, less = found[first]["frechet"], found[variant]["frechet"]
        cases.report.claim(
            f"{first.setting} gives better pictures than {variant.setting} (Tables 3 and 4)",
            full < less,
            f"Frechet distance {full:.2f} against {less:.2f}",
        )


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the protocol."""
    from pipelines.devices import pick

    options = parser(__doc__, n=200)
    options.add_argument("--folder", type=Path, default=TOYBOX, help="where the networks are")
    options.add_argument("--mapper", type=Path, help="another mapper than the folder's")
    options.add_argument("--variants", type=Path, nargs="*", default=[], help="further mappers")
    options.add_argument("--real", type=int, default=1000, help="renders of the Frechet distance")
    args = options.parse_args(argv)
    device, mapper = pick(), args.mapper or args.folder / "latent_mapper"
    models = load_models(args.folder, mapper, device)
    judges = load_judges(args.folder, device, args.real)
    report = Report("clip2gan", seed=args.seed, path=args.json)
    told = json.loads((args.folder / "face_stylegan2" / "training.json").read_text())
    report.provenance["generator"] = "warm start" if told["warm_start"] else "plain"
    texts = Generation(report, judges, args.n, args.seed, device)
    generation(texts, models)
    threshold = verify(judges.identity, max(args.n, 4), args.seed).threshold
    editing(Editing(report, judges, args.n, args.seed, device), models, threshold)
    if args.variants:
        ablations(texts, models, [Variant.of(f) for f in (mapper, *args.variants)], device)


if __name__ == "__main__":
    main()
