"""Captions of clay faces, in the manner of Multi-Modal-CelebA-HQ, and reading them back.

Grammar of a full caption: a person with what belongs to the head, wearing what is put on, on a
background. Only what can be seen is said. No word tells left from right or names a gender, and
turn, nod and light have no words.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from pipelines.data.faces.spec import CHOICES, Face, hidden_by

# Continuous attributes that words name: below and above which value, and the two words.
LEVELS: dict[str, tuple[float, str, float, str]] = {
    "age": (0.25, "young", 0.75, "old"),
    "smile": (-0.4, "frowning", 0.4, "smiling"),
    "skin": (0.3, "light", 0.7, "dark"),
    "face_width": (0.25, "narrow", 0.75, "wide"),
    "brow_thickness": (0.25, "thin", 0.75, "thick"),
    "brow_tilt": (-0.5, "worried", 0.5, "angry"),
    "eye_size": (0.25, "small", 0.75, "big"),
    "eye_openness": (0.2, "sleepy", 0.8, "wide"),
    "nose_size": (0.25, "small", 0.75, "big"),
    "mouth_open": (0.01, "closed", 0.5, "open"),
}
# Which noun says an attribute's words as adjectives.
_NOUN_OF = {
    **dict.fromkeys(("age", "smile"), "person"),
    "skin": "skin",
    "face_width": "face",
    **dict.fromkeys(("brow_thickness", "brow_tilt"), "eyebrows"),
    **dict.fromkeys(("eye_size", "eye_openness", "eye_colour"), "eyes"),
    "nose_size": "nose",
    "mouth_open": "mouth",
    "lips": "lips",
    "shirt": "shirt",
    "background": "background",
}
MAIN = ("age", "smile", "mouth_open", *CHOICES)  # what the canonical caption says
_UNSAID = {"lips": "natural", "glasses": "none", "hat": "none", "beard": "none", "earrings": "none"}
_HAIR_NOUNS = {"short": "hair", "long": "hair", "curly": "hair", "bob": "bob", "bun": "bun"}
_HATS = {"cap": "cap", "beanie": "beanie", "brim": "sun hat"}
_BEARDS = {"moustache": "moustache", "goatee": "goatee", "full": "full beard"}
_EARRINGS = {"hoops": "hoop", "pearls": "pearl"}
ANY_HAT = "any"  # what "a hat" says
_PLURALS = ("hair", "skin", "eyebrows", "eyes", "lips", "glasses", "sunglasses", "earrings")
_OPENINGS = ("a picture of", "a portrait of", "we see", "this is")


def facts(face: Face) -> dict[str, str]:
    """Return what words can truly say of a face: attribute -> value or word of LEVELS."""
    said: dict[str, str] = {}
    for name, (low, below, high, above) in LEVELS.items():
        value = getattr(face, name)
        if hidden_by(face, name) is None and not low < value < high:
            said[name] = below if value <= low else above
    for name in CHOICES:
        value = getattr(face, name)
        if hidden_by(face, name) is None and value != _UNSAID.get(name):
            said[name] = value
    return said


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _phrase(said: dict[str, str], names: Collection[str], noun: str) -> str | None:
    """Return a noun with the adjectives that the facts give it, or None without any."""
    words = " ".join(said[name] for name in names if name in said)
    if not words:
        return None
    return f"{words} {noun}" if noun in _PLURALS else _with_article(f"{words} {noun}")


def _hair(said: dict[str, str]) -> str | None:
    style, colour = said.get("hair"), said.get("hair_colour")
    if style in (None, "none"):
        return f"{colour} hair" if colour else None
    noun = _HAIR_NOUNS[style]
    if noun != "hair":
        return _with_article(" ".join(word for word in (colour, noun) if word))
    return " ".join(word for word in (style, colour, noun) if word)


def _glasses(said: dict[str, str]) -> str | None:
    kind, colour = said.get("glasses"), said.get("glasses_colour")
    if kind is None:
        return f"{colour} glasses" if colour else None
    words = (colour, "sunglasses") if kind == "sunglasses" else (kind, colour, "glasses")
    return " ".join(word for word in words if word)


def _hat(said: dict[str, str], *, vague: bool) -> str | None:
    kind, colour = said.get("hat"), said.get("hat_colour")
    if kind is None and colour is None:
        return None
    noun = "hat" if vague or kind is None else _HATS[kind]
    return _with_article(" ".join(word for word in (colour, noun) if word))


def _join(phrases: list[str | None]) -> str:
    kept = [phrase for phrase in phrases if phrase]
    return " and ".join(part for part in (", ".join(kept[:-1]), kept[-1] if kept else "") if part)


def describe(said: dict[str, str], *, vague: bool = False) -> str:
    """Return a sentence that says these facts; `vague` calls every hat a hat."""
    bald = {"hair": "bald"} if said.get("hair") == "none" else {}
    names = [said.get("smile"), said.get("age"), bald.get("hair")]
    subject = _with_article(" ".join([*(word for word in names if word), "person"]))
    beard = said.get("beard")
    features = [
        _hair(said),
        _with_article(_BEARDS[beard]) if beard else None,
        _phrase(said, ("skin",), "skin"),
        _phrase(said, ("face_width",), "face"),
        _phrase(said, ("brow_thickness", "brow_tilt"), "eyebrows"),
        _phrase(said, ("eye_size", "eye_openness", "eye_colour"), "eyes"),
        _phrase(said, ("nose_size",), "nose"),
        _phrase(said, ("lips",), "lips"),
        _phrase(said, ("mouth_open",), "mouth"),
    ]
    earrings = said.get("earrings")
    worn = [
        _glasses(said),
        _hat(said, vague=vague),
        f"{_EARRINGS[earrings]} earrings" if earrings else None,
        _phrase(said, ("shirt",), "shirt"),
    ]
    parts = [subject]
    if any(features):
        parts.append(f"with {_join(features)}")
    if any(worn):
        parts.append(f"wearing {_join(worn)}")
    if "background" in said:
        parts.append(f"on a {said['background']} background")
    return " ".join(parts)


def caption(face: Face, seed: int | None = None) -> str:
    """Return the canonical caption, which says MAIN, or the varied wording of a seed.

    Varied wordings say two to six facts of all, four in ten of them after an opening.
    """
    said = facts(face)
    if seed is None:
        return describe({name: said[name] for name in MAIN if name in said})
    # the face takes part: wording `seed` must not be the same manner of speech for every face
    rng = np.random.default_rng((seed, face.seed))
    names = sorted(said)
    count = min(int(rng.integers(2, 7)), len(names))
    chosen = [names[i] for i in rng.choice(len(names), count, replace=False)]
    text = describe({name: said[name] for name in chosen}, vague=bool(rng.random() < 0.3))
    return f"{rng.choice(_OPENINGS)} {text}" if rng.random() < 0.4 else text


# ---------------------------------------------------------------- reading

Meaning = tuple[str, str]  # attribute and value


def _nouns() -> dict[str, dict[str, Meaning]]:
    """Return for every noun what its adjectives mean; "" is the noun alone."""
    nouns: dict[str, dict[str, Meaning]] = {noun: {} for noun in _NOUN_OF.values()}
    for name, (_, below, _, above) in LEVELS.items():
        nouns[_NOUN_OF[name]] |= {word: (name, word) for word in (below, above)}
    for name in ("eye_colour", "lips", "shirt", "background"):
        said = [value for value in CHOICES[name] if value != _UNSAID.get(name)]
        nouns[_NOUN_OF[name]] |= {value: (name, value) for value in said}
    nouns["person"]["bald"] = ("hair", "none")
    colours = {value: ("hair_colour", value) for value in CHOICES["hair_colour"]}
    styles = {style: ("hair", style) for style, noun in _HAIR_NOUNS.items() if noun == "hair"}
    nouns["hair"] = {**colours, **styles}
    nouns |= {style: {"": ("hair", style), **colours} for style in ("bob", "bun")}
    nouns |= {kind: {"": ("beard", kind)} for kind in ("moustache", "goatee")}
    nouns["beard"] = {"": ("beard", "full"), "full": ("beard", "full")}
    frames = {value: ("glasses_colour", value) for value in CHOICES["glasses_colour"]}
    nouns["glasses"] = {**frames, **{kind: ("glasses", kind) for kind in ("round", "square")}}
    nouns["sunglasses"] = {"": ("glasses", "sunglasses"), **frames}
    hats = {value: ("hat_colour", value) for value in CHOICES["hat_colour"]}
    nouns |= {kind: {"": ("hat", kind), **hats} for kind in ("cap", "beanie")}
    nouns["hat"] = {"": ("hat", ANY_HAT), **hats, "sun": ("hat", "brim")}
    nouns["earrings"] = {word: ("earrings", kind) for kind, word in _EARRINGS.items()}
    return nouns


NOUNS = _nouns()
_ADJECTIVES = {word for meanings in NOUNS.values() for word in meanings if word}
_SMALL = ("a", "an", "and", "on", "with", "wearing")
VOCABULARY = tuple(
    sorted({*NOUNS, *_ADJECTIVES, *_SMALL, *(word for text in _OPENINGS for word in text.split())})
)


@dataclass(frozen=True)
class FaceReading:
    """What a text says: facts as `facts` returns them ("a hat" is ANY_HAT), and other words."""

    facts: dict[str, str]
    unknown: tuple[str, ...]


def parse(text: str) -> FaceReading:
    """Read a text as well as possible; words outside the vocabulary are listed, not guessed."""
    said: dict[str, str] = {}
    pending: list[str] = []
    unknown: list[str] = []
    for word in text.lower().replace(",", " ").replace(".", " ").split():
        if word in NOUNS:
            meanings = NOUNS[word]
            for known in ("", *pending):
                if known in meanings:
                    name, value = meanings[known]
                    said[name] = value
            pending = []
        elif word in _ADJECTIVES:
            pending.append(word)
        elif word not in VOCABULARY:
            unknown.append(word)
    return FaceReading(said, tuple(unknown))
