"""Bundles over library networks, and StyleGAN2: tensors in and out, weights never modified."""
