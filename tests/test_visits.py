"""What a page that is loaded again gets back, and who does not get it."""

import gc

from PIL import Image

from pipelines.inspection import Inspected, InspectOrder
from pipelines.visits import HISTORY, Session, Visits
from pipelines.workbench import Order, Shown

PICTURE = Image.new("RGB", (64, 64), "teal")


def shown(title):
    return Shown(title, "before", title, None, None, {}, {})


def order(*titles, **options):
    return Order(PICTURE, "a", "b", 1, [], results=[shown(title) for title in titles], **options)


def test_a_token_brings_its_own_session_back_and_no_other():
    visits, mine, yours = Visits(), Session(), Session()
    assert visits.admit("", mine) is mine and visits.admit("guess", yours) is yours
    assert mine.token and yours.token and mine.token != yours.token
    assert visits.admit(mine.token, Session()) is mine


def test_a_session_nobody_keeps_is_gone():
    visits, session = Visits(), Session()
    token = visits.admit("", session).token
    del session
    gc.collect()
    new = Session()
    assert visits.admit(token, new) is new and new.token != token


def test_history_holds_the_results_of_every_run_newest_first():
    session = Session()
    session.begin(order("one", "two"))
    running = order()
    session.begin(running)
    running.results.append(shown("three"))  # of a run that is then stopped
    assert [one.title for one in session.history] == ["three", "two", "one"]
    for i in range(2 * HISTORY):
        session.begin(order(str(i)))
    assert len(session.history) == HISTORY and session.history[0].title == str(2 * HISTORY - 1)


def test_what_was_inferred_belongs_to_its_picture():
    session, other = Session(), Image.new("RGB", (64, 64), "red")
    assert not session.is_inferred_of_another(other, "")
    session.begin(order("one", inferred="a horse"))
    assert session.is_inferred_of_another(other, "a horse")
    assert not session.is_inferred_of_another(PICTURE, "a horse")
    assert not session.is_inferred_of_another(other, "typed by hand")
    session.inspecting = InspectOrder(PICTURE, "", "b", {}, 1)
    session.inspected = Inspected(PICTURE, "a cow", "b", 1, {}, None)
    assert session.is_inferred_of_another(other, "a cow")
