"""python -m pipelines.benchmarks NAME [--n N] [--seed S] [--json FILE]: run one protocol."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "activations": "how many numbers networks of published sizes hold at once",
    "clip": "do the CLIPs find the caption of a picture and the picture of a caption",
    "clip2gan": "CLIP2GAN's claims on clay faces: generation, editing, ablations",
    "diffedit": "DiffEdit's claims on toy queries with a known true edit",
    "face_parser": "mean IoU of the face parser on held-out renders",
    "face_judges": "does the judge of clay faces read every attribute, and who is who",
    "faithfulness": "does the scene model paint what the caption says, and is the judge right",
    "flexit": "FlexIT's claims on cluster queries, its ablations and its cost",
    "page": "seconds until the app answers, its memory idle and after an edit",
    "latency": "our DiffEdit against diffusers' in one run",
    "lelsd": "do directions of faces change their part and nothing else",
    "masks": "choose the settings of the refined mask recipe",
    "perceptual": "does the perceptual distance know which of two pictures is nearer",
    "photo": "seconds and memory of every method at the sizes of published models",
    "renderer": "images a second on one core",
    "retrieval": "recall and speed of the compressed index, and of the slider of Retrieval",
    "segmenter": "mean IoU of the segmentation network on held-out renders",
    "simat": "SIMAT's claims on the toy retrieval set",
    "sliders": "do Face sliders answer in time, and how long a direction trains",
    "zestguide": "do layout methods paint what was painted",
    "tables": "write the tables of README and the cards from assets/results",
    "solvers": "error of the fast solver against 1000 DDIM steps, both directions",
}


def main(argv: list[str]) -> None:
    """Run the benchmark named first in `argv` with the rest as its options."""
    if not argv or argv[0] not in BENCHMARKS:
        lines = [__doc__ or "", *(f"  {name:14}{text}" for name, text in BENCHMARKS.items())]
        raise SystemExit("\n".join(lines))
    import_module(f"pipelines.benchmarks.{argv[0]}").main(argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
