"""The space of a system that makes pictures by itself: where its judges compare them, and how large they are.

Its own codes are nobody else's. What is measured on codes is measured on those that the domain's encoder reads in its
pictures (`svgan.sampling.sampler.Sampler.wplus`), in the footage's principal coordinates (ours).
"""

from __future__ import annotations

from svgan.latents.shards import Latents
from svgan.latents.stats import Space, make_space

COMPONENTS = 16  # as many as the latent distance looks at


class PictureSpace(Space):
    """A pca space of W+ codes, and the pictures' resolution."""

    def __init__(self, layers: int, code_width: int, width: int, resolution: int):
        super().__init__("pca", layers, code_width, width)
        self.name, self.resolution = "pictures", resolution

    def spec(self) -> dict:
        return {**super().spec(), "resolution": self.resolution}


def picture_space(latents: Latents, resolution: int) -> PictureSpace:
    """That of a set of codes."""
    layers, code_width = latents.codes.shape[1:]
    pca = make_space("pca", latents, min(COMPONENTS, len(latents.basis)))
    space = PictureSpace(layers, code_width, pca.width, resolution)
    space.load_state_dict(pca.state_dict())
    return space
