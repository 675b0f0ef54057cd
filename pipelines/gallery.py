"""What the Retrieval tab sets in motion: a picture and two words in, pictures and reasons out.

`look` answers a slider while it moves: no network runs but for pictures and words never seen
before, whose embeddings are kept. `index_collection` is a job for the gate. A pack without a set
of its own, as photo packs are, searches the visitor's pictures only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pipelines import image_collections, leases, params, recipes, verdicts
from pipelines.errors import InputError
from pipelines.image_collections import Collection
from pipelines.method_params import RetrievalParams
from pipelines.packs import Pack
from pipelines.repositories import HEADS_OF
from pipelines.results import OnStep
from pipelines.retrieval_desk import Answer, Desk, Query
from pipelines.visits import Session
from pipelines.workbench import Services

if TYPE_CHECKING:
    from pipelines.models.adaptation_heads import AdaptationHeads
    from pipelines.models.retrieval_set import Example, RetrievalSet

MAX_WORD = 100


def has_set(pack: Pack) -> bool:
    """Return whether a pack has pictures of its own to search in."""
    return "retrieval" in pack.components


def query_of(session: Session, picture: Image.Image | None) -> Query:
    """Return the query of a picture; toys and pictures of the set are recognised by their pixels.

    Raises:
        InputError: there is none.
    """
    if picture is None:
        raise InputError("Please choose a picture first.")
    fingerprint = recipes.fingerprint(picture)
    if fingerprint in session.rows:
        row, scene = session.rows[fingerprint]
        return Query(picture, fingerprint, scene, row)
    toy = session.known(picture)[1]
    return Query(picture, fingerprint, toy.scene if toy else None)


def from_set(services: Services, session: Session, row: int) -> Image.Image:
    """Return a picture of the set, which the session then recognises.

    Raises:
        InputError: the set has no such number.
    """
    with services.cache.lease(services.pack.name, "retrieval") as known:
        if not 0 <= row < len(known):
            raise InputError(f"The set's pictures have the numbers 0 to {len(known) - 1}.")
        picture: Image.Image = known.thumbnail(row)
        session.rows[recipes.fingerprint(picture)] = row, known.scenes[row]
        return picture


def examples(services: Services) -> list[tuple[Example, Image.Image]]:
    """Return the set's examples with their pictures; none where the pack has no set."""
    if not has_set(services.pack):
        return []
    with services.cache.lease(services.pack.name, "retrieval") as known:
        return [(one, known.thumbnail(one.row)) for one in known.examples]


def look(
    services: Services,
    query: Query,
    words: tuple[str, str],
    values: Mapping[str, object],
    role: str,
    collection: Collection | None = None,
) -> Answer:
    """Return what lies where the change of words leads from the picture.

    Raises:
        InputError: a word or a parameter cannot be used, there is no such CLIP or head, or there is
            nothing to look in.
    """
    started = time.perf_counter()
    value, target = checked_words(*words)
    defaults = services.pack.defaults.get("simat", {})
    built = params.build(RetrievalParams, {**defaults, **values})
    offered = leases.encoders(services.pack)
    if role not in offered:
        raise InputError(f"Please choose one of the CLIPs: {', '.join(offered)}.")
    if collection is None and not has_set(services.pack):
        raise InputError(
            f"The pack “{services.pack.title}” has no pictures of its own to search in. Please "
            "index some of yours: a zip file, a folder or single pictures."
        )
    if collection is not None and collection.clip != (services.pack.name, role):
        raise InputError(
            "Your pictures were indexed with another CLIP. Please choose that one, or index them "
            "again."
        )
    with lent_set(services) as known, heads_for(services, known, role, built.heads) as heads:
        answer = Desk(services, known, role, heads, collection).answer(query, value, target, built)
    answer.seconds = time.perf_counter() - started
    return answer


@contextmanager
def lent_set(services: Services) -> Iterator[RetrievalSet | None]:
    """Lease the pack's own set of pictures, if it has one."""
    if not has_set(services.pack):
        yield None
        return
    with services.cache.lease(services.pack.name, "retrieval") as known:
        yield known


@contextmanager
def heads_for(
    services: Services, known: RetrievalSet | None, role: str, tau: str
) -> Iterator[AdaptationHeads | None]:
    """Lease a CLIP's adaptation heads: the set's own, or those that SIMAT published.

    Raises:
        InputError: there are none for this CLIP, of this temperature or on this machine.
    """
    none = "This CLIP has no adaptation heads of that kind. Please choose off."
    if tau == "off":
        yield None
        return
    if known is not None:
        if tau not in known.encoded[role].heads:
            raise InputError(none)
        yield known.encoded[role].heads[tau]
        return
    if role != HEADS_OF:
        raise InputError(
            f"Adaptation heads are published for {HEADS_OF} alone. Please choose it, or off."
        )
    with services.cache.lease(services.pack.name, "simat_heads") as published:
        if tau not in published.by_tau:
            there = ", ".join(published.by_tau)
            raise InputError(f"The folder has heads of these temperatures: {there}. {none}")
        yield published.by_tau[tau]


def checked_words(value: str | None, target: str | None) -> tuple[str, str]:
    """Return both words in lower case.

    Raises:
        InputError: one is missing, too long, or both are the same.
    """
    cleaned = [" ".join((word or "").lower().split()) for word in (value, target)]
    if not all(cleaned):
        raise InputError("Please say what is to change, and what it becomes: two words.")
    if max(map(len, cleaned)) > MAX_WORD:
        raise InputError(f"Each word may have at most {MAX_WORD} characters.")
    if cleaned[0] == cleaned[1]:
        raise InputError("The two words are the same. Please change one of them.")
    return cleaned[0], cleaned[1]


def index_collection(
    services: Services, session: Session, paths: Sequence[str | Path], role: str, on_step: OnStep
) -> Collection:
    """Embed a visitor's own pictures; the session keeps them until the next collection."""
    found = image_collections.members(paths)
    services.pack.component(role)
    with services.cache.lease(services.pack.name, role, on_step) as encoder:
        clip = services.pack.name, role
        session.collection = image_collections.collect(encoder, found, clip, on_step)
    return session.collection


def unknown_words(pack: Pack, words: Sequence[str | None]) -> dict[str, str]:
    """Return {word: closest known word or ""} of those that the pack does not know."""
    return verdicts.unknown_words([word or "" for word in words], pack.words())
