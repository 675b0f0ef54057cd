"""ZeroGPU: the real package where it is installed, and a fork that keeps to what it demands."""

import functools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import forked_gpu
import pytest
import torch
from PIL import Image
from tiny_pack import CPU

import app
from pipelines import zerogpu
from pipelines.errors import Cancelled, InputError
from pipelines.jobs import Done, Gate
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.results import Step
from pipelines.workbench import Order, Services, carry_out, task

ROOT = Path(app.__file__).parent


def no_gpu(*, duration):
    """As `spaces.GPU` off ZeroGPU: the function as it is."""
    return lambda function: function


@pytest.fixture(scope="module")
def services(watched_cache, untrained_pack):
    packs = {untrained_pack.name: untrained_pack}
    cache = ModelCache(2**30, watched_cache._loaders, device=CPU, packs=packs)
    return Services(cache, Memo(2**20), Gate(), untrained_pack, app.file_picture)


@pytest.fixture(scope="module", params=[no_gpu, forked_gpu.gpu], ids=["here", "forked"])
def loan(request, services):
    return zerogpu.Loan(request.param, services, device=CPU)


def order_of():
    values = {"num_steps": 5, "solver": "ddim"}
    picture = Image.new("RGB", (160, 128), "teal")
    tasks = [task("sdedit", values), task("diffedit", values)]
    return Order(picture, "a cat", "a dog", 3, tasks)


def value_of(run):
    *_, last = run
    assert isinstance(last, Done)
    return last.value


def test_an_edit_there_is_the_edit_here(services, loan):
    here = value_of(Gate().run("me", functools.partial(carry_out, services, order_of())))
    services.cache.evict_idle()
    sent = order_of()
    work = functools.partial(carry_out, services, sent)
    steps = []
    there = loan.carry_out(work, steps.append)
    told = [[one.recipe for one in order.results] for order in (here, there)]
    assert told[0] == told[1] and len(told[0]) == 2
    assert {step.stage for step in steps} >= {"encoding", "decoding"}
    assert all(Path(one.after).is_file() for one in there.results)
    assert sent.results == [] and there is not sent
    assert services.cache.state() == ()


def test_models_of_the_gpu_are_there_before_the_first_fork(services, loan):
    ready = {entry.name.rpartition("/")[2] for entry in loan.cache.state()}
    assert ready == set(services.pack.components) - zerogpu.LIGHT
    assert {"latent_diffusion", "lpips_loss", "clip_vit", "scene_judge"} <= ready


def stubborn(on_step):
    while True:
        time.sleep(0.01)
        on_step(Step("decoding", 1, 2, lambda: Image.new("RGB", (400, 200))))


def refusing(on_step):
    raise InputError("Please choose something else.")


def test_previews_cross_and_stop_reaches_the_other_side(loan):
    gate = Gate()
    with closing(gate.run("me", functools.partial(loan.carry_out, stubborn))) as run:
        preview = next(update.preview for update in run if update.preview)
        assert preview.size == (256, 128)
        gate.stop("me")
        with pytest.raises(Cancelled):
            list(run)


def test_errors_cross_with_their_sentences(loan):
    with pytest.raises(InputError, match="Please choose something else"):
        loan.carry_out(refusing, lambda step: None)


def test_tensors_come_home_as_they_are():
    own = (object(),)
    back = zerogpu._unpickled(zerogpu._pickled((own[0], torch.arange(3)), own), own)
    assert back[0] is own[0] and back[1].tolist() == [0, 1, 2]


def test_off_zerogpu_nothing_is_lent_or_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert zerogpu.lender({}) is None and zerogpu.lender({"SPACES_ZERO_GPU": "false"}) is None


def test_a_space_without_the_package_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "spaces", None)
    with caplog.at_level(logging.WARNING):
        assert zerogpu.lender({"SPACES_ZERO_GPU": "true"}) is None
    assert "no package “spaces”" in caplog.text


def test_the_app_on_a_loan_offers_its_own_pack_only(services):
    demo = app.build(cache=services.cache, pack=services.pack, gpu=forked_gpu.gpu)
    menu = next(b for b in demo.blocks.values() if getattr(b, "elem_id", None) == "packs")
    assert menu.choices == [(services.pack.title, services.pack.name)]


def test_the_real_package_lends_nothing_here(services):
    spaces = pytest.importorskip("spaces")
    loan = zerogpu.Loan(spaces.GPU, services, device=CPU)
    assert loan.carry_out(sum_of, lambda step: None) == 6


def sum_of(on_step):
    on_step(Step("mask", 1, 1))
    return 6


class DeviceApi(BaseHTTPRequestHandler):
    """The few answers of ZeroGPU's device service that its client asks for."""

    asked: list[str] = []

    def do_POST(self):
        self.asked.append(self.path.partition("?")[0])
        lent = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"}
        content = json.dumps(lent).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


ON_ZEROGPU = """
import functools
import spaces
from spaces.zero import torch as away
away.unpatch()  # what needs a GPU is left out: the stand-ins for CUDA, and the way there
away.unpatch, away.init, away.move = lambda: None, lambda uuid: None, lambda callback: None

import app
from pipelines import packs, zerogpu
from pipelines.devices import pick
from pipelines.jobs import Done, Gate
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.workbench import Services
from test_zerogpu import carry_out, order_of

cpu, toybox = pick({"SEMEDIT_DEVICE": "cpu"}), packs.find("toybox")
cache = ModelCache(2**30, packs.LOADERS, device=cpu)
services = Services(cache, Memo(2**20), Gate(), toybox, app.file_picture)
loan = zerogpu.Loan(zerogpu.lender(), services, device=cpu)
work = functools.partial(carry_out, services, order_of())
for _ in range(2):
    *_, last = Gate().run("me", functools.partial(loan.carry_out, work))
    assert isinstance(last, Done) and len(last.value.results) == 2
assert cache.state() == ()
"""


@pytest.mark.slow
def test_the_real_package_forks_and_answers(tmp_path):
    pytest.importorskip("spaces")
    server = ThreadingHTTPServer(("127.0.0.1", 0), DeviceApi)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/kubepods/pod\n1:devices:/kubepods/pod\n")
    environ = {
        **os.environ, "SPACES_ZERO_GPU": "true", "PYTHONPATH": os.pathsep.join(sys.path),
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_port}",
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(cgroup), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", ON_ZEROGPU]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-2000:]
    assert DeviceApi.asked == ["/schedule", "/allow", "/release", "/schedule", "/allow", "/release"]
