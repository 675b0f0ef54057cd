"""Whether the judge sees in a picture what a caption or an edit asks for."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.data.captions import parse
from pipelines.data.queries import EditQuery
from pipelines.models.judge import SceneJudge, Verdict


def seen(judge: SceneJudge, verdict: Verdict, i: int, name: str, colour: str | None) -> bool:
    """Return whether picture i shows a thing called `name`, in `colour` where one is named."""
    k = judge.classes.index(name)
    if verdict.presence[i, k] <= 0:
        return False
    return colour is None or colour == named_colour(judge, verdict, i, name)


def named_colour(judge: SceneJudge, verdict: Verdict, i: int, name: str) -> str:
    """Return the colour, of those with a name, that class `name` has most likely in picture i."""
    logits = verdict.colour[i, judge.classes.index(name), : len(judge.colours)]
    return judge.colours[int(logits.argmax())]


def place(judge: SceneJudge, verdict: Verdict, i: int) -> str:
    """Return the place that picture i shows."""
    return judge.places[int(verdict.place[i].argmax())]


def things_right(judge: SceneJudge, verdict: Verdict, captions: Sequence[str]) -> list[list[bool]]:
    """Return, for each picture and each thing its caption names, whether it is there as named."""
    return [
        [seen(judge, verdict, i, thing.class_name, thing.colour) for thing in parse(caption).things]
        for i, caption in enumerate(captions)
    ]


def edit_succeeded(judge: SceneJudge, verdict: Verdict, i: int, query: EditQuery) -> bool:
    """Return whether picture i shows the edit.

    The changed thing is seen as the target names it, the source's class is gone where the class
    changed (unless another thing has it), and the place is the target's where that changed.
    """
    if query.kind == "place":
        return place(judge, verdict, i) == query.target.place
    before = {thing.class_name for thing in query.source.things}
    after = {thing.class_name for thing in query.target.things}
    gone = before - after
    if any(verdict.presence[i, judge.classes.index(name)] > 0 for name in gone):
        return False
    if query.kind == "remove":
        return True
    thing = query.target.things[query.changed]
    return seen(judge, verdict, i, thing.class_name, thing.colour)
