"""Measure how near the inversion encoder brings clay faces: what an upload is compared with.

    python -m pipelines.training.inversion_likeness --n 500

LPIPS between held-out renders and what the generator makes of their codes. Writes likeness.json
beside the encoder: the value that `quantile` of n faces keep to. An uploaded picture beyond it is
called no clay face (`face_sources.likeness`). A minute or two on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.benchmarks.face_judges import held_out_faces, rendered
from pipelines.devices import Device
from pipelines.models.inversion import InversionEncoder
from pipelines.models.perceptual import Perceptual
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.training.common import TOYBOX, write_json

QUANTILE = 0.99
FIRST = 4_000_000  # of the held-out faces, where no benchmark looks


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> Path:
    """Measure; return the file."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--n", type=int, default=500)
    options.add_argument("--folder", type=Path, default=TOYBOX, help="where the networks are")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = options.parse_args(argv)
    device = Device(args.device, torch.device(args.device), torch.float32)
    generator = StyleGAN2.from_folder(args.folder / "face_stylegan2", device)
    encoder = InversionEncoder.from_folder(args.folder / "face_inversion", device)
    perceptual = Perceptual.from_folder(args.folder / "lpips_eval", device)
    found = []
    for faces in held_out_faces(FIRST, args.n):
        images = rendered(faces).to(device.torch_device)
        found.append(perceptual.distance(images, generator.synthesis(encoder(images))))
    distances = torch.cat(found).double()
    file = args.folder / "face_inversion" / "likeness.json"
    about = {"n": args.n, "quantile": QUANTILE, "lpips_eval": perceptual.fingerprint}
    values = {"lpips": distances.quantile(QUANTILE).item(), "median": distances.median().item()}
    write_json(file, {**about, **values})
    print(f"{args.n} faces: median {values['median']:.3f}, {QUANTILE:.0%} {values['lpips']:.3f}")
    return file


if __name__ == "__main__":
    main()
