"""How is work shared among many Ray workers?

Pools that encode footage and extract features.
"""
