"""What the toy world's own truth says about a visitor's edit, from the words of the two texts."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.data.captions import Phrase, caption, parse
from pipelines.data.spec import CLUSTERS, COLOURS, PATTERNS, PLACES, RELATIONS, Scene
from pipelines.images import CENTRE, Window

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.models.judge import SceneJudge

CLOSE = 0.75  # similarity of a word to one that is suggested for it: "bleu" to "blue"
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Verdict:
    """Whether an edit succeeded (None = cannot be judged), and the reason in a few words."""

    success: bool | None
    reason: str


def unknown_words(texts: Collection[str], known: Collection[str] | None) -> dict[str, str]:
    """Return {word: closest known word or ""} for words of the texts outside a vocabulary.

    `known` None knows every word.
    """
    if known is None:
        return {}
    words = dict.fromkeys(word for text in texts for word in _WORD.findall(text.lower()))
    strange = [word for word in words if word not in known]
    return {
        word: next(iter(difflib.get_close_matches(word, sorted(known), n=1, cutoff=CLOSE)), "")
        for word in strange
    }


def _named(phrase: Phrase) -> str:
    return f"{phrase.colour} {phrase.class_name}" if phrase.colour else phrase.class_name


def word_groups() -> dict[str, tuple[str, ...]]:
    """Return the toy world's words in the groups a visitor thinks in."""
    return {
        **CLUSTERS,
        "colours": COLOURS,
        "patterns": tuple(name for name in PATTERNS if name != "plain"),
        "places": PLACES,
        "relations": (*RELATIONS, "and"),
    }


def true_mask(
    scene: Scene, labels: npt.NDArray[np.uint8], source_text: str, target_text: str
) -> npt.NDArray[np.float32] | None:
    """Return where the scene holds what the texts disagree about, (H, W), 1 = edit.

    The things that the source names and the target does not name alike, and the background where
    the places differ. An empty source text stands for the scene's full caption. None where the
    disagreement is about nothing that the scene has.
    """
    before, after = parse(source_text.strip() or caption(scene)), parse(target_text)
    mask = np.zeros(labels.shape, bool)
    for phrase in (Counter(before.things) - Counter(after.things)).elements():
        for index, thing in enumerate(scene.things, 1):
            named = phrase.class_name == thing.class_name
            if named and phrase.colour in (None, thing.colour):
                mask |= labels == index
    if after.place and (before.place or scene.place) != after.place:
        mask |= labels == 0
    return mask.astype(np.float32) if mask.any() else None


def overlap(mask: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    """Return the intersection over union of two masks (H, W); 1 where both are empty."""
    inside, true = mask > 0.5, truth > 0.5
    union = (inside | true).sum()
    return float((inside & true).sum() / union) if union else 1.0


def judged(
    judge: SceneJudge,
    image: Image.Image,
    source_text: str,
    target_text: str,
    window: Window = CENTRE,
) -> Verdict:
    """Return whether the judge sees in a square of a picture what the target text changes.

    What changes must be there as named, classes that only the source names must be gone, and a
    new place must be seen; texts that ask for the same are judged on all that the target names.
    """
    import torch

    from pipelines import images as pictures
    from pipelines.metrics.scene_accuracy import place, seen

    before, after = parse(source_text), parse(target_text)
    if after.unknown:
        return Verdict(None, f"the judge does not know “{after.unknown[0]}”")
    if not after.things and after.place is None:
        return Verdict(None, "the target names nothing that the judge knows")
    wanted: list[Phrase] = list((Counter(after.things) - Counter(before.things)).elements())
    gone = {p.class_name for p in before.things} - {p.class_name for p in after.things}
    moved = after.place is not None and after.place != before.place
    if not wanted and not gone and not moved:
        wanted, moved = list(after.things), after.place is not None
    square, _ = pictures.fit(image, 128, window)
    with torch.no_grad():
        verdict = judge(pictures.to_tensor([square], 128).to(next(judge.parameters()).device))
    for phrase in wanted:
        if not seen(judge, verdict, 0, phrase.class_name, phrase.colour):
            return Verdict(False, f"the judge sees no {_named(phrase)}")
    for name in sorted(gone):
        if seen(judge, verdict, 0, name, None):
            return Verdict(False, f"the judge still sees a {name}")
    if moved and place(judge, verdict, 0) != after.place:
        return Verdict(False, f"the judge sees a scene {place(judge, verdict, 0)}")
    return Verdict(True, "the judge sees what the target asks for")
