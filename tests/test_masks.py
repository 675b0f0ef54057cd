import pytest
import torch

from pipelines.masks import binarise, feather, guided_filter, intersection_over_union, rescale


def disc(size, radius):
    axis = torch.arange(size) - (size - 1) / 2
    return (axis[:, None] ** 2 + axis[None, :] ** 2 <= radius**2).float()


def test_rescale_is_blind_to_scale_and_to_one_extreme_cell():
    torch.manual_seed(0)
    maps = torch.rand(2, 32, 32)
    torch.testing.assert_close(rescale(maps), rescale(7 * maps), rtol=1e-5, atol=1e-6)
    spiked = maps.clone()
    spiked[:, 0, 0] = 100.0
    changed = (rescale(spiked) - rescale(maps)).abs()
    assert changed[:, 1:].max() < 0.02
    assert rescale(spiked).amax() == 1


@pytest.mark.parametrize("recipe", ["thesis", "refined"])
def test_recipes_find_a_disc(recipe):
    coarse = torch.nn.functional.avg_pool2d(disc(128, 40)[None, None], 4)[0]
    image = (disc(128, 40)[None, None].expand(1, 3, -1, -1) - 0.5) * 1.6
    noise = 0.05 * torch.rand(coarse.shape, generator=torch.Generator().manual_seed(1))
    masks = binarise(coarse + noise, image, recipe, 0.5)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert intersection_over_union(masks, disc(128, 40)[None]) > 0.9


def test_refined_recipe_follows_the_picture_better_than_the_grid_does():
    truth = disc(128, 30)
    coarse = torch.nn.functional.avg_pool2d(truth[None, None], 8)
    coarse = torch.nn.functional.interpolate(coarse, size=32)[0]  # blurred beyond the grid
    image = (truth[None, None].expand(1, 3, -1, -1) - 0.5) * 1.6
    iou = {r: intersection_over_union(binarise(coarse, image, r, 0.5), truth[None]) for r in
           ("thesis", "refined")}  # fmt: skip
    assert iou["refined"] > iou["thesis"]


def test_unknown_recipe_is_a_callers_bug():
    with pytest.raises(ValueError, match="recipe"):
        binarise(torch.zeros(1, 4, 4), torch.zeros(1, 3, 8, 8), "magic", 0.5)


def test_guided_filter_keeps_a_constant_and_an_affine_function_of_its_guide():
    guide = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    flat = torch.full((1, 1, 40, 40), 0.3)
    torch.testing.assert_close(guided_filter(flat, guide, 4, 1e-3), flat, rtol=0, atol=1e-4)
    affine = (guide * torch.tensor([0.2, 0.5, -0.4]).view(1, 3, 1, 1)).sum(1, keepdim=True) + 0.1
    filtered = guided_filter(affine, guide, 4, 1e-7)
    torch.testing.assert_close(filtered, affine, rtol=0, atol=1e-2)


def test_feather_stays_inside_and_reaches_one():
    mask = disc(64, 20)[None]
    soft = feather(mask, 5)
    assert torch.equal(feather(mask, 0), mask)
    assert (soft[mask == 0] == 0).all()
    assert (soft[mask == 1] > 0).all()
    assert soft[0, 32, 32] == pytest.approx(1.0)
    ring = soft[(mask == 1) & (disc(64, 18)[None] == 0)]
    assert ring.max() < 1


def test_intersection_over_union_by_hand():
    a, b = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    a[0, 0] = 1
    b[0, :, 0] = 1
    assert intersection_over_union(a, b).tolist() == pytest.approx([1 / 3, 1.0])
