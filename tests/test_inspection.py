"""Mask inspect without a page: what is painted by hand stays in force until it is let go."""

import numpy as np
import pytest
from PIL import Image

import app
from pipelines import inspection, params, views
from pipelines.errors import InputError
from pipelines.examples import examples
from pipelines.inspection import InspectOrder
from pipelines.jobs import Gate
from pipelines.memo import Memo
from pipelines.method_params import MaskParams
from pipelines.visits import SQUARE_PX, Session
from pipelines.workbench import Services

VALUES = {"threshold": 0.5, "feather_px": 0, "recipe": "thesis", "reference": "source"}


@pytest.fixture
def session(watched_cache, untrained_pack):
    services = Services(watched_cache, Memo(2**20), Gate(), untrained_pack, app.file_picture)
    session, picture = Session(), examples()[0].toy.image.resize((300, 300))
    session.inspected = inspection.inspect(
        services,
        InspectOrder(picture, "a horse", "a zebra", {"num_maps": 1}, 3),
        lambda step: None,
    )
    inspection.cut(session.inspected, VALUES)
    return session


def layer(square):
    return views.paint_layer(square, SQUARE_PX, 128)


def painted_square():
    square = np.zeros((SQUARE_PX, SQUARE_PX), np.float32)
    square[100:201, 300:401] = 1
    return square


def test_a_painting_stays_in_force_and_takes_a_soft_border(session):
    done = session.inspected
    done.offered, square = done.square, painted_square()
    inspection.paint(done, layer(square))
    assert (done.square == square).all()
    hard, _ = inspection.cut(done, {**VALUES, "threshold": 0.9})
    assert set(np.unique(hard)) == {0, 1} and (done.square == square).all()
    soft, _ = inspection.cut(done, {**VALUES, "feather_px": 4})
    assert 0 < soft[soft > 0].min() < 0.5 and not soft[hard == 0].any()
    assert (done.target_text, done.seed) == ("a zebra", 3)
    assert inspection.hand_over(session) is done and (session.mask.square == square).all()
    done.painted = None
    inferred, _ = inspection.cut(done, VALUES)
    assert not np.array_equal(inferred, hard)


def test_what_the_painter_started_from_is_no_painting(session):
    done = session.inspected
    done.offered = done.square
    inspection.paint(done, layer(done.square))
    assert done.painted is None
    before = done.square
    inspection.cut(done, {**VALUES, "threshold": 0.1})  # the painter still shows the mask before
    inspection.paint(done, layer(before))
    assert done.painted is None and not np.array_equal(done.square, before)


def test_an_empty_painting_is_refused_with_a_sentence(session):
    done = session.inspected
    done.offered = done.square
    inspection.paint(done, Image.new("RGBA", (SQUARE_PX, SQUARE_PX)))
    with pytest.raises(InputError, match="The mask is empty"):
        inspection.hand_over(session)


def test_thresholds_cut_the_same_mask_as_at_first(session):
    one = session.inspected.by_reference["source"]
    for recipe in ("thesis", "refined", "thesis"):
        for threshold in (0.3, 0.7):
            built = params.build(MaskParams, {**VALUES, "recipe": recipe, "threshold": threshold})
            kept = inspection.cut(session.inspected, params.to_dict(built))[0]
            one.maps.clear()
            assert np.array_equal(kept, inspection.cut(session.inspected, params.to_dict(built))[0])
