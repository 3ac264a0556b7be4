"""MoCoGAN-HD (Tian et al. 2021): motion in the W space of a frozen generator, trained against critics of rendered
frames.
"""
