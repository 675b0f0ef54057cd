"""Whether the judge sees in a clay face what a text says, and what it says of all the rest."""

from __future__ import annotations

from pipelines.data.faces import CHOICES, RANGES, Face, hidden_by
from pipelines.data.faces.captions import ANY_HAT, LEVELS
from pipelines.models.face_judge import FaceVerdict

TOLERANCE = 0.1  # of an attribute's range: what the judge's own error may cost


def value_of(verdict: FaceVerdict, i: int, name: str) -> str:
    """Return the value of a discrete attribute that picture i most likely has."""
    return list(CHOICES[name])[int(verdict.choices[name][i].argmax())]


def fraction_of(verdict: FaceVerdict, i: int, name: str) -> float:
    """Return a continuous attribute of picture i as a fraction of its range."""
    low, high = RANGES[name]
    return (float(verdict.numbers[name][i]) - low) / (high - low)


def shows(verdict: FaceVerdict, i: int, name: str, value: str) -> bool:
    """Return whether picture i shows a fact, named as `data.faces.captions.facts` does.

    Words of continuous attributes hold from their threshold on, less TOLERANCE.
    """
    if name in CHOICES:
        seen = value_of(verdict, i, name)
        return seen != "none" if value == ANY_HAT else seen == value
    low, below, high, _ = LEVELS[name]
    number = float(verdict.numbers[name][i])
    slack = TOLERANCE * (RANGES[name][1] - RANGES[name][0])
    return number <= low + slack if value == below else number >= high - slack


def facts_right(verdict: FaceVerdict, i: int, said: dict[str, str]) -> float:
    """Return which part of the facts picture i shows, in [0, 1].

    Raises:
        ValueError: nothing is said.
    """
    if not said:
        raise ValueError("a text without facts can be neither right nor wrong")
    return sum(shows(verdict, i, *fact) for fact in said.items()) / len(said)


def degree(verdict: FaceVerdict, i: int, name: str, value: str) -> float:
    """Return how much of a fact picture i shows, in about [0, 1].

    The probability of a choice; of a continuous attribute, the fraction of the way to its end.
    """
    if name in CHOICES:
        odds = verdict.choices[name][i].softmax(0)
        values = list(CHOICES[name])
        told = odds[values.index("none" if value == ANY_HAT else value)].item()
        return 1 - told if value == ANY_HAT else told
    fraction = fraction_of(verdict, i, name)
    return 1 - fraction if value == LEVELS[name][1] else fraction


def others_kept(
    before: FaceVerdict, after: FaceVerdict, i: int, *, source: Face, edited: str
) -> float:
    """Return which part of what can be seen of a face, but for one attribute, is as it was.

    Continuous attributes may differ by TOLERANCE. `source` says what could not be seen before.
    """
    names = [n for n in (*RANGES, *CHOICES) if n != edited and hidden_by(source, n) is None]

    def is_kept(name: str) -> bool:
        if name in CHOICES:
            return value_of(before, i, name) == value_of(after, i, name)
        return abs(fraction_of(before, i, name) - fraction_of(after, i, name)) <= TOLERANCE

    return sum(map(is_kept, names)) / len(names)
