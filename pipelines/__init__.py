"""Semantic image editing: published methods as readable functions over shared parts.

Data flows one way: app.py -> registry -> one method function -> models leased from the cache ->
shared core -> EditResult -> app.py. Nothing in this package imports gradio; nothing below calls
back up. Importing a module does no I/O, picks no device and sets no seed.

    errors, results, params, registry, packs     contracts (no torch)
    model_cache, leases, memo, devices, images   services: loading, reuse, device choice, pixels
    noise                                        a visitor's seed, one stream for each use
    hub, repositories, weights                   files that do not ship: are they here and whole
    text_edit                                    PIL in, PIL out around every text edit method
    diffedit, flexit, sdedit, simat, clip2gan    methods: one paper, one file
    baselines                                    what these are compared with
    image_collections                            a visitor's own pictures, out of zip files
    edits, masks                                 what those methods share
    lelsd, local_directions, directions          directions of faces: LELSD, its baselines, files
    faces, face_sources, face_numbers            what Face sliders shows, where it comes from, how
    face_orders, direction_training              good it is; in one call; training in the app
    face_alignment                               the square of a photo that face networks expect
    zerogpu                                      jobs in a process that has a lent GPU
    diffusion/    noise schedule, DDIM, fast solvers, guidance, cross-attention capture
    models/       thin bundles over diffusers, transformers, open_clip, lpips and faiss
    data/         the procedural worlds, their captions and edit queries
    training/     one script for each shipped model
    metrics/      pure functions
    benchmarks/   one protocol for each paper; `python -m pipelines.benchmarks`

Letters in shape comments and docstrings:

    B batch      C channels          H W image height, width (pixels)
    h w latent height, width         K steps actually taken
    L text tokens                    T training timesteps of the noise schedule
    D length of an embedding         N M vectors in an index, captions

Ranges: PIL uint8 outside; `images` float32 in [-1, 1] inside; masks in [0, 1], 1 = edit.
"""
