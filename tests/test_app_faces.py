"""Face sliders over HTTP, with small untrained networks."""

import uuid

import numpy as np
import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from test_app import HORSE, Listener, check_sentence, upload

import app
from pipelines import direction_training, directions, lelsd, packs, recipes
from pipelines.faces import GROUPS, SLOTS


@pytest.fixture(scope="module")
def client(served):
    return Client(served[1], verbose=False)


def face(client, image=None, text="", seed=3, edits=(), layers=(), parameters=None):
    """Call /face; returns (picture path, report)."""
    return client.predict(
        image and handle_file(image), text, seed, list(edits), list(layers), parameters or {},
        api_name="/face",
    )  # fmt: skip


class Visitor:
    """A page that sends events as the browser does, and keeps what it is shown."""

    def __init__(self, served):
        self.demo, self.address = served
        self.session = uuid.uuid4().hex
        self.shown = {}

    def event(self, name, **values):
        """Run the first event of a name; values by elem_id or label. Returns what it changed."""
        function, output = self.answer(name, **values)
        assert not output.get("error"), output
        names = [one.elem_id or getattr(one, "label", None) for one in function.outputs]
        pairs = zip(names, output["data"], strict=True)
        return {name: value for name, value in pairs if name}

    def answer(self, name, **values):
        """The first event of a name, and what the app answers to it: data, or an error."""
        function = next(f for f in self.demo.fns.values() if f.api_name == name)
        data = [self.value(component, values) for component in function.inputs]
        if function.queue:
            with Listener((self.demo, self.address), name, data, session=self.session) as job:
                return function, job.completed()["output"]
        body = {"data": data, "fn_index": function._id, "session_hash": self.session}
        answer = requests.post(f"{self.address}/gradio_api/run/predict", json=body, timeout=120)
        return function, answer.json()

    def value(self, component, values):
        for name in (component.elem_id, getattr(component, "label", None)):
            if name in values:
                return values[name]
        if isinstance(component, app.gr.State):
            return None
        return getattr(component, "value", None)


def picture_at(address, shown):
    """Download what an image output shows."""
    url = f"{address}/gradio_api/file={shown['path']}"
    return np.asarray(Image.open(requests.get(url, stream=True, timeout=30).raw), int)


def test_a_recipe_makes_the_same_face_again(client):
    edits = [
        {"part": "hair", "method": "lelsd", "strength": 1.0},
        {"part": "skin", "method": "stylespace", "strength": -0.5},
        {"text": "wearing a red hat", "mode": "published", "strength": 0.25},
    ]
    picture, report = face(client, text="a bald person", edits=edits, layers=[0, 5, 11])
    recipe = report["recipe"]
    with Image.open(picture) as opened:
        assert recipes.fingerprint(opened.convert("RGB")) == recipe["result"]
    assert recipe["edits"] == edits
    assert set(report["localization_scores"]) == {"hair · LELSD", "skin · StyleSpace channel"}
    assert ["hair: none", True] in report["facts"] or ["hair: none", False] in report["facts"]
    made = recipe["face"]
    settings = {name: made[name] for name in ("noise", "amount")}
    again = face(
        client, text=made["text"], seed=made["seed"], edits=recipe["edits"],
        layers=recipe["layers"], parameters=settings,
    )  # fmt: skip
    assert again[1]["recipe"] == recipe


