import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageFilter

import app
from pipelines import easel, images, params, recipes
from pipelines.data.captions import parse
from pipelines.errors import Cancelled, InputError
from pipelines.examples import examples as toys
from pipelines.jobs import Gate
from pipelines.layout_files import read_layout
from pipelines.layouts import Segment, check_layout, nearest_labels
from pipelines.memo import Memo
from pipelines.registry import METHODS, methods
from pipelines.workbench import Services, task

QUICK = {"num_steps": 5}


@pytest.fixture(scope="module")
def services(untrained_pack, watched_cache):
    """The untrained pack; files are kept in memory."""
    return Services(watched_cache, Memo(2**20), Gate(), untrained_pack, lambda image, name: image)


def order(layout, *names, picture=None, **values):
    tasks = [task(name, {**QUICK, **values}, "layouts") for name in names]
    return easel.PaintOrder(layout, 3, tasks, picture)


def test_a_layout_comes_back_from_the_layer_it_is_painted_on():
    for example in easel.examples():
        texts = [segment.text for segment in example.layout.segments]
        again = easel.layout_of(easel.layer_of(example.layout), example.layout.prompt, texts)
        assert again.segments == example.layout.segments
        small = Image.fromarray(again.labels).resize((128, 128), Image.Resampling.NEAREST)
        assert np.array_equal(np.asarray(small), example.layout.labels)


def test_examples_say_what_the_toybox_knows():
    for example in easel.examples():
        layout = example.layout
        check_layout(layout.prompt, [s.text for s in layout.segments], layout.labels)
        read = parse(layout.text)
        assert not read.unknown
        assert read.place
        assert len(read.things) == len(layout.segments)


def test_an_empty_canvas_gets_a_sentence():
    for layer in (None, Image.new("RGBA", (64, 64))):
        with pytest.raises(InputError, match="Nothing is painted"):
            easel.layout_of(layer, "at night", ["a cat"])


def test_the_layout_of_a_toy_names_every_thing_where_it_stands():
    toy = next(t.toy for t in toys() if t.name == "cow-to-sheep")
    layout = easel.toy_layout(toy)
    assert [segment.text for segment in layout.segments] == ["a cow", "a green tree"]
    assert layout.prompt == toy.scene.place
    assert np.array_equal(layout.labels, toy.labels)


def test_a_thing_that_is_hidden_is_no_segment():
    toy = next(t.toy for t in toys() if t.name == "cow-to-sheep")
    labels = np.where(toy.labels == 1, 0, toy.labels).astype(np.uint8)
    labels[0, 0] = 1  # one pixel of the cow
    layout = easel.toy_layout(dataclasses.replace(toy, labels=labels))
    assert [segment.text for segment in layout.segments] == ["a green tree"]
    assert np.array_equal(layout.labels == 1, labels == 2)


def test_every_method_paints_and_is_measured(services):
    names = [method.name for method in methods("layouts")]
    layout = easel.examples()[0].layout
    seen = []
    done = easel.carry_out(services, order(layout, *names), lambda step: seen.append(step.stage))
    assert set(seen) == {"painting"}
    assert [one.numbers["title"] for one in done.results] == [m.title for m in methods("layouts")]
    pictures = {recipes.fingerprint(one.picture.convert("RGB")) for one in done.results}
    assert len(pictures) == len(names)
    for one in done.results:
        assert len(one.numbers["overlaps"]) == 2
        assert all(0 <= overlap <= 1 for overlap in one.numbers["overlaps"])
        assert one.numbers["success"] in (True, False)
        guided = "initial" in METHODS[one.recipe["method"]].takes
        assert bool(one.attention) == bool(one.numbers["loss"]) == guided
        assert (one.numbers["gradients"] > 0) == guided


