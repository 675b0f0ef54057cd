"""The served app over HTTP, with small untrained networks: limits, refusals, lock, Stop."""

import base64
import contextlib
import functools
import io
import json
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from pipelines import recipes
from pipelines.examples import FOLDER

HORSE = FOLDER / "horse-to-zebra.png"
QUICK = {"num_steps": 5, "num_maps": 1}
LONG = {"num_steps": 100, "strength": 1.0, "solver": "ddim", "guidance_scale": 12.0}
PATIENCE_S = 120


@pytest.fixture(scope="module")
def client(served):
    return Client(served[1], verbose=False)


def edit(client, image=HORSE, source="a horse", target="a zebra", **options):
    """Call /edit; returns (picture path, mask path, report)."""
    given = {"method": "copy", "seed": 0, "parameters": {}, **options}
    image = handle_file(image) if isinstance(image, str | Path) else image
    return client.predict(
        image=image, source_text=source, target_text=target, api_name="/edit", **given
    )


def refused(client, **options):
    """Return the sentence of a refusal."""
    with pytest.raises(AppError) as caught:
        edit(client, **options)
    return check_sentence(str(caught.value))


def check_sentence(sentence):
    """Return it if it is one: no traceback, no path, no "something went wrong"."""
    assert sentence[0].isupper() and sentence.endswith("."), sentence
    assert "Traceback" not in sentence and "/" not in sentence, sentence
    assert sentence != app.OURS
    return sentence


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


# ---------------------------------------------------------------- what is offered


def test_only_the_intended_endpoints_are_public(served):
    info = requests.get(f"{served[1]}/gradio_api/info", timeout=30).json()
    public = "/edit", "/face", "/methods", "/new_scene", "/packs", "/paint", "/retrieve"
    assert sorted(info["named_endpoints"]) == list(public)
    assert info["unnamed_endpoints"] == {}
    config = requests.get(f"{served[1]}/config", timeout=30).json()
    names = [str(dependency["api_name"]) for dependency in config["dependencies"]]
    assert not [name for name in names if "lambda" in name]


def test_methods_are_described_as_declared(client):
    described = client.predict(api_name="/methods")
    assert list(described) == [*(method.name for method in app.METHODS.values()), "face"]
    assert "refine_steps" in [spec["name"] for spec in described["face"]["parameters"]]
    strength = next(p for p in described["diffedit"]["parameters"] if p["name"] == "strength")
    assert strength["low"] < strength["default"] < strength["high"]


def test_a_new_scene_is_its_seed(client):
    one, same = (client.predict(seed=7, api_name="/new_scene") for _ in range(2))
    assert one[1] == same[1]
    assert Path(one[0]).read_bytes() == Path(same[0]).read_bytes()


# ---------------------------------------------------------------- an edit


def test_an_edit_carries_a_recipe_that_makes_its_bytes_again(client):
    picture, mask, report = edit(client, method="diffedit", seed=3, parameters=QUICK)
    recipe = report["recipe"]
    with Image.open(picture) as opened:
        assert json.loads(opened.info[recipes.PNG_KEY]) == recipe
        assert recipes.fingerprint(opened.convert("RGB")) == recipe["result"]
    assert Path(mask).is_file()
    numbers = report["numbers"]
    assert numbers["changed"] in (0, None) and min(numbers["lpips"], numbers["clip"]) >= 0
    again = edit(
        client,
        method=recipe["method"],
        source=recipe["source_text"],
        target=recipe["target_text"],
        seed=recipe["seed"],
        parameters=recipe["parameters"],
    )
    assert Path(again[0]).read_bytes() == Path(picture).read_bytes()


def test_numbers_come_with_the_reason_for_a_missing_one(client):
    _, mask, report = edit(client, source="a horse", target="a flamingo")
    assert mask is None
    assert report["numbers"]["success"] is None and report["numbers"]["evaluations"] == 0
    assert any("flamingo" in note for note in report["notes"])


def test_two_visitors_at_once_get_their_own_results_one_after_the_other(served, watched_cache):
    seeds, results = (1, 2, 3), {}
    watched_cache.peak = 0

    def visit(seed):
        visitor = Client(served[1], verbose=False)
        results[seed] = edit(visitor, method="sdedit", seed=seed, parameters={"num_steps": 5})

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert watched_cache.peak == 1
    assert all(result[2]["recipe"]["seed"] == seed for seed, result in results.items())
    assert len({result[2]["recipe"]["result"] for result in results.values()}) == len(seeds)


def test_a_cancelled_job_ends_and_the_next_visitor_gets_in(served, client, watched_cache):
    edit(client)  # the model is there
    before = watched_cache.jobs
    slow = Client(served[1], verbose=False)
    job = slow.submit(handle_file(HORSE), "a horse", "a zebra", "sdedit", 0, LONG, api_name="/edit")
    watched_cache.wait_until(lambda cache: cache.jobs > before)
    job.cancel()
    watched_cache.wait_until(lambda cache: cache.held == 0)
    assert edit(client)[2]["recipe"]["method"] == "copy"


