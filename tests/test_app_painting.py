"""Painting over HTTP, with small untrained networks."""

from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from test_app import check_sentence

from pipelines import packs


@pytest.fixture(scope="module")
def client(served):
    return Client(served[1], verbose=False)


def test_a_painting_carries_a_recipe_that_paints_its_bytes_again(client, tmp_path):
    labels = np.full((64, 64, 3), 255, np.uint8)
    labels[20:50, 4:28] = (255, 0, 0)
    labels[10:50, 36:56] = (0, 0, 255)
    Image.fromarray(labels).save(tmp_path / "labels.png")

    def paint(file, **options):
        given = {"words": [], "seed": 4, "parameters": {"num_steps": 5}}
        return client.predict(
            layout=handle_file(file), api_name="/paint", **{"prompt": "", **given, **options}
        )

    words = ["a tree", "a red car"]  # the larger segment first
    picture, report = paint(tmp_path / "labels.png", prompt="at night", words=words)
    assert [segment["text"] for segment in report["recipe"]["segments"]] == words
    again, _ = paint(picture)  # layout, prompt and words come out of the picture itself
    assert Path(again).read_bytes() == Path(picture).read_bytes()
    photo = tmp_path / "photo.png"
    Image.effect_noise((90, 70), 60).convert("RGB").save(photo)
    kept, report = paint(tmp_path / "labels.png", words=words, picture=handle_file(photo))
    assert report["recipe"]["initial"]
    before, after = (np.asarray(Image.open(path).convert("RGB")) for path in (photo, kept))
    assert (before[:, :10] == after[:, :10]).all()  # beyond the central square
    assert (before != after).any()
    right, report = paint(
        tmp_path / "labels.png", words=words, picture=handle_file(photo), window={"across": 1.0}
    )
    assert report["recipe"]["window"] == {"across": 1.0, "down": 0.5, "size": 1.0}
    moved = np.asarray(Image.open(right).convert("RGB"))
    assert (before[:, :20] == moved[:, :20]).all()
    assert (before[:, 80:] != moved[:, 80:]).any()
    for options, phrase in (
        ({"words": words, "window": [1]}, "across, down and size"),
        ({}, "has no words"),
        ({"words": ["a tree"]}, "list of as many texts"),
        ({"words": [1, 2]}, "list of as many texts"),
        ({"words": words, "method": "diffedit"}, "must be one of"),
    ):
        with pytest.raises(AppError) as caught:
            paint(tmp_path / "labels.png", **options)
        assert phrase in check_sentence(str(caught.value))


def test_methods_are_described_with_the_defaults_of_the_pack(client):
    described = client.predict(api_name="/methods")
    for method, values in packs.find("toybox").defaults.items():
        shown = {spec["name"]: spec["default"] for spec in described[method]["parameters"]}
        assert shown | values == shown