def test_a_recipe_paints_the_same_bytes_again(services):
    layout = easel.examples()[1].layout
    first = easel.carry_out(services, order(layout, "zestguide", eta=2.0), lambda step: None)
    recipe = first.results[0].recipe
    with Image.open(io.BytesIO(base64.b64decode(recipe["labels_png"]))) as opened:
        labels = np.asarray(opened)
    again = check_layout(recipe["prompt"], [s["text"] for s in recipe["segments"]], labels)
    one = task(recipe["method"], recipe["parameters"], "layouts")
    repeated = easel.PaintOrder(again, recipe["seed"], [one])
    second = easel.carry_out(services, repeated, lambda step: None).results[0]
    assert second.recipe["result"] == recipe["result"]
    assert recipes.fingerprint(second.picture.convert("RGB")) == recipe["result"]


@pytest.mark.parametrize(
    ("window", "left"), [(images.CENTRE, 50), (images.Window(across=1.0), 100)]
)
def test_what_is_not_painted_stays_as_it_is(services, window, left):
    wide = toys()[0].toy.image.resize((300, 200))
    layout = easel.examples()[2].layout
    one = order(layout, "zestguide", "plain_sampling", picture=wide)
    one.window = window
    done = easel.carry_out(services, one, lambda step: None)
    kept, new = (one.picture for one in done.results)
    assert kept.size == wide.size
    inside = np.zeros((200, 300), bool)
    square = Image.fromarray(layout.labels > 0).resize((200, 200))
    inside[:, left : left + 200] = np.asarray(square)
    grown = np.asarray(Image.fromarray(inside).filter(ImageFilter.MaxFilter(9)))
    changed = (np.asarray(kept) != np.asarray(wide)).any(-1)
    assert changed[inside].mean() > 0.9
    assert not changed[~grown].any()
    assert new.size == (128, 128)
    assert any("Plain sampling cannot start from a picture" in note for note in done.notes)
    assert done.results[0].recipe["initial"] == recipes.fingerprint(wide)
    assert done.results[0].recipe["window"] == params.to_dict(window)


def test_the_maps_are_told_while_it_runs(services):
    layout = easel.examples()[0].layout
    one = order(layout, "zestguide", tau=1.0)
    shown = []

    def look(step):
        views = easel.attention_views(layout, one.seen)
        shown.append([np.asarray(image).tobytes() for image, _ in views])

    easel.carry_out(services, one, look)
    assert len({tuple(maps) for maps in shown}) == QUICK["num_steps"]
    assert all(len(maps) == 2 for maps in shown)


def test_stop_ends_the_painting_within_a_step(services):
    told = []

    def stop(step):
        told.append(step.index)
        raise Cancelled

    one = order(easel.examples()[0].layout, "zestguide", "plain_sampling")
    with pytest.raises(Cancelled):
        easel.carry_out(services, one, stop)
    assert told == [1]
    assert not one.results
    assert not services.cache.held


def test_the_echo_says_what_was_painted_and_what_is_read():
    layout = easel.examples()[0].layout
    stronger = tuple(dataclasses.replace(s, strength=1.5) for s in layout.segments)
    told = easel.echo(dataclasses.replace(layout, prompt="on <b>grass</b>", segments=stronger))
    assert "on &lt;b&gt;grass&lt;/b&gt;, a red car, a tree" in told
    for i in (1, 2):
        assert f"{100 * (layout.labels == i).mean():.1f} % of the picture, strength 1.5" in told
        assert f"rgb{easel.PALETTE[i - 1]}" in told
    png = base64.b64decode(re.search(r"base64,([^\"]+)", told)[1])
    with Image.open(io.BytesIO(png)) as opened:
        seen = nearest_labels(np.asarray(opened.convert("RGBA")), easel.PALETTE)
    assert np.array_equal(seen, layout.labels)


