"""Thin bundles over library networks: tensors in, tensors out, weights never modified."""
