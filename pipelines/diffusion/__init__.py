"""The shared diffusion core: pure functions over a denoiser callable.

    schedule    noise levels and timestep grids, from a diffusers scheduler config
    ddim        DDIM step, inversion (encode) and sampling (decode)
    solvers     a second-order solver with the same two signatures, and the table of both
    guidance    text embeddings in, denoiser out; the one place with classifier-free guidance
    attention   cross-attention maps of a UNet that is shared and stays untouched

A model is a callable. `EpsModel` (schedule.py) takes (latents, t, text_embeds) and returns the
noise estimate; guidance binds the text and gives a `Denoiser` (latents, t) -> eps; encode and
decode know nothing else. Letters: B batch, C latent channels, h w latent size, L text tokens,
D text width, K moves on a grid, T trained timesteps. Imports nothing.
"""
