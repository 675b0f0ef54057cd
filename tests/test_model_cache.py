import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines import packs
from pipelines.devices import Device
from pipelines.errors import Cancelled, InputError, OutOfMemory
from pipelines.model_cache import ModelCache
from pipelines.packs import Component, Pack
from pipelines.results import Step

CPU = Device("cpu", torch.device("cpu"), torch.float32)
SIZE = 64 * 64 * 4  # bytes of one model
NAMES = ("a", "b", "c", "d")


class Model(nn.Linear):
    @property
    def nbytes(self):
        return self.weight.nbytes


def load(folder, device):
    model = Model(64, 64, bias=False)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(device.torch_device, device.dtype)


class CountingLoader:
    """Loads real files; `before` runs first, to wait or to fail."""

    def __init__(self, before=lambda folder: None):
        self.before = before
        self.calls = []

    def __call__(self, folder, device):
        self.calls.append(folder.name)
        self.before(folder)
        return load(folder, device)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A pack of four models on disk; model i is filled with i."""
    monkeypatch.setattr(packs, "ASSETS", tmp_path)
    for i, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        save_file({"weight": torch.full((64, 64), float(i))}, tmp_path / name / "model.safetensors")
    components = {name: Component("linear", name) for name in NAMES}
    return {"shelf": Pack("shelf", "Shelf", "Apache-2.0", 64, components)}


@pytest.fixture
def build(shelf):
    def make(budget_models=4, loader=load, device=CPU):
        budget_bytes = int(budget_models * SIZE)
        return ModelCache(budget_bytes, {"linear": loader}, device=device, packs=shelf)

    return make


def use(cache, *names):
    for name in names:
        with cache.lease("shelf", name):
            pass


def loaded(cache):
    return [entry.name.removeprefix("shelf/") for entry in cache.state()]


def wait_until(condition):
    """Return once the condition holds; the tests' only way to see that threads have arrived."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


def run_out_of_memory():
    torch.empty(2**60, dtype=torch.uint8)


def test_lease_gives_the_model_and_keeps_it(build):
    loader = CountingLoader()
    cache = build(loader=loader)
    with cache.lease("shelf", "b") as model:
        assert torch.equal(model.weight, torch.ones(64, 64))
    with cache.lease("shelf", "b") as again:
        assert again is model
    assert loader.calls == ["b"]


def test_nothing_is_loaded_before_it_is_asked_for(build):
    assert build().state() == ()


def test_state_tells_loading_leased_ready(build):
    seen = []
    cache = build(loader=CountingLoader(lambda folder: seen.extend(cache.state())))
    with cache.lease("shelf", "a"), cache.lease("shelf", "a"):
        seen.extend(cache.state())
    seen.extend(cache.state())
    assert [(entry.state, entry.leases, entry.nbytes, entry.device) for entry in seen] == [
        ("loading", 1, 0, ""),
        ("leased", 2, SIZE, "cpu"),
        ("ready", 0, SIZE, "cpu"),
    ]
    assert {entry.name for entry in seen} == {"shelf/a"}
    assert seen[2].load_s >= 0


def test_single_flight(build):
    count = 8
    all_ask = CountingLoader(lambda folder: wait_until(lambda: cache.state()[0].leases == count))
    cache = build(loader=all_ask)

    def ask():
        with cache.lease("shelf", "a") as model:
            return model

    with ThreadPoolExecutor(count) as pool:
        models = [job.result() for job in [pool.submit(ask) for _ in range(count)]]
    assert all_ask.calls == ["a"]
    assert all(model is models[0] for model in models)
    assert cache.state()[0].state == "ready"


def test_different_models_load_side_by_side(build):
    both = threading.Barrier(2)
    cache = build(loader=CountingLoader(lambda folder: both.wait()))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(use, cache, name) for name in "ab"]
        for job in jobs:
            job.result()
    assert sorted(loaded(cache)) == ["a", "b"]


def test_failed_load_reaches_all_waiters_and_can_be_tried_again(build):
    count = 4

    def fail(folder):
        wait_until(lambda: cache.state()[0].leases == count)
        raise OSError("broken file")

    loader = CountingLoader(fail)
    cache = build(loader=loader)
    with ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(use, cache, "a") for _ in range(count)]
        errors = [job.exception() for job in jobs]
    assert loader.calls == ["a"]
    assert isinstance(errors[0], OSError)
    assert all(error is errors[0] for error in errors)
    assert cache.state() == ()
    loader.before = lambda folder: None
    use(cache, "a")
    assert loaded(cache) == ["a"]


def test_a_download_one_visitor_stops_goes_on_for_the_other(build, shelf, monkeypatch):
    """Whoever waits for the same model takes the loading over."""
    both = threading.Event()

    def locate(self, on_step=None):
        if on_step is not None:
            both.set()
            wait_until(lambda: cache.state()[0].leases == 2)
            on_step(Step("downloading", 1, 2))
        return packs.ASSETS / self.source

    def stop(step):
        raise Cancelled

    def impatient():
        with cache.lease("shelf", "a", stop):
            pass

    monkeypatch.setattr(Component, "locate", locate)
    cache = build()
    with ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(impatient)
        both.wait()
        use(cache, "a")
        assert isinstance(stopped.exception(), Cancelled)
    assert loaded(cache) == ["a"]


def test_missing_files_get_a_sentence(build, shelf, tmp_path):
    (tmp_path / "a" / "model.safetensors").unlink()
    (tmp_path / "a").rmdir()
    with pytest.raises(InputError, match="missing from this copy"):
        use(build(), "a")


