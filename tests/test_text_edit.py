import numpy as np
import pytest
from PIL import Image
from tiny_pack import tiny_clips, tiny_perceptual, tiny_scene_model

from pipelines.data.captions import caption
from pipelines.data.rewordings import rewordings
from pipelines.data.scenes import render, sample_scene
from pipelines.errors import Cancelled, InputError
from pipelines.images import Window
from pipelines.memo import Memo
from pipelines.method_params import DiffEditParams
from pipelines.registry import methods
from pipelines.source_text import infer
from pipelines.text_edit import cut_mask, edit, heat_map, inspect_mask

QUICK = {"num_steps": 5, "num_maps": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_scene_model(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(render(sample_scene(3)).image)


@pytest.fixture(scope="module")
def further(tmp_path_factory):
    folder = tmp_path_factory.mktemp("further")
    return {"clips": tiny_clips(folder), "perceptual": tiny_perceptual(folder / "lpips")}


def photo(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("method", methods("text_edit"), ids=lambda method: method.name)
@pytest.mark.parametrize("size", [(128, 128), (300, 200)])
def test_every_method_returns_the_size_it_was_given(method, size, model, further):
    image = photo(*size)
    known = method.load_params().__dataclass_fields__
    values = {key: value for key, value in QUICK.items() if key in known}
    models = {name: further[name] for name in method.takes}
    result = edit(method.name, model, image, "a horse", "a zebra", values, seed=7, models=models)
    assert result.image.size == size
    assert result.seed == 7
    if method.name == "copy":
        assert np.array_equal(result.image, image)
    if result.mask is not None:
        assert result.mask.shape == size[::-1]
        untouched = result.mask == 0
        assert np.array_equal(np.array(result.image)[untouched], np.array(image)[untouched])


@pytest.mark.parametrize("size", [(300, 200), (1000, 1500)])
def test_a_painted_mask_is_obeyed_to_the_pixel(model, size):
    image = photo(*size)
    mask = np.zeros(size[::-1], np.float32)
    down, across = size[1] // 2 - 31, size[0] // 2 + 7
    mask[down : down + 63, across : across + 41] = 1
    values = {**QUICK, "feather_px": 4}
    result = edit("diffedit", model, image, "", "a zebra", values, seed=1, mask=mask)
    changed = (np.array(result.image) != np.array(image)).any(-1)
    assert changed.any() and not changed[mask == 0].any()
    assert not result.mask[mask == 0].any()


@pytest.mark.parametrize(
    ("texts", "values", "seed", "says"),
    [
        (("a horse", ""), {}, 0, "target text"),
        (("a horse", "   "), {}, 0, "target text"),
        (("a horse", "z" * 2000), {}, 0, "shorten"),
        (("a horse", "a zebra"), {}, -1, "seed"),
        (("a horse", "a zebra"), {}, float("nan"), "seed"),
        (("a horse", "a zebra"), {}, "7", "seed"),
        (("a horse", "a zebra"), {"strength": float("nan")}, 0, "Strength"),
        (("a horse", None), {}, 0, "text"),
    ],
)
def test_bad_input_gets_a_sentence(texts, values, seed, says, model, picture):
    with pytest.raises(InputError, match=says):
        edit("diffedit", model, picture, *texts, values, seed=seed)


def test_an_empty_mask_gets_a_sentence(model, picture):
    with pytest.raises(InputError, match="mask is empty"):
        edit("diffedit", model, picture, "", "a cat", QUICK, seed=0, mask=np.zeros((128, 128)))


def test_mask_inspection_and_edit_agree(model, picture):
    params = DiffEditParams(num_maps=2)
    memo = Memo(2**28)
    inspection = inspect_mask(model, picture, "a horse", "a zebra", params, seed=4, memo=memo)
    assert inspection.difference.shape == (32, 32)
    assert heat_map(inspection).min() == 0 and heat_map(inspection).max() == 1
    assert set(inspection.word_maps) == {"a", "zebra"}
    assert all(m.shape == (128, 128) and m.max() == 1 for m in inspection.word_maps.values())
    mask = cut_mask(inspection, params)
    values = {"num_steps": 5, "num_maps": 2}
    result = edit("diffedit", model, picture, "a horse", "a zebra", values, seed=4, memo=memo)
    assert np.array_equal(result.mask, mask)


def test_source_text_is_found_among_rewordings_of_the_target(model, picture):
    target = caption(sample_scene(3)).replace("green", "red")
    found = infer(model, picture, target, rewordings, seed=0)
    assert found == infer(model, picture, target, rewordings, seed=0)
    assert len(found.split()) >= 2
    with pytest.raises(ValueError, match="nothing that is known"):
        infer(model, picture, "flamingo", rewordings, seed=0)


def test_inferring_the_source_text_stops_after_one_noise_draw(model, picture):
    told = []

    def stop(step):
        told.append(step)
        raise Cancelled

    with pytest.raises(Cancelled):
        infer(model, picture, "a zebra on the grass", rewordings, seed=0, on_step=stop)
    assert [(step.stage, step.index) for step in told] == [("source", 1)]


def test_the_square_that_is_asked_for_is_edited_as_if_it_were_the_whole_picture(model):
    image = photo(300, 200)
    window = Window(across=1.0, down=0.0, size=0.64)
    values = {**QUICK, "feather_px": 2}
    result = edit("diffedit", model, image, "a horse", "a zebra", values, seed=1, window=window)
    box = 172, 0, 300, 128
    alone = edit("diffedit", model, image.crop(box), "a horse", "a zebra", values, seed=1)
    assert np.array_equal(result.image.crop(box), alone.image)
    outside = np.ones((200, 300), bool)
    outside[:128, 172:] = False
    assert np.array_equal(np.array(result.image)[outside], np.array(image)[outside])
    assert not result.mask[outside].any()
    params = DiffEditParams(num_maps=1, feather_px=2)
    seen = inspect_mask(model, image, "a horse", "a zebra", params, seed=1, window=window)
    assert np.array_equal(cut_mask(seen, params), result.mask)


def test_a_mask_beside_the_square_gets_a_sentence(model):
    mask = np.zeros((200, 300), np.float32)
    mask[:50, :50] = 1
    right = Window(across=1.0, size=0.5)
    with pytest.raises(InputError, match="empty in the part that is edited"):
        edit("diffedit", model, photo(300, 200), "", "a cat", QUICK, seed=0, mask=mask,
             window=right)  # fmt: skip
