"""How does a code become a picture, and a picture a code? StyleGAN2, its encoders and the domains that hold both."""
