"""Seeded noise: an image depends on its own seed only."""

import hashlib

import pytest
import torch

from pipelines.noise import seeded_noise, sub_seed

LIKE = torch.zeros(())


def test_image_i_does_not_depend_on_the_batch():
    batch = seeded_noise((4, 8, 8), [3, 5, 3], LIKE)
    alone = seeded_noise((4, 8, 8), [5], LIKE)
    assert batch.shape == (3, 4, 8, 8)
    assert torch.equal(batch[1:2], alone)
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])


def test_noise_is_drawn_in_float32_and_follows_like():
    half = seeded_noise((4, 8, 8), [1], LIKE.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, seeded_noise((4, 8, 8), [1], LIKE).to(torch.bfloat16))


def test_noise_is_standard_normal_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    noise = seeded_noise((4, 64, 64), [0, 1], LIKE)
    assert torch.equal(before, torch.get_rng_state())
    assert abs(noise.mean().item()) < 0.02
    assert abs(noise.std().item() - 1) < 0.02


@pytest.mark.parametrize("seeds", [[], [-1], [2**64], [1.5]])
def test_bad_seeds_are_rejected(seeds):
    with pytest.raises((ValueError, TypeError)):
        seeded_noise((4, 8, 8), seeds, LIKE)


def test_sub_seeds_are_distinct_and_valid_seeds():
    paths = [("mask", 0), ("mask", 1), ("mask", "1"), ("mask/1",), ("mask",), ("noise", 0)]
    seeds = [sub_seed(seed, *path) for seed in (0, 1) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    with pytest.raises(ValueError, match="path"):
        sub_seed(7)


def test_sub_seed_is_a_fixed_function():
    digest = hashlib.sha256(b"(7, 'mask', 3)").digest()
    assert sub_seed(7, "mask", 3) == int.from_bytes(digest[:8], "big") // 2 == 7955345275692824802
