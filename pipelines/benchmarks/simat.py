"""SIMAT's claims on the toy set: score against lambda for every temperature, encoder and baseline.

    python -m pipelines.benchmarks simat [--n 20000] [--clips clip_vit clip_resnet]
    python -m pipelines.benchmarks simat --simat-db FOLDER --clip-folder FOLDER [--heads FILE]

Lambda and temperature are chosen on the dev half, scores are of the test half: weighted accuracy of
the first result (n=1), or of the best of five (n=5), the query picture left out. The seed draws the
queries, of which n are taken. The second line runs the published set, for whoever has its pictures
where the release's prepare_dataset.py puts them; its oracle is OSCAR's matrix where the folder has
it, else the pictures' own annotations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from pipelines import simat
from pipelines.benchmarks.report import Report, parser
from pipelines.data.simat_scenes import FIELDS, SimatSet, Transformation, build, sentence_pairs
from pipelines.metrics.simat import inverse_sqrt_weights, simat_score, standard_error
from pipelines.models.adaptation_heads import AdaptationHeads
from pipelines.models.retrieval_index import VectorIndex
from pipelines.models.retrieval_set import RetrievalSet

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
SHOWN = 5
RAW, PUBLISHED_BEST = "off", ("0.1", 1.0)
CHANGES = ("words", "sentences")
Queries = Sequence[Transformation]


@dataclass(frozen=True, eq=False)
class Lab:
    """One encoder on one set.

    Attributes:
        images, captions: (N, D), (M, D) as the encoder gives them, captions in the set's order.
        words: of everything that queries replace or put in.
        heads: by temperature.
        holds: (M, N) bool, whether picture n shows caption m: the oracle.
    """

    name: str
    simat: SimatSet
    images: Tensor
    captions: Tensor
    words: Mapping[str, Tensor]
    heads: Mapping[str, AdaptationHeads]
    holds: Tensor


def oracle(known: RetrievalSet) -> Tensor:
    """Return which scene shows which caption, (M, N) bool."""
    return torch.tensor(
        [[one.holds(scene) for scene in known.scenes] for one in known.simat.captions]
    )


class Space:
    """A lab's embeddings behind one pair of heads; embeddings adapted once."""

    def __init__(self, lab: Lab, tau: str) -> None:
        """Adapt pictures, captions and words."""
        self.lab, self.tau = lab, tau
        pair = None if tau == RAW else lab.heads[tau]
        self.images = simat.adapt(lab.images, pair and pair.image)
        self.captions = simat.adapt(lab.captions, pair and pair.text)
        self.words = {w: simat.adapt(v, pair and pair.text) for w, v in lab.words.items()}
        self.index = VectorIndex.exact(self.images)
        self.row_of = {one: row for row, one in enumerate(lab.simat.captions)}
        self._sentences: dict[tuple[str, str, str], Tensor] = {}

    def deltas(self, queries: Queries, how: str) -> Tensor:
        """Return the delta vector of every query, (B, D)."""
        if how == "words":
            before = torch.stack([self.words[q.value] for q in queries])
            return simat.word_delta(before, torch.stack([self.words[q.target] for q in queries]))
        shown = list(self.lab.simat.captions)
        for change in {(q.field, q.value, q.target) for q in queries} - set(self._sentences):
            pairs = sentence_pairs(shown, *change)
            self._sentences[change] = simat.sentence_delta(self.captions, pairs)
        return torch.stack([self._sentences[q.field, q.value, q.target] for q in queries])

    def hits(self, queries: Queries, found: simat.Retrieved) -> Tensor:
        """Return whether each result shows what its query wants, (B, k) bool."""
        wanted = torch.tensor([self.row_of[q.wanted] for q in queries])
        return self.lab.holds[wanted.unsqueeze(1), found.rows]

    def moved(self, queries: Queries, how: str, scale: float) -> Tensor:
        """Run the method; return its hits (B, SHOWN)."""
        rows = [q.image for q in queries]
        found = simat.simat(
            self.index, self.images[rows], self.deltas(queries, how), scale=scale, k=SHOWN,
            itself=rows,
        )  # fmt: skip
        return self.hits(queries, found)

    def baselines(self, queries: Queries) -> dict[str, Tensor]:
        """Run the baselines; return their hits (B, SHOWN)."""
        rows = [q.image for q in queries]
        wanted = self.captions[[self.row_of[q.wanted] for q in queries]]
        pictures, k = self.images[rows], {"k": SHOWN, "itself": rows}
        through = simat.image_to_text_to_image(
            self.index, pictures, self.captions, self.deltas(queries, "words"), scale=1.0, **k
        )
        tried = {
            "text_to_image": simat.text_to_image(self.index, wanted, **k),
            "image_to_text_to_image": through,
            "image_only": simat.image_only(self.index, pictures, **k),
        }
        return {name: self.hits(queries, found) for name, found in tried.items()}


