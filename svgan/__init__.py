"""svgan: temporal GANs on sequences of StyleGAN codes. The science; it knows neither Ray nor MLflow."""

__version__ = "0.1.0"
