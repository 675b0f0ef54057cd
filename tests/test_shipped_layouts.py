"""What a layout brings with the shipped models: things where they were painted."""

import itertools

import numpy as np
import pytest
from PIL import Image

from pipelines import easel, packs
from pipelines.data.captions import describe
from pipelines.data.scenes import render, sample_scene
from pipelines.examples import examples, new_toy
from pipelines.jobs import Gate
from pipelines.layouts import Layout, Segment, check_layout
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.verdicts import overlap
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


def test_two_things_of_one_class_are_measured_each_at_its_place(services):
    scenes = (sample_scene(seed) for seed in range(4000))
    twins = (s for s in scenes if len(s.things) == 2 and len({t.class_name for t in s.things}) == 1)
    for scene in itertools.islice(twins, 3):
        shown = render(scene)
        texts = [describe(thing) for thing in scene.things]
        layout = check_layout(scene.place, texts, shown.labels)
        order = easel.PaintOrder(layout, SEED, [])
        assert min(easel.overlaps(services, order, Image.fromarray(shown.image))) > 0.6


def test_two_segments_with_the_same_words_are_painted_as_one_would_be(services):
    rows, columns = np.mgrid[:128, :128]
    labels = np.zeros((128, 128), np.uint8)
    for i, middle in ((1, 36), (2, 92)):
        labels[((columns - middle) / 22) ** 2 + ((rows - 84) / 22) ** 2 < 1] = i
    apart = Layout("on the grass", (Segment("a blue car"), Segment("a blue car")), labels)
    one = Layout("on the grass", (Segment("a blue car"),), (labels > 0).astype(np.uint8))
    (two,), (joint,) = (painted(services, layout, "zestguide") for layout in (apart, one))
    with services.cache.lease("toybox", "scene_segmenter") as segmenter:
        cars = [segmenter.class_map(p.picture) == segmenter.class_of("car") for p in (two, joint)]
    area = [overlap(seen * 1.0, one.labels) for seen in cars]
    assert area[0] > 0.6 and area[0] > area[1] - 0.1


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
