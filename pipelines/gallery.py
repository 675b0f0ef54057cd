"""What the Retrieval tab sets in motion: a picture and two words in, pictures and reasons out.

`look` answers a slider while it moves: no network runs but for pictures and words never seen
before, whose embeddings are kept. `index_collection` is a job for the gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines import image_collections, images, params, recipes, verdicts
from pipelines.data.captions import caption
from pipelines.data.spec import WORDS, Scene
from pipelines.errors import InputError
from pipelines.image_collections import Collection
from pipelines.method_params import RetrievalParams
from pipelines.packs import Pack
from pipelines.results import OnStep
from pipelines.workbench import Services, Session

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.models.retrieval_index import VectorIndex
    from pipelines.models.retrieval_set import Encoded, Example, RetrievalSet
    from pipelines.simat import Retrieved

MAX_WORD = 100
CLOSEST_WORDS = 6


@dataclass(frozen=True, eq=False)
class Query:
    """The picture in hand.

    Attributes:
        scene: what it shows, if it is a toy scene; row: its place in the set, if it is there.
    """

    picture: Image.Image
    fingerprint: str
    scene: Scene | None = None
    row: int | None = None


@dataclass(frozen=True, eq=False)
class Tile:
    """One retrieved picture; `agrees` is the oracle's word, None where it has none."""

    picture: Image.Image
    caption: str
    score: float
    agrees: bool | None
    row: int

    @property
    def title(self) -> str:
        """What stands below the picture."""
        mark = {True: "✓ ", False: "✗ ", None: ""}[self.agrees]
        return f"{mark}{self.score:.2f} · {self.caption}"