def test_least_recently_used_goes_first(build):
    cache = build(budget_models=2)
    use(cache, "a", "b", "a", "c")
    assert loaded(cache) == ["a", "c"]
    use(cache, "d")
    assert loaded(cache) == ["c", "d"]


def test_last_use_is_the_end_of_the_lease(build):
    cache = build(budget_models=2)
    with cache.lease("shelf", "a"):
        use(cache, "b")
    use(cache, "c")
    assert loaded(cache) == ["a", "c"]


def test_leases_pin_beyond_the_budget(build):
    loader = CountingLoader()
    cache = build(budget_models=1, loader=loader)
    with cache.lease("shelf", "a") as first, cache.lease("shelf", "b"):
        use(cache, "c")
        assert loaded(cache) == ["a", "b"]
        assert cache.evict_idle() == 0
        with cache.lease("shelf", "a") as again:
            assert again is first
    assert len(loaded(cache)) == 1
    assert loader.calls == ["a", "b", "c"]


def test_the_only_model_stays_even_above_the_budget(build):
    loader = CountingLoader()
    cache = build(budget_models=0.5, loader=loader)
    use(cache, "a", "a")
    assert loader.calls == ["a"]
    use(cache, "b")
    assert loaded(cache) == ["b"]


def test_an_evicted_model_is_freed(build):
    cache = build(budget_models=1)
    with cache.lease("shelf", "a") as model:
        gone = weakref.ref(model)
    del model
    assert gone() is not None
    use(cache, "b")
    assert gone() is None


def test_an_error_in_the_block_ends_the_lease(build):
    cache = build()
    with pytest.raises(ZeroDivisionError), cache.lease("shelf", "a"):
        _ = 1 // 0
    assert [(entry.state, entry.leases) for entry in cache.state()] == [("ready", 0)]


def test_load_out_of_memory_evicts_the_idle_and_tries_once_more(build):
    def needs_the_room_of_a(folder):
        if folder.name == "c" and "a" in loaded(cache):
            run_out_of_memory()

    loader = CountingLoader(needs_the_room_of_a)
    cache = build(loader=loader)
    use(cache, "a")
    with cache.lease("shelf", "b"):
        use(cache, "c")
        assert loaded(cache) == ["b", "c"]
    assert loader.calls == ["a", "b", "c", "c"]


def test_load_out_of_memory_twice_is_a_sentence_and_is_not_kept(build):
    loader = CountingLoader(lambda folder: folder.name == "c" and run_out_of_memory())
    cache = build(loader=loader)
    use(cache, "a")
    with pytest.raises(OutOfMemory, match="too little free memory") as caught:
        use(cache, "c")
    assert isinstance(caught.value, InputError)
    assert loader.calls == ["a", "c", "c"]
    assert cache.state() == ()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_run_out_of_memory_evicts_the_idle_and_runs_once_more(build, error):
    cache = build()
    use(cache, "a")
    seen = []

    def run():
        seen.append(loaded(cache))
        if len(seen) == 1:
            raise error
        return "edited"

    with cache.lease("shelf", "b"):
        assert cache.retry_on_out_of_memory(run) == "edited"
    assert seen == [["a", "b"], ["b"]]


def test_run_out_of_memory_twice_is_a_sentence(build):
    with pytest.raises(OutOfMemory, match="try again when others are done"):
        build().retry_on_out_of_memory(run_out_of_memory)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), InputError("Please."), OSError()])
def test_other_errors_pass_without_a_second_run(build, error):
    calls = []

    def run():
        calls.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        build().retry_on_out_of_memory(run)
    assert caught.value is error
    assert len(calls) == 1


def test_what_filled_the_memory_is_freed_before_the_second_run(build):
    held = []

    def run():
        if held:
            assert held[0]() is None
            return
        activations = torch.ones(8)
        held.append(weakref.ref(activations))
        run_out_of_memory()

    build().retry_on_out_of_memory(run)


def test_unknown_names_get_sentences(build):
    with pytest.raises(InputError, match="model packs: shelf"):
        build().lease("<b>", "a").__enter__()
    with pytest.raises(InputError, match="has no model for this"):
        use(build(), "no such role")
    with pytest.raises(ValueError, match="budget_bytes must be positive"):
        build(budget_models=0)


def test_the_device_is_picked_at_the_first_load(build, monkeypatch):
    monkeypatch.setenv("SEMEDIT_DEVICE", "cpu")
    monkeypatch.setenv("SEMEDIT_DTYPE", "bfloat16")
    cache = build(device=None)
    with cache.lease("shelf", "a") as model:
        assert model.weight.dtype == torch.bfloat16
    assert cache.state()[0].nbytes == SIZE // 2


def test_many_threads_many_models_small_budget(build):
    """No thread ever sees a wrong, half-loaded or evicted model, whatever the interleaving."""
    cache, start = build(budget_models=2), threading.Barrier(8)

    def visit(seed):
        rng = random.Random(seed)
        start.wait()
        for _ in range(5):
            i = rng.randrange(4)
            with cache.lease("shelf", NAMES[i]) as model:
                assert model.weight[0, 0].item() == i
                with cache.lease("shelf", NAMES[i]) as again:
                    assert again is model

    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(visit, seed) for seed in range(8)]:
            job.result()
    assert sum(entry.nbytes for entry in cache.state()) <= 2 * SIZE
    assert all(entry.leases == 0 for entry in cache.state())
