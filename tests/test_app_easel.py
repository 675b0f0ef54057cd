"""The easel's own way to the server, which a page uses and anybody can: what it takes and keeps."""

import io

import numpy as np
import pytest
import requests
from PIL import Image
from test_app import Listener, check_sentence, png, upload

import app
from pipelines import easel
from pipelines.layout_files import read_layout


@pytest.fixture
def painter(served):
    (found,) = [one for one in served[0].blocks.values() if one.elem_id == "easel"]
    yield found
    found.blob_storage.clear()


def layer(size=(512, 512)):
    pixels = np.zeros((*size[::-1], 4), np.uint8)
    pixels[size[1] // 4 : size[1] // 2] = (*easel.PALETTE[0], 255)
    return png(Image.fromarray(pixels))


def send_ahead(served, painter, content, kind="layer", index=0, id="mine"):
    return requests.post(
        f"{served[1]}/gradio_api/component_server",
        data={
            "type": kind,
            "index": str(index),
            "id": id,
            "fn_name": "accept_blobs",
            "component_id": str(painter._id),
            "session_hash": "me",
        },
        files={"file": ("blob", io.BytesIO(content))},
        timeout=30,
    )


def saved(served, painter, value):
    """Save the painting as the page does; returns the closing message."""
    function = next(f for f in served[0].fns.values() if f.api_name == "save_layout")
    texts = iter(["on the grass", "a tree"])  # prompt, first segment
    given = {"imageeditor": lambda: value, "textbox": lambda: next(texts, ""), "slider": lambda: 1}
    data = [given[block.get_block_name()]() for block in function.inputs]
    with Listener(served, "save_layout", data) as job:
        return job.completed()


def test_a_painting_that_is_sent_ahead_arrives(served, painter):
    assert send_ahead(served, painter, layer()).ok
    message = saved(served, painter, {"id": "mine"})
    assert message["success"], message
    path = message["output"]["data"][0]["value"]["path"]
    (segment,) = read_layout(path).segments
    assert segment.text == "a tree" and not painter.blob_storage


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (lambda: b"hello", "no picture"),
        (lambda: b"", "empty"),
        (lambda: layer()[:200], "damaged"),
        (lambda: png(Image.new("1", (9_000, 9_000))), "megapixels"),
    ],
    ids=["text", "empty", "truncated", "bomb"],
)
@pytest.mark.parametrize("ahead", [True, False])
def test_a_layer_that_is_no_picture_is_refused_with_a_sentence(
    served, painter, tmp_path, content, phrase, ahead
):
    if ahead:
        assert send_ahead(served, painter, content()).ok
        value = {"id": "mine"}
    else:
        (tmp_path / "layer.png").write_bytes(content())
        value = {"layers": [upload(served, tmp_path / "layer.png")]}
    message = saved(served, painter, value)
    assert not message["success"]
    assert phrase in check_sentence(message["output"]["error"])


def test_layers_lie_over_each_other_and_a_crowd_of_them_is_refused(served, painter, tmp_path):
    blank = png(Image.new("RGBA", (512, 512)))
    for index, content in enumerate((blank, layer(), blank)):
        assert send_ahead(served, painter, content, index=index).ok
    message = saved(served, painter, {"id": "mine"})
    assert read_layout(message["output"]["data"][0]["value"]["path"]).segments[0].text == "a tree"
    for index in (app.MAX_LAYERS, 5_000_000, -1, "x"):
        assert send_ahead(served, painter, layer(), index=index).status_code == 400
    heavy = layer() + bytes(app.MAX_LAYER_BYTES)
    assert send_ahead(served, painter, heavy).status_code == 413
    assert not painter.blob_storage
    (tmp_path / "layer.png").write_bytes(layer())
    crowd = {"layers": [upload(served, tmp_path / "layer.png")] * (app.MAX_LAYERS + 1)}
    assert "at most" in check_sentence(saved(served, painter, crowd)["output"]["error"])


def test_what_nobody_comes_for_is_dropped(served, painter):
    names = [f"visitor {i}" for i in range(app.MAX_PAINTINGS + 3)]
    for name in names:
        assert send_ahead(served, painter, layer((64, 64)), id=name).ok
    assert list(painter.blob_storage) == names[3:]


def test_a_mode_without_alpha_keeps_its_paint(served, painter):
    paint = Image.new("RGB", (512, 512), easel.PALETTE[1])
    assert send_ahead(served, painter, png(paint)).ok
    message = saved(served, painter, {"id": "mine"})
    assert not message["success"]  # segment 2 has no words
    assert "2" in check_sentence(message["output"]["error"])
