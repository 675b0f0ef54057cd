"""Texts that contradict a text about a face in one fact, in the same manner of speech."""

from __future__ import annotations

from pipelines.data.faces.captions import ANY_HAT, LEVELS, NOUNS, describe, parse


def contradictions(text: str) -> list[str]:
    """Return every text that says another value of one fact of `text`; the rest is as it was.

    What stands before the description ("we see") stays. Any hat contradicts none, so "a hat" has
    no contradiction but in its colour; neither has a text that says nothing.
    """
    said = parse(text).facts
    vague = said.get("hat") == ANY_HAT
    opening, found, _ = text.partition(describe(said, vague=vague))
    if not found:
        raise ValueError(f"no caption of a face: {text!r}")
    return [
        opening + describe({**said, name: other}, vague=vague)
        for name, value in said.items()
        for other in _others(name, value)
    ]


def _others(name: str, value: str) -> list[str]:
    """Return the other values that words can name."""
    if value == ANY_HAT:
        return []
    if name in LEVELS:
        _, below, _, above = LEVELS[name]
        return [above if value == below else below]
    named = {v for meanings in NOUNS.values() for n, v in meanings.values() if n == name}
    return sorted(named - {value, ANY_HAT})
