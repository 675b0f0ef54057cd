"""The served app when more visitors come than can wait."""

import json
import threading

import pytest
from gradio_client import Client
from test_app import HORSE, Listener, check_sentence, upload

import app
from pipelines.jobs import Gate
from pipelines.results import Step


@pytest.fixture
def busy(watched_cache, untrained_pack):
    """An app for three: one job runs until it is told to end."""
    gate, end = Gate(max_jobs=3), threading.Event()

    def work(on_step):
        while not end.wait(0.01):
            on_step(Step("decoding", 1, 2))

    run = gate.run("somebody", work)
    next(run)
    demo = app.build(cache=watched_cache, pack=untrained_pack, gate=gate)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_settings())
    yield (demo, address.rstrip("/")), end
    end.set()
    run.close()
    demo.close()


def messages(job):
    return (json.loads(line[6:]) for line in job.stream.iter_lines() if line)


def first(kind, told):
    """Return what the first message of a kind carries; the stream stays open."""
    message = next(one for one in told if one["msg"] == kind)
    return message["output"]["data"]


def test_who_waits_hears_its_place_and_who_cannot_wait_a_sentence(busy):
    served, end = busy
    given = [upload(served, HORSE), "a horse", "a zebra", "copy", 0, {}]
    with Listener(served, "edit", given) as second:
        heard = messages(second)
        assert first("process_generating", heard)[-1] == {"ahead": 1}
        with Listener(served, "edit", given) as third:
            also_heard = messages(third)
            assert first("process_generating", also_heard)[-1] == {"ahead": 2}
            for _ in range(4):
                with Listener(served, "edit", given) as job:
                    refused = job.completed()
                assert not refused["success"]
                assert "Too many visitors" in check_sentence(refused["output"]["error"])
            light = Client(served[1], verbose=False).predict(api_name="/methods")
            assert "diffedit" in light  # what costs nothing waits for nobody
            end.set()
            for told in (heard, also_heard):
                assert first("process_completed", told)[0]["path"]
