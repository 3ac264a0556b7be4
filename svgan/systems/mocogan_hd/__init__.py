"""MoCoGAN-HD (Tian et al. 2021): motion in the W space of a frozen generator, judged by critics of rendered frames."""