def test_stop_ends_the_visitors_own_job_only(served, client, watched_cache):
    edit(client)
    before = watched_cache.jobs
    stop = next(f for f in served[0].fns.values() if f.api_name == "stop")
    with Listener(
        served, "edit", [upload(served, HORSE), "a horse", "a zebra", "sdedit", 0, LONG]
    ) as job:
        watched_cache.wait_until(lambda cache: cache.jobs > before)
        stranger = {"data": [None], "fn_index": stop._id, "session_hash": "stranger"}
        requests.post(f"{served[1]}/gradio_api/run/predict", json=stranger, timeout=30)
        assert watched_cache.held == 1
        mine = {**stranger, "session_hash": job.session}
        assert requests.post(f"{served[1]}/gradio_api/run/predict", json=mine, timeout=30).ok
        watched_cache.wait_until(lambda cache: cache.held == 0)
        assert job.completed()["output"]["data"][2] == {"status": "Stopped."}


class Listener:
    """A page's own way to run an event: join the queue, listen to the session's stream."""

    def __init__(self, served, api_name, data, session=None):
        demo, self.address = served
        function = next(f for f in demo.fns.values() if f.api_name == api_name)
        self.session = session or uuid.uuid4().hex
        states = len(function.inputs) - len(data)
        body = {"data": [*data, *[None] * states], "fn_index": function._id}
        body["session_hash"] = self.session
        requests.post(
            f"{self.address}/gradio_api/queue/join",
            data=json.dumps(body),
            headers={"content-type": "application/json"},
            timeout=30,
        ).raise_for_status()

    def __enter__(self):
        self.stream = requests.get(
            f"{self.address}/gradio_api/queue/data",
            params={"session_hash": self.session},
            stream=True,
            timeout=PATIENCE_S,
        )
        return self

    def __exit__(self, *error):
        self.stream.close()

    def completed(self):
        """Wait for the closing message and return it."""
        lines = (json.loads(line[6:]) for line in self.stream.iter_lines() if line)
        return next(line for line in lines if line["msg"] == "process_completed")


def upload(served, path):
    with Path(path).open("rb") as file:
        answer = requests.post(
            f"{served[1]}/gradio_api/upload", files={"files": (Path(path).name, file)}, timeout=30
        )
    answer.raise_for_status()
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


# ---------------------------------------------------------------- pictures that are refused


def noise(mode="RGB", size=(40, 30)):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def truncated():
    whole = png(noise(size=(200, 200)))
    return whole[: len(whole) // 2]


def animated():
    frames = [noise("P"), Image.new("P", (40, 30))]
    return png(frames[0], format="GIF", save_all=True, append_images=frames[1:])


def turned():
    image = noise()
    exif = image.getexif()
    exif[274] = 6
    return png(image, format="JPEG", exif=exif)


def sixteen_bit():
    ramp = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    return png(Image.fromarray(ramp))


GOOD = {
    "grey.png": (lambda: png(noise("L")), (40, 30)),
    "alpha.png": (lambda: png(noise("RGBA")), (40, 30)),
    "palette.png": (lambda: png(noise("P")), (40, 30)),
    "grey_alpha.png": (lambda: png(noise("LA")), (40, 30)),
    "cmyk.jpg": (lambda: png(noise("CMYK"), format="JPEG"), (40, 30)),
    "animated.gif": (animated, (40, 30)),
    "picture.webp": (lambda: png(noise(), format="WEBP"), (40, 30)),
    "turned.jpg": (turned, (30, 40)),
    "sixteen_bit.png": (sixteen_bit, (40, 30)),
}
BAD = {
    "empty.png": (lambda: b"", "empty"),
    "page.png": (lambda: b"<html><body>hello</body></html>", "no picture"),
    "drawing.svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG"),
    "truncated.png": (truncated, "damaged"),
    "dot.png": (lambda: png(Image.new("RGB", (1, 1))), "at least 16"),
    "line.png": (lambda: png(Image.new("RGB", (10_000, 20))), "8 times"),
    "bomb_81.png": (lambda: png(Image.new("1", (9_000, 9_000))), "megapixels"),
    "bomb_400.png": (lambda: png(Image.new("1", (20_000, 20_000))), "megapixels"),
    "float.tif": (lambda: png(Image.new("F", (40, 30)), format="TIFF"), "8-bit"),
}


@functools.cache
def content(name):
    return {**GOOD, **BAD}[name][0]()


def as_file(served, name, folder):
    path = folder / name
    path.write_bytes(content(name))
    return upload(served, path)


