"""The procedural worlds: seeded scenes and faces, their pictures, captions and editing queries.

spec (what a scene is) <- primitives, shapes, paints, renderer <- scenes <- captions <- queries.
`faces` is the same again for clay heads, and shares primitives, distances and edges.
"""
