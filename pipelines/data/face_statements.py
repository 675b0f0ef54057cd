"""Every sentence that says one thing of a clay face, and whether it is true of a face."""

from __future__ import annotations

from pipelines.data.faces import Face, hidden_by
from pipelines.data.faces.captions import ANY_HAT, LEVELS, NOUNS, describe, facts

FACTS: tuple[tuple[str, str], ...] = tuple(
    sorted(
        {fact for meanings in NOUNS.values() for fact in meanings.values() if fact[1] != ANY_HAT}
    )
)
"""Attribute and value of each: all that words can say."""
STATEMENTS = tuple(describe({name: value}) for name, value in FACTS)
TRUE, FALSE, UNSAID = 1, 0, -1


def truth(face: Face) -> list[int]:
    """Return TRUE or FALSE for each of STATEMENTS, or UNSAID where no caption would tell.

    That is where something hides the attribute, or its amount lies between two words. What is not
    worn has no colour: a red hat is FALSE where there is no hat.
    """
    said = facts(face)

    def judged(name: str, value: str) -> int:
        if name in said:
            return TRUE if said[name] == value else FALSE
        hider = hidden_by(face, name)
        is_open = name not in LEVELS if hider is None else name == f"{hider}_colour"
        return FALSE if is_open and name != "hair_colour" else UNSAID

    return [judged(*fact) for fact in FACTS]
