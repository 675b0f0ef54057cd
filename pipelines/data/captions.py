"""Captions of toy scenes, in a vocabulary of fewer than eighty words, and reading them back.

Grammar of a full caption: things joined by a relation or "and", then the place. A thing is article,
colour, pattern, class. No word tells left from right, so a mirrored picture keeps its caption.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.data.spec import CLASSES, COLOURS, PATTERNS, PLACES, RELATIONS, Scene, Thing

_TOKEN = re.compile(r"[^\W_]+|,")
_OPENINGS = ("there is", "a picture of", "we see", "look at")
# Other ways to say a relation; the first is the canonical one.
WORDINGS: dict[str, tuple[str, ...]] = {
    "beside": ("beside", "next to", "by"),
    "in front of": ("in front of", "before"),
    "on": ("on", "on top of"),
    "under": ("under", "below"),
}
_EXTRA = ("a", "an", "and", "toy", ",")


def _vocabulary() -> tuple[str, ...]:
    phrases = (*_OPENINGS, *PLACES, *(w for ways in WORDINGS.values() for w in ways))
    words = {word for phrase in phrases for word in phrase.split()}
    return tuple(sorted(words | {*CLASSES, *COLOURS, *PATTERNS[1:], *_EXTRA}))


VOCABULARY = _vocabulary()


@dataclass(frozen=True)
class Phrase:
    """A thing as words name it; None where they say nothing."""

    class_name: str
    colour: str | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Reading:
    """What a text says: `relation` (canonical name) holds from things[subject] to the next."""

    place: str | None
    things: tuple[Phrase, ...]
    relation: str | None
    subject: int | None
    unknown: tuple[str, ...]


def with_article(words: str) -> str:
    """Return the words after "a" or "an"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def describe(thing: Thing, *, colour: bool = True, pattern: bool = True, toy: bool = False) -> str:
    """Return "a red striped horse", leaving out what the switches turn off."""
    words = [
        thing.colour if colour and thing.colour else "",
        thing.pattern if pattern and thing.pattern != "plain" else "",
        "toy" if toy else "",
        thing.class_name,
    ]
    return with_article(" ".join(word for word in words if word))


def _join(phrases: Sequence[str], linking: str | None) -> str:
    """Join a pair by its relation and the rest by commas and "and"."""
    if linking is not None:
        phrases = [f"{phrases[0]} {linking} {phrases[1]}", *phrases[2:]]
    if len(phrases) == 1:
        return phrases[0]
    return f"{' , '.join(phrases[:-1])} and {phrases[-1]}".replace(" ,", ",")


def caption(scene: Scene, seed: int | None = None) -> str:
    """Return the canonical full caption, or the varied wording of a seed.

    About six in ten varied wordings are canonical; the others say less, use other words, or
    another order where that keeps the meaning.
    """
    if seed is None:
        things = _join([describe(thing) for thing in scene.things], scene.relation)
        return f"{things} {scene.place}"
    # the scene takes part: wording `seed` must not be the same manner of speech in every scene
    rng = np.random.default_rng((seed, *(thing.seed for thing in scene.things)))
    if rng.random() < 0.6:
        return caption(scene)
    phrases = [
        describe(
            thing,
            colour=rng.random() >= 0.2,
            pattern=rng.random() >= 0.2,
            toy=rng.random() < 0.12,
        )
        for thing in scene.things
    ]
    linking = scene.relation
    if linking is not None:
        linking = str(rng.choice(WORDINGS[linking]))
    if scene.relation in (None, "beside"):  # both ways round are true
        head = 2 if scene.relation else len(phrases)
        phrases = [phrases[i] for i in rng.permutation(head)] + phrases[head:]
    text = _join(phrases, linking)
    if rng.random() < 0.25:
        text = f"{rng.choice(_OPENINGS)} {text}"
    where = rng.random()
    if where < 0.25:
        return text
    return f"{scene.place}, {text}" if where < 0.45 else f"{text} {scene.place}"


# ---------------------------------------------------------------- reading

_PHRASES: list[tuple[tuple[str, ...], str, str]] = sorted(
    [(tuple(place.split()), "place", place) for place in PLACES]
    + [(tuple(way.split()), "relation", name) for name in RELATIONS for way in WORDINGS[name]],
    key=lambda entry: -len(entry[0]),
)


def tokens(text: str) -> list[str]:
    """Return the words and commas of a text in lower case, without other punctuation."""
    return _TOKEN.findall(text.lower())


def _is_colour(words: Sequence[str], i: int) -> bool:
    """Whether words[i] colours a class named after it: "orange" is also a fruit."""
    after = [word for word in words[i + 1 : i + 4] if word not in (*PATTERNS, "toy")]
    return words[i] in COLOURS and (words[i] != "orange" or after[:1] != [] and after[0] in CLASSES)


def parse(text: str) -> Reading:
    """Read a text as well as possible; words outside the vocabulary are listed, not guessed."""
    words = tokens(text)
    place: str | None = None
    relation: str | None = None
    subject: int | None = None
    things: list[Phrase] = []
    colour: str | None = None
    pattern: str | None = None
    unknown: list[str] = []
    i = 0
    while i < len(words):
        match = next((p for p in _PHRASES if tuple(words[i : i + len(p[0])]) == p[0]), None)
        word = words[i]
        if match is not None:
            if match[1] == "place":
                place = match[2]
            elif things and relation is None:
                relation, subject = match[2], len(things) - 1
            i += len(match[0])
            continue
        if _is_colour(words, i):
            colour = word
        elif word in CLASSES:
            things.append(Phrase(word, colour, pattern))
            colour = pattern = None
        elif word in PATTERNS:
            pattern = word
        elif word not in VOCABULARY:
            unknown.append(word)
        i += 1
    if subject is not None and subject + 1 >= len(things):
        relation = subject = None
    return Reading(place, tuple(things), relation, subject, tuple(unknown))
