"""Retrieval over HTTP, with small untrained networks."""

import zipfile

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from test_app import HORSE, Listener, check_sentence, upload

from pipelines.data.simat_scenes import agrees
from pipelines.data.spec import Scene


@pytest.fixture(scope="module")
def client(served):
    return Client(served[1], verbose=False)


def retrieve(client, image=HORSE, source="horse", target="zebra", **options):
    given = {"clip": "clip_vit", "parameters": {"k": 3}, **options}
    return client.predict(
        image=image if image is None else handle_file(image), source_word=source,
        target_word=target, api_name="/retrieve", **given,
    )  # fmt: skip


def test_a_toy_scene_is_moved_and_judged(client):
    picture, told = client.predict(seed=11, api_name="/new_scene")
    shown = Scene.from_dict(told["scene"])
    value = shown.things[0].class_name
    target = "cat" if value != "cat" else "dog"
    found, report = retrieve(client, picture, value, target)
    assert len(report["results"]) == 3
    scores = [one["score"] for one in report["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(one["agrees"] in (True, False) for one in report["results"])
    assert list(report["baselines"])[-2:] == ["Image to text to image", "Image only"]
    assert agrees(shown, value, target, shown) is False
    stronger = retrieve(client, picture, value, target, parameters={"k": 3, "scale": 5.0})[1]
    assert stronger["results"] != report["results"]
    assert found


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"image": None}, "choose a picture"),
        ({"source": ""}, "two words"),
        ({"target": "horse"}, "the same"),
        ({"clip": "no such"}, "one of the CLIPs"),
        ({"parameters": [1]}, "names and values"),
        ({"parameters": {"scale": 99}}, "from 0 to 5"),
        ({"parameters": {"heads": "2"}}, "must be one of"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(client, options, phrase):
    with pytest.raises(AppError) as caught:
        retrieve(client, **options)
    assert phrase in check_sentence(str(caught.value))


def test_a_visitors_own_zip_file_is_indexed_and_a_bad_one_refused(served, tmp_path):
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    with zipfile.ZipFile(good, "w") as archive:
        archive.write(HORSE, "deep/horse.png")
        archive.writestr("broken.png", b"no picture")
    bad.write_bytes(b"PK no zip")
    with Listener(served, "index", [[upload(served, good)], "clip_vit", "toybox"]) as job:
        output = job.completed()["output"]["data"]
    assert "Pictures ready: 1. Left out: 1." in str(output)
    assert "My pictures" in str(output)
    with Listener(served, "index", [[upload(served, bad)], "clip_vit", "toybox"]) as job:
        message = job.completed()
    assert not message["success"]
    assert "damaged" in check_sentence(message["output"]["error"])
