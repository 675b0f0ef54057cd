"""What a method hands back, and what it says on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image


@dataclass(frozen=True)
class Step:
    """One network evaluation done, told to `on_step`, which may raise `errors.Cancelled`.

    Attributes:
        stage: what is being done, in words a visitor reads ("mask", "encoding", "decoding").
        index: steps of this stage done, 1 <= index <= total.
        total: steps of this stage.
        preview: draws the picture so far, or None where there is nothing to see. It costs a
            decoder pass, so call it only when the picture will be shown.
        segmentation: (K, h, w) in [0, 1], where a guided method sees each painted segment now.
        score: how well something that is being learnt does so far, in [0, 1].
    """

    stage: str
    index: int
    total: int
    preview: Callable[[], Image.Image] | None = None
    segmentation: npt.NDArray[np.float32] | None = None
    score: float | None = None


OnStep = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class EditResult:
    """One edited picture with everything that is shown beside it.

    Attributes:
        image: RGB, the size of the input.
        seed: the seed that gives this picture again.
        source_text: the description of the input that was used (inferred where it was empty).
        target_text: the description of the wanted picture.
        network_evaluations: UNet evaluations, counted by sample: a batch of 2 counts 2.
        seconds: wall time of the method, model loading not included.
        mask: float32 (H, W) in [0, 1] at the size of the input, 1 = edited; None without one.
        reconstruction: the input after encoding and decoding alone, the size of the input.
        snapshots: {step: picture of the model's size} of methods that show their way.
        diagnostics: further numbers, lists and strings that JSON can hold; "curves" is
            {name: one list of values for each picture}.
    """

    image: Image.Image
    seed: int
    source_text: str
    target_text: str
    network_evaluations: int
    seconds: float
    mask: npt.NDArray[np.float32] | None = None
    reconstruction: Image.Image | None = None
    snapshots: Mapping[int, Image.Image] = field(default_factory=dict)
    diagnostics: Mapping[str, object] = field(default_factory=dict)
