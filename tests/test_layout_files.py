import base64
import dataclasses
import io
import json
import types

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipelines import easel, recipes
from pipelines.errors import InputError
from pipelines.layout_files import read_layout


def save(tmp_path, image, recipe=None):
    info = PngImagePlugin.PngInfo()
    if recipe is not None:
        info.add_text(recipes.PNG_KEY, recipe if isinstance(recipe, str) else json.dumps(recipe))
    path = tmp_path / "layout.png"
    image.save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("example", easel.examples(), ids=lambda example: example.title)
def test_a_result_gives_its_layout_back(tmp_path, example):
    picture = Image.new("RGB", (128, 128))
    again = read_layout(save(tmp_path, picture, easel.recipe_of_layout(example.layout)))
    assert again.prompt == example.layout.prompt
    assert again.segments == example.layout.segments
    assert np.array_equal(again.labels, example.layout.labels)


def test_a_label_map_gives_segments_by_size_that_wait_for_words(tmp_path):
    pixels = np.full((100, 100, 3), 255, np.uint8)
    pixels[:20, :20] = (9, 120, 77)
    pixels[50:, :] = (200, 1, 2)
    pixels[0, 99] = (1, 2, 3)  # one stray pixel
    layout = read_layout(save(tmp_path, Image.fromarray(pixels)))
    assert [segment.text for segment in layout.segments] == ["", ""]
    assert (layout.labels[50:] == 1).all()
    assert (layout.labels[:20, :20] == 2).all()
    assert (layout.labels > 0).sum() == 5000 + 400


def two_colours(width, height):
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[height // 4 : height // 2, width // 2 - 20 : width // 2 + 20] = (214, 39, 40)
    pixels[height // 2 :, width // 2 - 20 : width // 2 + 20] = (31, 119, 180)
    return Image.fromarray(pixels)


def test_the_centre_of_a_wide_label_map_counts_unstretched(tmp_path):
    layout = read_layout(save(tmp_path, two_colours(320, 160)))
    assert layout.labels.shape == (160, 160)
    rows, columns = np.nonzero(layout.labels == 2)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (40, 40)
    assert (columns.min(), columns.max()) == (60, 99)


@pytest.mark.parametrize("resampling", ["BILINEAR", "BICUBIC", "LANCZOS"])
def test_a_resized_label_map_has_its_colours_and_no_more(tmp_path, resampling):
    small = two_colours(256, 256)
    large = small.resize((512, 512), Image.Resampling[resampling])
    again, layout = (read_layout(save(tmp_path, image)) for image in (large, small))
    assert len(again.segments) == len(layout.segments) == 2
    assert (again.labels[::2, ::2] == layout.labels).mean() > 0.98


def test_a_compressed_label_map_will_do(tmp_path):
    small = two_colours(256, 256)
    small.save(tmp_path / "map.jpg", quality=95)
    again, layout = read_layout(tmp_path / "map.jpg"), read_layout(save(tmp_path, small))
    assert len(again.segments) == 2 and (again.labels == layout.labels).mean() > 0.98


def test_a_hostile_recipe_is_damaged(tmp_path):
    good = easel.recipe_of_layout(easel.examples()[0].layout)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    deep = '{"labels_png": ' + "[" * 100_000
    for recipe in (deep, {**good, "labels_png": base64.b64encode(bomb.getvalue()).decode()}):
        with pytest.raises(InputError, match="damaged"):
            read_layout(save(tmp_path, Image.new("RGB", (64, 64), "white"), recipe))


def test_photos_and_damaged_recipes_get_a_sentence(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    blank = Image.new("RGB", (64, 64), "white")
    good = easel.recipe_of_layout(easel.examples()[0].layout)
    for image, recipe, phrase in (
        (Image.fromarray(noise), None, "something else"),
        (blank, None, "something else"),
        (blank, '{"labels_png": ', "damaged"),
        (blank, {**good, "labels_png": "AAAA"}, "damaged"),
        (
            blank,
            {**good, "segments": [{**one, "pen": 8 + i} for i, one in enumerate(good["segments"])]},
            "damaged",
        ),
        (blank, {**good, "segments": []}, "damaged"),
        (blank, {**good, "segments": "no list"}, "damaged"),
        (
            blank,
            {**good, "segments": [{**one, "strength": 9} for one in good["segments"]]},
            "damaged",
        ),
    ):
        with pytest.raises(InputError, match=phrase):
            read_layout(save(tmp_path, image, recipe))


def test_a_saved_layout_comes_back_even_without_its_recipe(tmp_path):
    layout = easel.examples()[0].layout
    stronger = dataclasses.replace(
        layout, segments=tuple(dataclasses.replace(s, strength=1.5) for s in layout.segments)
    )
    filed = []
    services = types.SimpleNamespace(file=lambda image, name: filed.append(image))
    easel.layout_file(services, stronger)
    (image,) = filed
    again = read_layout(save(tmp_path, image, image.info[recipes.PNG_KEY]))
    assert again.segments == stronger.segments
    assert np.array_equal(again.labels, stronger.labels)
    bare = read_layout(save(tmp_path, image))
    sizes = [(bare.labels == i).sum() for i in (1, 2)]
    assert sizes == sorted(((again.labels == i).sum() * 16 for i in (1, 2)), reverse=True)


def test_what_is_no_picture_is_refused(tmp_path):
    path = tmp_path / "words.png"
    path.write_text("not a picture")
    with pytest.raises(InputError):
        read_layout(path)
