"""What a layout brings with the shipped models: things where they were painted."""

import numpy as np
import pytest

from pipelines import easel, packs
from pipelines.examples import examples, new_toy
from pipelines.jobs import Gate
from pipelines.layouts import Layout, Segment
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.workbench import Services, task

SEED = 0


@pytest.fixture(scope="module")
def services():
    pack = packs.find("toybox")
    cache = ModelCache(2**30, packs.LOADERS, packs={pack.name: pack})
    return Services(cache, Memo(2**20), Gate(), pack, lambda image, name: image)


def painted(services, layout, *names, picture=None):
    """Results of methods with the pack's defaults."""
    tasks = [task(name, services.pack.defaults.get(name, {}), "layouts") for name in names]
    order = easel.PaintOrder(layout, SEED, tasks, picture)
    return easel.carry_out(services, order, lambda step: None).results


def test_the_true_layout_of_a_toy_scene_gives_its_objects_where_they_were(services):
    found, chance = [], []
    for number in (1, 2, 5, 6):
        layout = easel.toy_layout(new_toy(number))
        ours, plain = painted(services, layout, "zestguide", "plain_sampling")
        found += ours.numbers["overlaps"]
        chance += plain.numbers["overlaps"]
    assert len(found) >= 6
    assert np.mean(found) > 0.6
    assert np.mean(found) > np.mean(chance) + 0.2


def test_a_thing_is_put_into_a_picture_and_the_rest_stays(services):
    toy = next(e.toy for e in examples() if e.name == "horse-to-zebra")
    rows, columns = np.mgrid[:128, :128]
    free = (((columns - 32) / 30) ** 2 + ((rows - 106) / 20) ** 2 < 1).astype(np.uint8)
    free[toy.labels > 0] = 0  # grass, beside the horse
    layout = Layout(toy.scene.place, (Segment("a blue car"),), free)
    (made,) = painted(services, layout, "zestguide", picture=toy.image)
    assert made.numbers["overlaps"][0] > 0.4
    changed = (np.asarray(made.picture) != np.asarray(toy.image)).any(-1)
    assert changed[free > 0].mean() > 0.5
    assert not changed[:70].any()
