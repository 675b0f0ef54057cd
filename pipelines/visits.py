"""What a visitor's page remembers, for as long as it is open, and when it is loaded again."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from PIL import Image

from pipelines import images, recipes
from pipelines.edit_numbers import TradeOff
from pipelines.images import Mask, Window

if TYPE_CHECKING:
    from pipelines.data.spec import Scene
    from pipelines.easel import PaintOrder
    from pipelines.examples import Toy
    from pipelines.faces import Desk
    from pipelines.image_collections import Collection
    from pipelines.inspection import Inspected, InspectOrder
    from pipelines.layouts import Layout
    from pipelines.retrieval_desk import Query
    from pipelines.workbench import Order, Shown

SQUARE_PX = 512  # side of the square on which masks are painted
TOYS_KEPT = 32
HISTORY = 24


class Session:
    """What one visitor's page remembers.

    Attributes:
        token: by which a page that is loaded again asks for it; "" before `Visits.admit`.
        tab: the one in view, by name; "" before one is chosen.
        order, inspecting, painting: what Text edit, Mask inspect and Segmentation to image were
            asked for last.
        trade_off: the strength sweeps of one picture and target.
        mask: what Mask inspect handed over to Text edit.
        inspected: what Mask inspect shows.
        layout: what Segmentation to image loaded last.
        query, asked, collection: the picture and the words in hand in Retrieval, and the visitor's
            own pictures.
        rows: (number, scene) of pictures of the retrieval set, by their fingerprints.
        desk: what Face sliders has in hand.
    """

    def __init__(self) -> None:
        self.token = ""
        self.tab = ""
        self.order: Order | None = None
        self.inspecting: InspectOrder | None = None
        self.painting: PaintOrder | None = None
        self.trade_off = TradeOff()
        self.mask: HandedMask | None = None
        self.inspected: Inspected | None = None
        self.layout: Layout | None = None
        self.query: Query | None = None
        self.asked: tuple[str | None, str | None] = (None, None)
        self.collection: Collection | None = None
        self.rows: dict[str, tuple[int, Scene]] = {}
        self.desk: Desk | None = None
        self._earlier: list[Shown] = []
        self._toys: OrderedDict[str, tuple[str, Toy]] = OrderedDict()

    def begin(self, order: Order) -> None:
        """Make an order of Text edit the one in hand; results of earlier ones stay in `history`."""
        self._earlier = self.history
        self.order = order

    @property
    def history(self) -> list[Shown]:
        """The results of Text edit, newest first, those of stopped runs too."""
        latest = self.order.results if self.order else []
        return [*latest[::-1], *self._earlier][:HISTORY]

    def remember(self, name: str, toy: Toy) -> None:
        """Keep the truth about a toy picture, found again by its pixels."""
        self._toys[recipes.fingerprint(toy.image)] = name, toy
        while len(self._toys) > TOYS_KEPT:
            self._toys.popitem(last=False)

    def known(self, picture: Image.Image) -> tuple[str, Toy | None]:
        """Return a toy's name and truth; ("", None) for any other picture."""
        return self._toys.get(recipes.fingerprint(picture), ("", None))

    def is_inferred_of_another(self, picture: Image.Image, text: str) -> bool:
        """Tell whether a source text is what was inferred from another picture."""
        order, inspected = self.order, self.inspected
        found = [(order.picture, order.inferred)] if order else []
        if inspected and self.inspecting and not self.inspecting.source_text.strip():
            found.append((inspected.picture, inspected.source_text))
        key = recipes.fingerprint(picture)
        return any(text and text == said and recipes.fingerprint(one) != key for one, said in found)

    def mask_for(self, picture: Image.Image) -> Mask | None:
        """Return the handed-over mask (H, W) if it is this picture's."""
        if self.mask is None or self.mask.picture != recipes.fingerprint(picture):
            return None
        placement = images.fit(picture, SQUARE_PX, self.mask.window)[1]
        return images.place_mask(self.mask.square, placement)


class Visits:
    """The sessions that a page can ask for when it is loaded again.

    They are kept by whoever keeps the visitor's state (Gradio: up to an hour after the page is
    gone), not here.
    """

    def __init__(self) -> None:
        self._sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()

    def admit(self, token: str, new: Session) -> Session:
        """Return the session of a token; without one the new session, which gets its token."""
        known = self._sessions.get(token)
        if known is None:
            new.token = secrets.token_urlsafe(16)
            known = self._sessions[new.token] = new
        return known


@dataclass(frozen=True, eq=False)
class HandedMask:
    """A mask of one picture: its fingerprint, and square (SQUARE_PX, SQUARE_PX), 1 = edit.

    `window` says which square of the picture that is.
    """

    picture: str
    square: Mask
    window: Window = images.CENTRE
