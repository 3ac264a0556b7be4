"""Pictures: StyleGAN2, the encoder to W+, face alignment, domains. Nothing here knows of time."""