class Scorer:
    """Weighs the hits of one half and writes records."""

    def __init__(self, report: Report, everything: Queries, queries: Queries) -> None:
        """Weigh by how often a word is replaced in both halves together."""
        weights = zip(everything, inverse_sqrt_weights([q.value for q in everything]), strict=True)
        of_word = {query.value: weight for query, weight in weights}
        self.report, self.queries = report, queries
        self.weights = [of_word[q.value] for q in queries]

    def score(self, hits: Tensor, first: int = 1) -> float:
        """Return the SIMAT score of the best of the `first` results."""
        return simat_score(hits[:, :first].any(1).tolist(), self.weights)

    def add(self, method: str, setting: str, hits: Tensor, first: int = 1) -> float:
        """Record a score; return it."""
        successes = hits[:, :first].any(1).tolist()
        error = standard_error(successes, self.weights)
        value = self.score(hits, first)
        setting = f"{setting}, n={first}"
        n = len(successes)
        return self.report.add("simat_score", method, value, setting=setting, n=n, spread=error)

    def of(self, hits: Tensor, keep: Sequence[bool]) -> tuple[float, float, int]:
        """Return score, standard error and number of the queries kept."""
        chosen = [i for i, is_kept in enumerate(keep) if is_kept]
        successes = [bool(hits[i, 0]) for i in chosen]
        weights = [self.weights[i] for i in chosen]
        return simat_score(successes, weights), standard_error(successes, weights), len(chosen)


@dataclass(frozen=True)
class Found:
    """What one encoder's run says: dev-chosen settings and their test scores."""

    name: str
    best_scale: dict[tuple[str, str], float]  # (temperature, kind of change)
    dev: dict[tuple[str, float], float]  # (temperature, scale), words
    test: dict[tuple[str, str], float]  # (temperature, kind of change), at its best scale
    upper: float  # text to image, in the space where it is best
    by_field: dict[str, float]

    @property
    def best_tau(self) -> str:
        """The temperature of the best dev score."""
        return max((tau for tau, _ in self.dev if tau != RAW), key=self.best_dev)

    def best_dev(self, tau: str) -> float:
        """Return the best dev score of a temperature."""
        return max(score for (other, _), score in self.dev.items() if other == tau)


def measure(report: Report, lab: Lab, n: int, seed: int) -> Found:
    """Record everything about one encoder."""
    rng = np.random.default_rng((seed, 0x51))
    everything = lab.simat.queries
    halves = {}
    for is_test in (False, True):
        own = [q for q in everything if q.is_test == is_test]
        halves[is_test] = [own[i] for i in sorted(rng.permutation(len(own))[:n])]
    dev, test = (Scorer(report, everything, halves[half]) for half in (False, True))
    dev_scores: dict[tuple[str, float], float] = {}
    best_scale: dict[tuple[str, str], float] = {}
    scores: dict[tuple[str, str], float] = {}
    fields: dict[str, dict[str, float]] = {}
    chosen: dict[str, tuple[Tensor, str, str]] = {}
    upper = 0.0
    for tau in (RAW, *lab.heads):
        space, method = Space(lab, tau), "raw" if tau == RAW else "heads"
        where = lab.name if tau == RAW else f"{lab.name}, tau {tau}"
        for how in CHANGES:
            curve = {s: dev.score(space.moved(dev.queries, how, s)) for s in SCALES}
            best_scale[tau, how] = best = max(curve, key=lambda scale: curve[scale])
            if how == "words":
                for scale, value in curve.items():
                    setting = f"{where}, words, lambda {scale:g}, dev"
                    report.add("simat_score", method, value, setting=setting, n=len(dev.queries))
                    dev_scores[tau, scale] = value
            for scale in sorted({1.0, best}):
                hits = space.moved(test.queries, how, scale)
                setting = f"{where}, {how}, lambda {scale:g}, test"
                value = test.add(method, setting, hits)
                test.add(method, setting, hits, SHOWN)
                if scale == best:
                    scores[tau, how] = value
                    if how == "words":
                        fields[tau] = breakdown(test, hits, method, setting, FIELDS)
                        chosen[tau] = hits, method, setting
        for name, hits in space.baselines(test.queries).items():
            value = test.add(name, f"{where}, test", hits)
            test.add(name, f"{where}, test", hits, SHOWN)
            upper = max(upper, value) if name == "text_to_image" else upper
    taus = list(lab.heads) or [RAW]
    best_tau = max(taus, key=lambda tau: max(v for (t, _), v in dev_scores.items() if t == tau))
    breakdown(test, *chosen[best_tau], sorted({q.target for q in test.queries}))
    return Found(lab.name, best_scale, dev_scores, scores, upper, fields[best_tau])


def breakdown(
    test: Scorer, hits: Tensor, method: str, setting: str, groups: Sequence[str]
) -> dict[str, float]:
    """Record the scores of some fields or target words; return those there were queries for."""
    found = {}
    for group in groups:
        keep = [group in (q.field, q.target) for q in test.queries]
        if any(keep):
            value, error, n = test.of(hits, keep)
            words = f"{setting}, n=1, only {group}"
            test.report.add("simat_score", method, value, setting=words, n=n, spread=error)
            found[group] = value
    return found