def as_url(served, name, folder):
    kind = "jpeg" if name.endswith("jpg") else name.rpartition(".")[2]
    data = f"data:image/{kind};base64,{base64.b64encode(content(name)).decode()}"
    return {"path": None, "url": data, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def copied(served, image):
    """Run /edit with the method Copy over raw HTTP; returns the closing message."""
    with Listener(served, "edit", [image, "a horse", "a zebra", "copy", 0, {}]) as job:
        return job.completed()


@pytest.mark.parametrize("sent", [as_file, as_url])
@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_picture_arrives_as_rgb(served, tmp_path, name, sent):
    message = copied(served, sent(served, name, tmp_path))
    assert message["success"], message
    with Image.open(message["output"]["data"][0]["path"]) as opened:
        assert (opened.mode, opened.size) == ("RGB", GOOD[name][1])


@pytest.mark.parametrize("sent", [as_file, as_url])
@pytest.mark.parametrize("name", BAD)
def test_every_bad_picture_is_refused_with_a_sentence(served, tmp_path, name, sent):
    message = copied(served, sent(served, name, tmp_path))
    assert not message["success"]
    assert BAD[name][1] in check_sentence(message["output"]["error"])


def test_a_broken_data_url_is_refused_with_a_sentence(served):
    broken = {"path": None, "url": "data:image/png;base64,%%%"}
    message = copied(served, {**broken, "meta": {"_type": "gradio.FileData"}})
    assert "again" in check_sentence(message["output"]["error"])


def test_no_picture_is_refused_with_a_sentence(client):
    assert "choose a picture" in refused(client, image=None)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", str(Path(app.__file__)), "/proc/self/environ", "../app.py"]
)
def test_foreign_files_are_neither_read_nor_served(served, client, path):
    foreign = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert not copied(served, foreign)["success"]
    assert requests.get(f"{served[1]}/gradio_api/file={path}", timeout=30).status_code >= 400


def test_text_never_becomes_a_file(served, client):
    picture, _, report = edit(client, source="/etc/passwd", target="/etc/hostname")
    cache = Path(app.gr.utils.get_upload_folder()).resolve()
    assert "passwd" not in Path(picture).name
    assert report["recipe"]["target_text"] == "/etc/hostname"
    copy = Path(copied(served, upload(served, HORSE))["output"]["data"][0]["path"])
    assert copy.resolve().is_relative_to(cache)


def test_oversized_requests_are_refused(served):
    files = {"files": ("big.png", b"0" * (app.MAX_UPLOAD_BYTES + 1024))}
    answer = requests.post(f"{served[1]}/gradio_api/upload", files=files, timeout=60)
    assert answer.status_code == 413
    with contextlib.suppress(requests.ConnectionError):  # it answers before it has read all
        join, body = f"{served[1]}/gradio_api/queue/join", b"0" * (app.MAX_BODY_BYTES + 1)
        assert requests.post(join, data=body, timeout=60).status_code == 413
        chunks = (body[i : i + 65536] for i in range(0, len(body), 65536))  # without a length
        assert requests.post(join, data=chunks, timeout=60).status_code == 413


# ---------------------------------------------------------------- words and numbers


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"target": ""}, "target text"),
        ({"target": "   "}, "target text"),
        ({"target": "zebra " * 40_000}, "1000 characters"),
        ({"source": "x" * 200_000}, "1000 characters"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**40}, "seed"),
        ({"seed": None}, "seed"),
        ({"method": "no such method"}, "method must be one of"),
        ({"parameters": [1, 2]}, "names and values"),
        ({"method": "sdedit", "parameters": {"strength": 7}}, "from 0.1 to 1"),
        ({"method": "sdedit", "parameters": {"strength": None}}, "must be a number"),
        ({"method": "sdedit", "parameters": {"strength": True}}, "must be a number"),
        ({"method": "sdedit", "parameters": {"strength": "0.5"}}, "must be a number"),
        ({"method": "sdedit", "parameters": {"solver": "magic"}}, "must be one of"),
        ({"method": "sdedit", "parameters": {"no_such": 1}}, "not known here"),
    ],
)
def test_bad_words_and_numbers_are_refused_with_a_sentence(client, options, phrase):
    assert phrase in refused(client, **options)


def test_odd_words_are_edited_all_the_same(client):
    for target in (
        'a <b>zebra</b> & "quotes"',
        "зебра 斑馬 🦓",
        "a\nzebra\t, at night",
        "a " * 400,
    ):
        assert edit(client, target=target)[2]["recipe"]["method"] == "copy"


def test_a_parameter_off_its_grid_is_rounded_and_said_so(client):
    values = {"strength": 0.5372, "num_steps": 5}
    report = edit(client, method="sdedit", parameters=values)[2]
    assert report["recipe"]["parameters"]["strength"] == 0.55


def test_not_a_number_is_refused(served):
    values = {"strength": float("nan")}  # the client would not send it
    data = [upload(served, HORSE), "a horse", "a zebra", "sdedit", 0, values]
    with Listener(served, "edit", data) as job:
        message = job.completed()
    assert not message["success"]
    assert "number" in check_sentence(message["output"]["error"])
