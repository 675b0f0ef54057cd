"""One question to Retrieval and its answer: the method, its baselines, and the words it went by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines import images
from pipelines.data.captions import caption
from pipelines.data.spec import WORDS, Scene
from pipelines.errors import InputError
from pipelines.image_collections import Collection
from pipelines.method_params import RetrievalParams
from pipelines.workbench import Services

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.models.adaptation_heads import AdaptationHeads
    from pipelines.models.retrieval_index import VectorIndex
    from pipelines.models.retrieval_set import Encoded, RetrievalSet
    from pipelines.simat import Retrieved

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


class Desk:
    """One CLIP with one pair of heads over the set or a visitor's collection, of which one is."""

    def __init__(
        self,
        services: Services,
        known: RetrievalSet | None,
        role: str,
        heads: AdaptationHeads | None,
        collection: Collection | None,
    ) -> None:
        self.services, self.known, self.role = services, known, role
        self.encoded: Encoded | None = known and known.encoded[role]
        self.collection = collection
        self.image_head = heads and heads.image
        self.text_head = heads and heads.text

    @property
    def fingerprint(self) -> str:
        """Of the CLIP."""
        if self.encoded is not None:
            return self.encoded.fingerprint
        assert self.collection is not None
        return self.collection.fingerprint

    def answer(self, query: Query, value: str, target: str, built: RetrievalParams) -> Answer:
        """Run the method and its baselines."""
        import torch

        from pipelines import simat

        answer = Answer()
        with torch.no_grad():
            picture = simat.adapt(self.image_vector(query), self.image_head)
            delta = self.delta(value, target, built.delta)
            index = self.index()
            own = self.itself(query)
            found = simat.simat(index, picture, delta, scale=built.scale, k=built.k, itself=own)
            answer.tiles = self.tiles(found, query, value, target)
            tried = {"Image only": simat.image_only(index, picture, 1, itself=own)}
            if self.encoded is not None:
                captions = simat.adapt(self.encoded.captions, self.text_head)
                by_text = simat.image_to_text_to_image(
                    index, picture, captions, delta, scale=built.scale, k=1, itself=own
                )
                tried = {"Image to text to image": by_text, **tried}
            wanted = wanted_caption(query.scene, value, target)
            if self.known is None:
                answer.notes.append("Baselines that go through captions need a set that has some.")
            elif wanted is None:
                answer.notes.append(
                    "Text to image needs the wanted caption, which is known for toy scenes that "
                    "show the first word only."
                )
            else:
                text = simat.adapt(self.text_vectors([wanted]), self.text_head)
                tried = {"Text to image": simat.text_to_image(index, text, 1, itself=own), **tried}
            for title, retrieved in tried.items():
                for tile in self.tiles(retrieved, query, value, target)[:1]:
                    answer.baselines[title] = tile
            point = simat.transform(picture, delta, built.scale)
            answer.words = self.closest_words(point, picture, (value, target))
        if self.collection is not None and self.collection.left_out:
            answer.notes.append(f"Left out: {', '.join(self.collection.left_out[:10])}.")
        return answer

    def itself(self, query: Query) -> list[int] | None:
        """Return the query's own row among the pictures to choose from: it is no answer."""
        if self.collection is None:
            return None if query.row is None else [query.row]
        row = self.collection.rows.get(query.fingerprint)
        return None if row is None else [row]

    def tiles(self, found: Retrieved, query: Query, value: str, target: str) -> list[Tile]:
        """Return the first query's pictures with what the oracle says about them."""
        from pipelines.data.simat_scenes import agrees

        made = []
        for score, row in zip(found.scores[0].tolist(), found.rows[0].tolist(), strict=True):
            if self.collection is not None:
                shown = self.collection.thumbnail(row)
                made.append(Tile(shown, self.collection.names[row], score, None, row))
                continue
            assert self.known is not None
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
        if own is not None:  # one visitor's, and small
            return VectorIndex.exact(simat.adapt(own.embeds, self.image_head))
        assert self.encoded is not None
        vectors = self.encoded.images

        def compute() -> VectorIndex:
            return VectorIndex.exact(simat.adapt(vectors, self.image_head))

        tau = next((t for t, h in self.encoded.heads.items() if h.image is self.image_head), "off")
        key = "retrieval index", self.fingerprint, tau
        return self.services.memo.get(key, compute, lambda index: 4 * len(index) * index.dim)

    def image_vector(self, query: Query) -> Tensor:
        """Return the query's embedding (1, D): stored, kept, or computed."""
        if query.row is not None and self.encoded is not None:
            return self.encoded.images[query.row : query.row + 1]

        def compute() -> Tensor:
            with self.services.cache.lease(self.services.pack.name, self.role) as encoder:
                # as what it is compared with was seen
                toys = self.collection is None
                size_px = self.services.pack.resolution_px if toys else encoder.image_size_px
                square, _ = images.fit(query.picture, size_px)
                return encoder.embed_images(images.to_tensor([square], size_px)).cpu()

        kind = "picture" if self.collection is None else "picture as collected"
        return self._kept(kind, query.fingerprint, compute)

    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings (B, D) of texts: stored, kept, or computed."""
        import torch

        def one(text: str) -> Tensor:
            if self.known is not None and self.encoded is not None:
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
        key = "retrieval", kind, self.fingerprint, name
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
        if self.known is None or self.encoded is None:
            raise InputError(
                "Your pictures have no captions. Please take the change of the words instead of "
                "sentences."
            )
        shown = list(self.known.simat.captions)
        pairs = [pair for kind in FIELDS for pair in sentence_pairs(shown, kind, value, target)]
        if not pairs:
            raise InputError(
                "No two captions of the set differ in these words alone. Please take the change "
                "of the words instead of sentences."
            )
        captions = simat.adapt(self.encoded.captions, self.text_head)
        return simat.sentence_delta(captions, pairs)[None]

    def closest_words(
        self, point: Tensor, picture: Tensor, asked: tuple[str, str]
    ) -> list[tuple[str, float, float]]:
        """Return (word, cosine with the moved point, with the picture), the closest first.

        Of all words of the set's world; without a set, of the two that were asked.
        """
        from pipelines import simat

        words = asked if self.encoded is None else WORDS
        raw = self.text_vectors(asked) if self.encoded is None else self.encoded.words
        embeds = simat.adapt(raw, self.text_head)
        after, before = (embeds @ simat.adapt(vector, None)[0] for vector in (point, picture))
        best = after.argsort(descending=True)[:CLOSEST_WORDS].tolist()
        return [(words[i], float(after[i]), float(before[i])) for i in best]


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