@dataclass(eq=False)
class Answer:
    """What is shown for one position of the controls.

    Attributes:
        baselines: the best picture of every baseline, by its title.
        words: (word, similarity to the moved point, to the picture), the closest first.
    """

    tiles: list[Tile] = field(default_factory=list)
    baselines: dict[str, Tile] = field(default_factory=dict)
    words: list[tuple[str, float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def report(self) -> dict[str, Any]:
        """Return plain JSON types."""

        def told(tile: Tile) -> dict[str, Any]:
            return {name: getattr(tile, name) for name in ("row", "score", "caption", "agrees")}

        return {
            "results": [told(tile) for tile in self.tiles],
            "baselines": {title: told(tile) for title, tile in self.baselines.items()},
            "words": [list(entry) for entry in self.words],
            "notes": self.notes,
        }


def clips(pack: Pack) -> tuple[str, ...]:
    """Return the roles of a pack's CLIPs."""
    return tuple(role for role, part in pack.components.items() if part.kind == "dual_encoder")


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
    """Return the set's examples with their pictures."""
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
        InputError: a word or a parameter cannot be used, there is no such CLIP or head, or the pack
            has no set to look in.
    """
    started = time.perf_counter()
    value, target = checked_words(*words)
    defaults = services.pack.defaults.get("simat", {})
    built = params.build(RetrievalParams, {**defaults, **values})
    services.pack.component("retrieval")
    if role not in clips(services.pack):
        raise InputError(f"Please choose one of the CLIPs: {', '.join(clips(services.pack))}.")
    with services.cache.lease(services.pack.name, "retrieval") as known:
        desk = _Desk(services, known, role, built.heads, collection)
        answer = desk.answer(query, value, target, built)
    answer.seconds = time.perf_counter() - started
    return answer


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
    with services.cache.lease(services.pack.name, role) as encoder:
        session.collection = image_collections.collect(encoder, found, role, on_step)
    return session.collection


class _Desk:
    """One CLIP with one pair of heads over the set or a visitor's collection."""

    def __init__(
        self,
        services: Services,
        known: RetrievalSet,
        role: str,
        tau: str,
        collection: Collection | None,
    ) -> None:
        if role not in known.encoded:
            raise InputError("The set was not encoded with this CLIP. Please choose another one.")
        if collection is not None and collection.clip != role:
            raise InputError(
                "Your pictures were indexed with another CLIP. Please choose that one, or index "
                "them again."
            )
        self.services, self.known, self.role = services, known, role
        self.encoded: Encoded = known.encoded[role]
        if tau != "off" and tau not in self.encoded.heads:
            raise InputError("This CLIP has no adaptation heads of that kind. Please choose off.")
        self.tau, self.collection = tau, collection
        heads = None if tau == "off" else self.encoded.heads[tau]
        self.image_head = heads and heads.image
        self.text_head = heads and heads.text

    def answer(self, query: Query, value: str, target: str, built: RetrievalParams) -> Answer:
        """Run the method and its baselines."""
        import torch

        from pipelines import simat

        answer = Answer()
        with torch.no_grad():
            picture = simat.adapt(self.image_vector(query), self.image_head)
            delta = self.delta(value, target, built.delta)
            index = self.index()
            own = None if query.row is None or self.collection is not None else [query.row]
            found = simat.simat(index, picture, delta, scale=built.scale, k=built.k, itself=own)
            answer.tiles = self.tiles(found, query, value, target)
            captions = simat.adapt(self.encoded.captions, self.text_head)
            moved = {"scale": built.scale, "k": 1, "itself": own}
            tried = {
                "Image to text to image": simat.image_to_text_to_image(
                    index, picture, captions, delta, **moved
                ),
                "Image only": simat.image_only(index, picture, 1, itself=own),
            }
            wanted = wanted_caption(query.scene, value, target)
            if wanted is None:
                answer.notes.append(
                    "Text to image needs the wanted caption, which is known for toy scenes that "
                    "show the first word only."
                )
            else:
                text = simat.adapt(self.text_vectors([wanted]), self.text_head)
                tried = {"Text to image": simat.text_to_image(index, text, 1, itself=own), **tried}
            for title, retrieved in tried.items():
                answer.baselines[title] = self.tiles(retrieved, query, value, target)[0]
            point = simat.transform(picture, delta, built.scale)
            answer.words = self.closest_words(point, picture)
        if self.collection is not None and self.collection.left_out:
            answer.notes.append(f"Left out: {', '.join(self.collection.left_out[:10])}.")
        return answer

    def tiles(self, found: Retrieved, query: Query, value: str, target: str) -> list[Tile]:
        """Return the first query's pictures with what the oracle says about them."""
        from pipelines.data.simat_scenes import agrees

        made = []
        for score, row in zip(found.scores[0].tolist(), found.rows[0].tolist(), strict=True):
            if self.collection is not None:
                shown = self.collection.thumbnail(row)
                made.append(Tile(shown, self.collection.names[row], score, None, row))
                continue
            scene = self.known.scenes[row]
            verdict = None if query.scene is None else agrees(query.scene, value, target, scene)
            made.append(
                Tile(self.known.thumbnail(row), self.known.captions[row], score, verdict, row)
            )
        return made

    def index(self) -> VectorIndex:
        """Return the pictures to choose from, adapted; kept for the next move of the slider."""
        from pipelines import simat
        from pipelines.models.retrieval_index import VectorIndex

        own = self.collection
        vectors = self.encoded.images if own is None else own.embeds

        def compute() -> VectorIndex:
            return VectorIndex.exact(simat.adapt(vectors, self.image_head))

        if own is not None:  # one visitor's, and small
            return compute()
        key = "retrieval index", self.encoded.fingerprint, self.tau
        return self.services.memo.get(key, compute, lambda index: 4 * len(index) * index.dim)

    def image_vector(self, query: Query) -> Tensor:
        """Return the query's embedding (1, D): stored, kept, or computed."""
        if query.row is not None:
            return self.encoded.images[query.row : query.row + 1]

        def compute() -> Tensor:
            square, _ = images.fit(query.picture, self.services.pack.resolution_px)
            pixels = images.to_tensor([square], self.services.pack.resolution_px)
            with self.services.cache.lease(self.services.pack.name, self.role) as encoder:
                return encoder.embed_images(pixels).cpu()

        return self._kept("picture", query.fingerprint, compute)

    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings (B, D) of texts: stored, kept, or computed."""
        import torch

        def one(text: str) -> Tensor:
            if text in WORDS:
                return self.encoded.words[WORDS.index(text)][None]
            if text in self.known.caption_rows:
                return self.encoded.captions[self.known.caption_rows[text]][None]

            def compute() -> Tensor:
                with self.services.cache.lease(self.services.pack.name, self.role) as encoder:
                    return encoder.embed_texts([text]).cpu()

            return self._kept("text", text, compute)

        return torch.cat([one(text) for text in texts])

    def _kept(self, kind: str, name: str, compute: Callable[[], Tensor]) -> Tensor:
        key = "retrieval", kind, self.encoded.fingerprint, name
        return self.services.memo.get(key, compute, lambda vector: vector.nbytes)

    def delta(self, value: str, target: str, how: str) -> Tensor:
        """Return the delta vector (1, D).

        Raises:
            InputError: no captions differ in these words alone, and their mean was asked for.
        """
        from pipelines import simat
        from pipelines.data.simat_scenes import FIELDS, sentence_pairs

        if how == "words":
            before, after = simat.adapt(self.text_vectors([value, target]), self.text_head)
            return simat.word_delta(before, after)[None]
        shown = list(self.known.simat.captions)
        pairs = [pair for kind in FIELDS for pair in sentence_pairs(shown, kind, value, target)]
        if not pairs:
            raise InputError(
                "No two captions of the set differ in these words alone. Please take the change "
                "of the words instead of sentences."
            )
        captions = simat.adapt(self.encoded.captions, self.text_head)
        return simat.sentence_delta(captions, pairs)[None]

    def closest_words(self, point: Tensor, picture: Tensor) -> list[tuple[str, float, float]]:
        """Return (word, cosine with the moved point, with the picture), the closest first."""
        from pipelines import simat

        words = simat.adapt(self.encoded.words, self.text_head)
        after, before = (words @ simat.adapt(vector, None)[0] for vector in (point, picture))
        best = after.argsort(descending=True)[:CLOSEST_WORDS].tolist()
        return [(WORDS[i], float(after[i]), float(before[i])) for i in best]


def wanted_caption(scene: Scene | None, value: str, target: str) -> str | None:
    """Return what the wanted picture would be called; None where that is not known."""
    from pipelines.data.simat_scenes import wanted_triplet

    if scene is None:
        return None
    asked = wanted_triplet(scene, value, target)
    if asked is not None:
        return asked[1].caption
    text = caption(scene)
    return text.replace(value, target, 1) if f" {value} " in f" {text} " else None


def unknown_words(pack: Pack, words: Sequence[str | None]) -> dict[str, str]:
    """Return {word: closest known word or ""} of those that the pack does not know."""
    return verdicts.unknown_words([word or "" for word in words], pack.words())
