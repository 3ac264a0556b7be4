"""Where do W+ codes live, in which coordinates does a model see them, and how are clips drawn?

Shards and their manifest, spaces, and clips; nothing here trains or renders.
"""
