"""The procedural worlds: seeded scenes, their pictures, captions and editing queries.

spec (what a scene is) <- primitives, shapes, paints, renderer <- scenes <- captions <- queries.
"""
