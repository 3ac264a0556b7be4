"""StyleGAN-V (systems.md 3): a video generator trained with its renderer on two or three sparse frames a clip."""
