"""How does a study run from its flags to a champion?

The study's definition, preflight, search loop and conclusion.
"""
