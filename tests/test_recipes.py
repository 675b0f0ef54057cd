import io
import json

import numpy as np
from PIL import Image

from pipelines import recipes


def test_fingerprint_sees_pixels_and_shape():
    wide, tall = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    assert recipes.fingerprint(wide) == recipes.fingerprint(wide.copy())
    assert recipes.fingerprint(wide) != recipes.fingerprint(tall)
    tall.putpixel((0, 0), (0, 0, 1))
    assert recipes.fingerprint(tall) != recipes.fingerprint(Image.new("RGB", (2, 4)))


def test_a_mask_survives_as_text():
    mask = (np.random.default_rng(0).random((37, 53)) > 0.5).astype(np.float32)
    assert (recipes.mask_from_text(recipes.mask_text(mask)) == mask).all()


def test_the_recipe_travels_in_the_png_and_leaves_the_pixels_alone():
    image = Image.effect_noise((20, 10), 50).convert("RGB")
    recipe = {"method": "diffedit", "target_text": "a “zebra”", "seed": 3}
    carrying = recipes.embedded(image, recipe)
    assert image.info == {}
    from gradio.processing_utils import encode_pil_to_bytes

    with Image.open(io.BytesIO(encode_pil_to_bytes(carrying, "png"))) as opened:
        assert json.loads(opened.info[recipes.PNG_KEY]) == recipe
        assert opened.tobytes() == image.tobytes()


def test_change_outside_counts_only_where_the_mask_is_zero():
    before = Image.new("RGB", (4, 4))
    after = before.copy()
    after.putpixel((0, 0), (255, 255, 255))
    after.putpixel((3, 3), (3, 0, 0))
    mask = np.zeros((4, 4), np.float32)
    mask[0, 0] = 0.5
    l1, changed = recipes.change_outside(before, after, mask)
    assert changed == 1
    assert l1 == 3 / (15 * 3)
    assert recipes.change_outside(before, after, np.ones((4, 4), np.float32)) is None


def test_versions_name_what_decides_the_bytes():
    assert {"python", "torch", "diffusers", "numpy", "pillow"} <= set(recipes.versions())