def test_segments_keep_the_colour_of_their_pen(services):
    layer = np.zeros((easel.CANVAS_PX, easel.CANVAS_PX, 4), np.uint8)
    layer[:200], layer[300:] = (*easel.PALETTE[1], 255), (*easel.PALETTE[4], 255)
    painted = Image.fromarray(layer)
    layout = easel.layout_of(painted, "", ["", "a cat", "", "", "a dog"])
    assert layout.pens == (2, 5) and set(np.unique(layout.labels)) == {0, 1, 2}
    told = easel.echo(layout)
    assert f"rgb{easel.PALETTE[1]}" in told and f"rgb{easel.PALETTE[4]}" in told
    filed = dataclasses.replace(services, file=app.file_picture)
    again = read_layout(easel.layout_file(filed, layout))
    assert again.pens == (2, 5) and np.array_equal(np.asarray(easel.layer_of(again)), layer)


def test_strength_zero_would_be_no_segment_and_more_than_two_too_much():
    layout = easel.examples()[0].layout
    texts = [segment.text for segment in layout.segments]
    layer = easel.layer_of(layout)
    weaker = easel.layout_of(layer, "", texts, [0.5, 2.0])
    assert [segment.strength for segment in weaker.segments] == [0.5, 2.0]
    assert [s.strength for s in easel.reworded(weaker, "", ["a cat", "a dog"]).segments] == [0.5, 2]
    for strengths in ([0.0, 1.0], [1.0, 2.1]):
        with pytest.raises(InputError, match="strength"):
            easel.layout_of(layer, "", texts, strengths)


def test_words_beyond_the_last_token_get_a_sentence(services):
    layout = easel.examples()[0].layout
    layout = dataclasses.replace(layout, prompt="a horse on the grass " * 10)
    with pytest.raises(InputError, match="Please use fewer words"):
        easel.carry_out(services, order(layout, "zestguide"), lambda step: None)


def test_words_with_a_comma_paint(services):
    layout = dataclasses.replace(easel.examples()[0].layout, prompt="a red, car and a tree")
    (one,) = easel.carry_out(services, order(layout, "zestguide"), lambda step: None).results
    assert one.recipe["prompt"] == layout.prompt


def test_what_the_external_classifier_cannot_lead_is_said(services):
    layout = easel.examples()[2].layout
    strange = dataclasses.replace(layout, segments=(Segment("a flamingo"),))
    done = easel.carry_out(services, order(strange, "external_classifier"), lambda step: None)
    assert "External classifier leaves “a flamingo” alone: it knows no such class." in done.notes


def test_a_layer_of_any_size_is_read_at_the_size_of_the_canvas():
    layout = easel.examples()[0].layout
    large = easel.layer_of(layout).resize((3000, 3000), Image.Resampling.NEAREST)
    texts = [segment.text for segment in layout.segments]
    again = easel.layout_of(large, layout.prompt, texts)
    assert again.labels.shape == (easel.CANVAS_PX, easel.CANVAS_PX)
    small = np.asarray(Image.fromarray(again.labels).resize((128, 128), Image.Resampling.NEAREST))
    assert (small == layout.labels).mean() > 0.99


def test_without_a_segmentation_network_the_reason_is_told(services):
    bare = {k: v for k, v in services.pack.components.items() if k == "latent_diffusion"}
    pack = dataclasses.replace(services.pack, components=bare)
    layout = easel.examples()[2].layout
    poor = dataclasses.replace(services, pack=pack)
    done = easel.carry_out(poor, order(layout, "plain_sampling"), lambda step: None)
    assert done.results[0].numbers["overlaps"] == [None]
    assert any("overlaps are not measured" in note for note in done.notes)
    with pytest.raises(InputError, match="no model for this"):
        easel.carry_out(poor, order(layout, "external_classifier"), lambda step: None)


def test_methods_of_another_tab_are_refused():
    with pytest.raises(InputError, match="must be one of"):
        task("diffedit", {}, "layouts")
    with pytest.raises(InputError, match="must be one of"):
        task("zestguide", {})
