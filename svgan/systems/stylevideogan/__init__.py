"""StyleVideoGAN (Fox et al. 2021): a GRU generator of W+ code sequences.

It is trained against a critic of codes with WGAN-GP and the gradient angle penalty (GAP).
"""