def claims(report: Report, found: Sequence[Found]) -> None:
    """Say which of the thesis's conclusions hold on every encoder measured."""
    trained = [one for one in found if any(tau != RAW for tau, _ in one.dev)]
    if trained:
        report.claim(
            "adapted heads beat raw embeddings, each at its best lambda",
            all(one.test[one.best_tau, "words"] > one.test[RAW, "words"] for one in trained),
            "; ".join(
                f"{one.name} tau {one.best_tau} {one.test[one.best_tau, 'words']:.3f} against "
                f"{one.test[RAW, 'words']:.3f}"
                for one in trained
            ),
        )
        falling = []
        for one in trained:
            best = [one.best_scale[tau, "words"] for tau, _ in _taus(one)]
            falling.append(best == sorted(best, reverse=True) and best[0] > best[-1])
        report.claim(
            "the best lambda falls as the temperature rises",
            all(falling),
            "; ".join(
                f"{one.name} "
                + ", ".join(f"{tau}: {one.best_scale[tau, 'words']:g}" for tau, _ in _taus(one))
                for one in trained
            ),
        )
        best_pairs = {
            one.name: max((k for k in one.dev if k[0] != RAW), key=lambda k, one=one: one.dev[k])
            for one in trained
        }
        report.claim(
            "temperature 0.1 with lambda 1 is the best pair (dev half)",
            all(pair == PUBLISHED_BEST for pair in best_pairs.values()),
            "; ".join(
                f"{one.name} best ({best_pairs[one.name][0]}, {best_pairs[one.name][1]:g}) "
                f"{one.dev[best_pairs[one.name]]:.3f}, (0.1, 1) {one.dev[PUBLISHED_BEST]:.3f}"
                for one in trained
            ),
        )
        report.claim(
            "a mean over sentences does better than single words, each at its best lambda",
            all(
                one.test[one.best_tau, "sentences"] > one.test[one.best_tau, "words"]
                for one in trained
            ),
            "; ".join(
                f"{one.name} {one.test[one.best_tau, 'sentences']:.3f} against "
                f"{one.test[one.best_tau, 'words']:.3f}"
                for one in trained
            ),
        )
    report.claim(
        "text to image is an upper bound",
        all(one.upper >= max(one.test.values()) for one in found),
        "; ".join(f"{one.name} {one.upper:.3f} over {max(one.test.values()):.3f}" for one in found),
    )
    found = [one for one in found if set(one.by_field) == set(FIELDS)]
    report.claim(
        "relations are harder to change than subjects and objects",
        all(
            one.by_field["rel"] < fmean([one.by_field[f] for f in ("subj", "obj")]) for one in found
        ),
        "; ".join(
            f"{one.name} " + ", ".join(f"{k} {v:.3f}" for k, v in one.by_field.items())
            for one in found
        ),
    )


def _taus(one: Found) -> list[tuple[str, float]]:
    """Return the temperatures in rising order, as text and number."""
    names = {tau for tau, _ in one.dev if tau != RAW}
    return sorted(((tau, float(tau)) for tau in names), key=lambda pair: pair[1])


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Measure every encoder, then the claims."""
    options = parser(__doc__, n=20_000)
    options.add_argument("--clips", nargs="*", help="encoders of the shipped set; all by default")
    options.add_argument("--simat-db", type=Path, help="the published folder, with its pictures")
    options.add_argument("--clip-folder", type=Path, help="open_clip folder for --simat-db")
    options.add_argument("--heads", type=Path, help="published heads for --simat-db")
    args = options.parse_args(argv)
    report = Report("simat", seed=args.seed, path=args.json)
    if args.simat_db is not None:
        from pipelines.benchmarks.simat_published import published_lab

        if args.clip_folder is None:
            raise SystemExit("--simat-db needs --clip-folder: an open_clip folder")
        labs = [published_lab(args.simat_db, args.clip_folder, args.heads)]
    else:
        labs = shipped_labs(args.clips, args.seed)
    claims(report, [measure(report, lab, args.n, args.seed) for lab in labs])


def shipped_labs(names: Sequence[str] | None, seed: int) -> list[Lab]:
    """Return the shipped set as its encoders see it, with the queries of a seed."""
    from pipelines.devices import pick
    from pipelines.packs import find

    folder = find("toybox").component("retrieval").locate()
    return labs_of(RetrievalSet.from_folder(folder, pick()), names, seed)


def labs_of(known: RetrievalSet, names: Sequence[str] | None, seed: int = 0) -> list[Lab]:
    """Return a set as its encoders, or those named, see it."""
    from pipelines.data.spec import WORDS

    queries, holds = build(known.simat.triplets, seed), oracle(known)
    return [
        Lab(
            name,
            queries,
            encoded.images,
            encoded.captions,
            dict(zip(WORDS, encoded.words, strict=True)),
            encoded.heads,
            holds,
        )
        for name, encoded in known.encoded.items()
        if not names or name in names
    ]


if __name__ == "__main__":
    main()
