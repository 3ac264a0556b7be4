"""Where W+ codes live (`shards`), how they are standardised (`stats`) and how clips are drawn (`clips`).

Nothing here knows of training, or makes pictures.
"""
