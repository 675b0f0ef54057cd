"""Texts one word away from a text: the neighbourhood in which a source text is looked for."""

from __future__ import annotations

from pipelines.data.captions import tokens
from pipelines.data.spec import CLASSES, COLOURS, NATURAL_ONLY, PATTERNS, PLACES

_ADJECTIVES = (*COLOURS, *PATTERNS[1:])


def rewordings(text: str) -> list[str]:
    """Return every text that names one class, colour, pattern or place of `text` differently.

    Colours and patterns may also be added or left out. Articles are kept right; the order is
    that of the text, and `text` itself is not among them.
    """
    words = tokens(text)
    found: list[list[str]] = []
    for i in range(len(words)):
        found += [words[:i] + place.split() + words[end:] for place, end in _other_places(words, i)]
        noun = _noun_after(words, i)
        if words[i] in CLASSES and noun is None:
            found += _other_things(words, i)
    joined = (_tidy(candidate) for candidate in found)
    return list(dict.fromkeys(candidate for candidate in joined if candidate != _tidy(words)))


def contradictions(text: str) -> list[str]:
    """Return the rewordings of `text` that are not true where it is: those that replace a word.

    A text that only says less, or more, may be true as well.
    """
    length = len(tokens(text))
    return [other for other in rewordings(text) if len(tokens(other)) == length]


def _other_places(words: list[str], i: int) -> list[tuple[str, int]]:
    here = [p for p in PLACES if tuple(words[i : i + len(p.split())]) == tuple(p.split())]
    if not here:
        return []
    return [(place, i + len(here[0].split())) for place in PLACES if place != here[0]]


def _noun_after(words: list[str], i: int) -> str | None:
    """Return the class that words[i] describes, None where it is a noun itself."""
    if words[i] not in _ADJECTIVES:
        return None
    after = [word for word in words[i + 1 : i + 4] if word not in (*PATTERNS, "toy")]
    return after[0] if after and after[0] in CLASSES else None


def _other_things(words: list[str], i: int) -> list[list[str]]:
    """Return the rewordings of the thing whose noun is words[i]."""
    first = i
    while first > 0 and words[first - 1] in _ADJECTIVES:
        first -= 1
    adjectives = words[first:i]
    colour = next((word for word in adjectives if word in COLOURS), "")
    pattern = next((word for word in adjectives if word in PATTERNS), "")
    things = [(colour, pattern, name) for name in CLASSES]
    if words[i] not in NATURAL_ONLY:
        things += [(other, pattern, words[i]) for other in ("", *COLOURS)]
        things += [(colour, other, words[i]) for other in ("", *PATTERNS[1:])]
    things = [("", "", n) if n in NATURAL_ONLY else (c, p, n) for c, p, n in things]
    return [[*words[:first], *(w for w in thing if w), *words[i + 1 :]] for thing in things]


def _tidy(words: list[str]) -> str:
    """Join words with the right articles and no space before a comma."""
    fixed = [
        ("an" if after[0] in "aeiou" else "a") if word in ("a", "an") else word
        for word, after in zip(words, [*words[1:], "x"], strict=True)
    ]
    return " ".join(fixed).replace(" ,", ",")
