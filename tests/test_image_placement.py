import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pipelines import images


def noise(size, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


SIZES = [(128, 128), (200, 128), (128, 200), (333, 251), (64, 64), (70, 50), (17, 100), (129, 128)]


class TestFitAndPaste:
    def test_working_size_passes_exactly(self):
        picture = noise((128, 128))
        working, placement = images.fit(picture, 128)
        assert working.tobytes() == picture.tobytes()
        assert placement == images.Placement(128, 128, 0, 0, 128, 128)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_centre_square_is_never_stretched(self, size):
        picture = Image.new("RGB", size, "white")
        side, (x, y) = min(size), (size[0] / 2, size[1] / 2)
        circle = (x - side * 0.3, y - side * 0.3, x + side * 0.3, y + side * 0.3)
        ImageDraw.Draw(picture).ellipse(circle, fill="black")
        working, placement = images.fit(picture, 128)
        assert working.size == (128, 128)
        assert placement.side == side
        dark = np.asarray(working.convert("L")) < 128
        wide, high = dark.any(0).sum(), dark.any(1).sum()
        assert abs(wide - high) <= 2 + 128 // side
        assert abs(wide - 0.6 * 128) <= 2 + 2 * (128 // side)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_the_square_lies_where_it_is_asked_for(self, size):
        picture = noise(size)
        width, height = size
        for across, down, part in ((0, 0, 1), (1, 1, 1), (0, 1, 0.5), (1, 0, 0.1), (0.3, 0.8, 0.7)):
            window = images.Window(across=across, down=down, size=part)
            _, placement = images.fit(picture, 128, window)
            side = max(1, round(part * min(size)))
            left, top = int(across * (width - side)), int(down * (height - side))
            assert placement.box == (left, top, left + side, top + side)
            same_size, _ = images.fit(picture, side, window)
            assert same_size.tobytes() == picture.crop(placement.box).tobytes()
            white = images.paste(picture, Image.new("RGB", (128, 128), "white"), None, placement)
            outside = images.place_mask(np.ones((128, 128), np.float32), placement) == 0
            assert outside.sum() == width * height - side**2
            assert np.array_equal(np.asarray(white)[outside], np.asarray(picture)[outside])
            assert (np.asarray(white)[~outside] == 255).all()

    @pytest.mark.parametrize("size", SIZES, ids=str)
    @pytest.mark.parametrize("soft", [False, True])
    def test_outside_the_mask_every_bit_stays(self, size, soft):
        original = noise(size)
        _, placement = images.fit(original, 128)
        mask = np.zeros((128, 128), np.float32)
        mask[30:90, 50:80] = 1.0
        if soft:
            mask[30:34, 50:80] = 0.25
        pasted = images.paste(original, noise((128, 128), seed=1), mask, placement)
        full = images.place_mask(mask, placement)
        assert pasted.size == size
        changed = (np.asarray(pasted) != np.asarray(original)).any(-1)
        assert not changed[full == 0].any()
        assert changed[full == 1].mean() > 0.9
        assert 0 < full.mean() < 0.35

    def test_inside_a_hard_mask_is_exactly_the_edit(self):
        original, edited = noise((128, 128)), noise((128, 128), seed=1)
        _, placement = images.fit(original, 128)
        mask = (np.random.default_rng(2).random((128, 128)) > 0.5).astype(np.float32)
        pasted = np.asarray(images.paste(original, edited, mask, placement))
        expected = np.where(mask[..., None] > 0, np.asarray(edited), np.asarray(original))
        np.testing.assert_array_equal(pasted, expected)

    def test_without_a_mask_the_square_is_replaced(self):
        original, edited = noise((200, 128)), noise((128, 128), seed=1)
        _, placement = images.fit(original, 128)
        pasted = np.asarray(images.paste(original, edited, None, placement))
        np.testing.assert_array_equal(pasted[:, 36:164], np.asarray(edited))
        np.testing.assert_array_equal(pasted[:, :36], np.asarray(original)[:, :36])
        np.testing.assert_array_equal(pasted[:, 164:], np.asarray(original)[:, 164:])

    def test_an_empty_mask_returns_the_original(self):
        original = noise((333, 251))
        _, placement = images.fit(original, 128)
        nothing = np.zeros((128, 128), np.float32)
        pasted = images.paste(original, noise((128, 128), seed=1), nothing, placement)
        assert pasted.tobytes() == original.tobytes()

    def test_paste_leaves_its_arguments_alone(self):
        original, edited = noise((128, 128)), noise((128, 128), seed=1)
        before = original.tobytes()
        mask = np.ones((128, 128), np.float32)
        images.paste(original, edited, mask, images.fit(original, 128)[1])
        assert original.tobytes() == before
        assert mask.all()

    def test_a_mask_painted_at_full_size_is_used_as_painted(self):
        original = noise((333, 251))
        _, placement = images.fit(original, 128)
        painted = np.zeros((251, 333), np.float32)
        painted[100:101, 10:300] = 1.0  # thinner than a working pixel, and wider than the square
        full = images.place_mask(painted, placement)
        inside = np.zeros_like(painted)
        inside[placement.window] = 1.0
        np.testing.assert_array_equal(full, painted * inside)
        assert images.fit_mask(painted, placement).max() == 1.0

    def test_other_mask_shapes_are_bugs(self):
        _, placement = images.fit(noise((200, 128)), 128)
        with pytest.raises(ValueError, match="mask must be 128 px square"):
            images.place_mask(np.zeros((64, 64), np.float32), placement)


class TestResizeMask:
    @pytest.mark.parametrize("size", [(128, 128), (251, 251), (300, 100), (64, 64), (40, 200)])
    def test_hard_stays_hard_and_covers(self, size):
        mask = np.zeros((128, 128), np.float32)
        mask[32:96, 16:48] = 1.0
        resized = images.resize_mask(mask, size)
        assert resized.shape == size
        assert resized.dtype == np.float32
        assert set(np.unique(resized)) == {0.0, 1.0}
        assert resized.mean() == pytest.approx(mask.mean(), rel=0.12)

    def test_doubling_repeats_pixels(self):
        mask = (np.random.default_rng(0).random((32, 32)) > 0.5).astype(np.float32)
        np.testing.assert_array_equal(
            images.resize_mask(mask, (64, 64)), mask.repeat(2, 0).repeat(2, 1)
        )

    def test_a_thin_stroke_survives_shrinking(self):
        mask = np.zeros((1000, 1000), np.float32)
        mask[500, 100:900] = 1.0
        assert images.resize_mask(mask, (128, 128)).any(0).sum() >= 100

    @pytest.mark.parametrize("size", [(256, 256), (301, 301), (100, 100), (64, 200)])
    def test_soft_masks_never_spread(self, size):
        mask = np.zeros((128, 128), np.float32)
        mask[40:80, 40:80] = 1.0
        mask[40, 40:80] = 0.5
        resized = images.resize_mask(mask, size)
        everything = images.resize_mask((mask > 0).astype(np.float32), size)
        assert (resized[everything == 0] == 0).all()
        assert 0 <= resized.min() <= resized.max() <= 1
        assert ((resized > 0) & (resized < 1)).any()

    def test_same_size_is_a_copy(self):
        mask = np.random.default_rng(0).random((16, 16)).astype(np.float32)
        resized = images.resize_mask(mask, (16, 16))
        np.testing.assert_array_equal(resized, mask)
        assert resized is not mask


class TestTensors:
    def test_range_shape_and_exact_round_trip(self):
        pictures = [noise((32, 32), seed=i) for i in range(3)]
        batch = images.to_tensor(pictures, 32)
        assert batch.shape == (3, 3, 32, 32)
        assert batch.dtype == torch.float32
        assert (batch.min().item(), batch.max().item()) == (-1.0, 1.0)
        assert [p.tobytes() for p in images.to_pil(batch)] == [p.tobytes() for p in pictures]

    def test_channels_are_red_green_blue(self):
        batch = images.to_tensor([Image.new("RGB", (16, 16), (255, 0, 0))], 16)
        assert batch[0, :, 0, 0].tolist() == [1.0, -1.0, -1.0]

    def test_values_outside_the_range_are_clipped(self):
        values = torch.tensor([-3.0, 3.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
        assert images.to_pil(values)[0].getpixel((0, 0)) == (0, 255, 128)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_any_float_format(self, dtype):
        assert (
            images.to_pil(torch.ones(1, 3, 16, 16, dtype=dtype))[0].getpixel((0, 0)) == (255,) * 3
        )

    def test_pictures_that_do_not_fit_are_bugs(self):
        with pytest.raises(ValueError, match="32 px square"):
            images.to_tensor([noise((32, 31))], 32)
        with pytest.raises(ValueError, match="got L"):
            images.to_tensor([noise((32, 32)).convert("L")], 32)
