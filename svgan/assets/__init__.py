"""Which files do the package registries carry, and where are they kept?

A table of assets and a verified cache of them.
"""