def test_a_picture_is_inverted_refined_and_told_of(client):
    _, plain = face(client, HORSE)
    _, nearer = face(client, HORSE, parameters={"refine_steps": 5})
    assert plain["recipe"]["face"]["upload"] == nearer["recipe"]["face"]["upload"]
    assert nearer["recipe"]["face"]["refine_steps"] == [5]
    assert plain["recipe"]["result"] != nearer["recipe"]["result"]
    assert "LPIPS" in check_sentence(plain["likeness"])


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"seed": -1}, "whole number"),
        ({"edits": {"part": "hair"}}, "a list of objects"),
        ({"edits": [{"strength": 1}]}, "Every edit needs"),
        ({"edits": [{"part": "hair", "strength": 9}]}, "-2 to 2"),
        ({"edits": [{"part": "hair", "strength": "1"}]}, "-2 to 2"),
        ({"edits": [{"part": ["hair"]}]}, "The parts are"),
        ({"edits": [{"text": " "}]}, "describe a face"),
        ({"edits": [{"part": "hair"}] * 9}, "at most 8"),
        ({"layers": [99]}, "numbers 0 to 11"),
        ({"layers": ["0"]}, "whole numbers"),
        ({"parameters": {"amount": 7}}, "from 0 to 2"),
        ({"parameters": {"base": "clip"}}, "must be one of"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(client, options, phrase):
    given = {"edits": [], "layers": [], "parameters": {}, "seed": 3, **options}
    with pytest.raises(AppError) as caught:
        client.predict(None, "", *(given[k] for k in ("seed", "edits", "layers", "parameters")),
                       api_name="/face")  # fmt: skip
    assert phrase in check_sentence(str(caught.value))


def test_sliders_answer_while_they_move_and_are_measured_at_rest(served):
    visitor = Visitor(served)
    opened = visitor.event("open_tab")
    assert opened["face_slider_0"]["label"] == "hair · LELSD"
    rest = picture_at(served[1], visitor.event("live")["face"])
    moved = visitor.event("live", face_slider_0=2.0)
    assert "Answered in" in moved["face_status"]
    assert np.abs(picture_at(served[1], moved["face"]) - rest).max() > 1
    told = visitor.event("judged", face_slider_0=2.0)
    assert "identity kept" in told["face_facts"] and "score" in told["face_score_0"]
    assert not told["face_score_1"]
    frozen = visitor.event("live", face_slider_0=2.0, layers=[])
    assert "No layer may move" in frozen["face_status"]
    coarse = visitor.event("live", face_slider_0=2.0, layers=[GROUPS[0]])
    assert (picture_at(served[1], coarse["face"]) != picture_at(served[1], moved["face"])).any()


def test_sliders_are_added_and_removed(served):
    visitor = Visitor(served)
    visitor.event("open_tab")
    added = visitor.event("add_text", wish="a person with a red hat")
    assert added["face_slider_2"]["label"] == "a person with a red hat"
    assert added["face_slider_2"]["value"] == pytest.approx(1.0)
    assert added["wish"] == ""
    strange = visitor.event("add_text", wish="a flamingo")
    assert strange["wish"] == "a flamingo"  # its notice goes with the text of the box
    visitor.event("remove")
    again = visitor.event("add_known", part="skin", **{"Found by": "random"})
    assert again["face_slider_0"]["label"] == "skin · Random"
    tiles = visitor.event("show_strip", **{"Strip, and grid across": 0})["face_strip"]
    assert len(tiles["value"]) == 5
    places = {"Strip, and grid across": 0, "Grid down": 1, "Pictures to a side": 3}
    assert visitor.event("show_grid", **places)["face_grid"]["value"]["path"]
    notice = visitor.event("name_strange_words", face_text="a flamingo")["face_notice"]
    assert "does not know “flamingo”" in notice


def test_a_pack_without_faces_says_so_and_nothing_else_happens(served):
    visitor = Visitor(served)
    assert "no model for this" in visitor.event("open_tab", packs="sd15")["face_status"]
    assert visitor.event("judged", packs="sd15")
    assert packs.find("sd15").components.keys().isdisjoint(packs.FACES)


def test_a_direction_is_trained_used_and_downloaded(served, monkeypatch):
    monkeypatch.setattr(lelsd, "BATCHES", 3)
    monkeypatch.setattr(directions, "_CALIBRATION", 2)
    visitor = Visitor(served)
    visitor.event("open_tab")
    visitor.event("offer")
    function = next(f for f in served[0].fns.values() if f.api_name == "run_lesson")
    data = [visitor.value(c, {"learn_part": "skin"}) for c in function.inputs]
    with Listener(served, "run_lesson", data, session=visitor.session) as job:
        output = job.completed()["output"]
    assert "ended at a localization score" in str(output)
    assert "skin · yours" in str(output)
    assert ".safetensors" in str(output)
    added = visitor.event("live", face_slider_2=1.0)
    assert "Answered in" in added["face_status"]


def test_a_direction_file_is_used_and_a_bad_one_refused(served, untrained_pack, tmp_path):
    visitor = Visitor(served)
    visitor.event("open_tab")
    folder = untrained_pack.component("lelsd").locate()
    good = {"upload_direction": upload(served, folder / "skin_random.safetensors")}
    assert "skin · yours" in visitor.event("take_file", **good)["face_slider_2"]["label"]
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no direction")
    _, output = visitor.answer("take_file", upload_direction=upload(served, bad))
    assert "holds no direction" in check_sentence(output["error"])
    assert output["visible"]  # or the page would not show it


def test_every_place_has_a_slider(served):
    config = requests.get(f"{served[1]}/config", timeout=30).json()
    ids = [one["props"].get("elem_id") for one in config["components"]]
    assert [f"face_slider_{i}" in ids for i in range(SLOTS)] == [True] * SLOTS
    assert direction_training.LIMIT_S < 180  # the gate's own deadline would lose what is learnt


def test_a_face_needs_no_argument(client):
    picture, report = client.predict(api_name="/face")
    assert picture and report["recipe"]
