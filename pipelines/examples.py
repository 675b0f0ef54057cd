"""The pictures one can start from: examples on disk, and a new toy scene for every seed.

    python -m pipelines.examples        writes assets/examples again, the same bytes each time

Examples lie on disk so that the first click waits for no compiler.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.data.captions import caption
from pipelines.data.spec import Scene

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "examples"
SIZE_PX = 128


@dataclass(frozen=True, eq=False)
class Toy:
    """A toy picture with its truth.

    Attributes:
        image: RGB.
        scene: what was rendered.
        labels: uint8 (H, W): 0 = background, i = scene.things[i - 1].
    """

    image: Image.Image
    scene: Scene
    labels: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Example:
    """One click: a toy picture, what it shows and what it should show."""

    name: str
    title: str
    toy: Toy
    source_text: str
    target_text: str


@dataclass(frozen=True)
class _Plan:
    """What an example shows: a seed's layout with other toys in it."""

    name: str
    title: str
    seed: int
    place: str
    things: tuple[tuple[str, str | None, str], ...]  # class, colour, pattern
    change: tuple[str, str]  # words of the caption, and what replaces them
    relation: str | None = None


_PLANS = (
    _Plan(
        "horse-to-zebra", "horse → zebra", 5, "on the grass", (("horse", None, "plain"),),
        ("a horse", "a zebra"),
    ),
    _Plan(
        "cat-to-dog", "cat → dog", 8, "on the grass", (("cat", None, "plain"),),
        ("cat", "dog"),
    ),
    _Plan(
        "red-to-blue-car", "red → blue car", 2, "on the street", (("car", "red", "plain"),),
        ("red", "blue"),
    ),
    _Plan(
        "orange-to-lemon", "orange → lemon", 2, "on the beach", (("orange", None, "plain"),),
        ("an orange", "a lemon"),
    ),
    _Plan(
        "beach-to-snow", "beach → snow", 4, "on the beach", (("bear", None, "plain"),),
        ("on the beach", "in the snow"),
    ),
    _Plan(
        "cow-to-sheep", "cow → sheep by a tree", 10, "on the grass",
        (("cow", None, "plain"), ("tree", "green", "plain")),
        ("a cow", "a sheep"), "beside",
    ),
    _Plan(
        "train-to-bus", "train → bus on the moon", 3, "on the moon", (("train", "green", "plain"),),
        ("train", "bus"),
    ),
    _Plan(
        "yellow-to-red-tent", "yellow → red tent", 8, "in the desert",
        (("tent", "yellow", "plain"), ("cactus", "green", "plain")),
        ("yellow", "red"), "beside",
    ),
)  # fmt: skip


def new_toy(seed: int) -> Toy:
    """Return the toy scene of a seed; the first call in a fresh clone waits for the compiler."""
    from pipelines.data.scenes import sample_scene

    return _rendered(sample_scene(seed))


@lru_cache(maxsize=1)
def examples(folder: Path = FOLDER) -> tuple[Example, ...]:
    """Return the examples in the order shown, read from disk."""
    entries = json.loads((folder / "examples.json").read_text())
    return tuple(
        Example(
            name=entry["name"],
            title=entry["title"],
            toy=Toy(
                _read(folder / f"{entry['name']}.png", "RGB"),
                Scene.from_dict(entry["scene"]),
                np.asarray(_read(folder / f"{entry['name']}.labels.png", "L")),
            ),
            source_text=entry["source_text"],
            target_text=entry["target_text"],
        )
        for entry in entries
    )


def write(folder: Path = FOLDER, plans: Sequence[_Plan] = _PLANS) -> None:
    """Render the examples into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for plan in plans:
        toy = _rendered(_scene(plan))
        toy.image.save(folder / f"{plan.name}.png", optimize=True)
        Image.fromarray(toy.labels).save(folder / f"{plan.name}.labels.png", optimize=True)
        source_text = caption(toy.scene)
        target_text = source_text.replace(*plan.change, 1)
        if source_text == target_text:
            raise ValueError(f"{plan.name}: {plan.change[0]!r} is not in {source_text!r}")
        entries.append(
            {
                "name": plan.name,
                "title": plan.title,
                "source_text": source_text,
                "target_text": target_text,
                "scene": toy.scene.to_dict(),
            }
        )
    (folder / "examples.json").write_text(json.dumps(entries, indent=1) + "\n")


def _scene(plan: _Plan) -> Scene:
    from pipelines.data.scenes import sample_scene

    scene = sample_scene(
        plan.seed, count=len(plan.things), relation=plan.relation, place=plan.place
    )
    things = tuple(
        replace(thing, class_name=name, colour=colour, pattern=pattern)
        for thing, (name, colour, pattern) in zip(scene.things, plan.things, strict=True)
    )
    return replace(scene, things=things)


def _rendered(scene: Scene) -> Toy:
    from pipelines.data.scenes import render

    drawn = render(scene, SIZE_PX)
    return Toy(Image.fromarray(drawn.image), scene, drawn.labels)


def _read(path: Path, mode: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert(mode)


if __name__ == "__main__":
    write()
