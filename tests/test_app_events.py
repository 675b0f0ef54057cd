"""How events are wired, so that Gradio's page neither repeats them nor asks for what they need not.

Both traps are described at `app.Page.quiet`.
"""

from collections import Counter


def events(served):
    return [one for one in served[0].fns.values() if one.api_visibility != "public" and one.fn]


def test_heavy_events_share_one_line_and_light_ones_stay_out_of_the_queue(served):
    for function in served[0].fns.values():
        if function.concurrency_id == "heavy":
            assert function.queue and function.types_generator
        elif function.api_visibility != "public":
            assert not function.queue or function.concurrency_limit is None, function.api_name


def test_no_trigger_has_two_handlers_that_wait_for_each_other(served):
    triggers = Counter(
        (component, name)
        for one in events(served)
        if one.trigger_mode == "always_last"
        for component, name in one.targets
        if name not in ("then", "success", "load")
    )
    assert len(triggers) > 50
    assert not [trigger for trigger, count in triggers.items() if count > 1]


def test_no_row_or_tab_hears_of_progress(served):
    for one in events(served):
        shown = one.show_progress_on or one.outputs
        assert not [part for part in shown if getattr(part, "children", None)], one.api_name
        assert one.show_progress == "hidden"
