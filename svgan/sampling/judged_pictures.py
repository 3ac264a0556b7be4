"""Whose pictures the judges of a run see, where another domain than the footage's renders its clips."""

from __future__ import annotations

from svgan.errors import UserError
from svgan.sampling.sampler import Sampler
from svgan.training.data import Material


def prepare_for_judges(sampler: Sampler, material: Material) -> Sampler:
    """The sampler as the judges take it, who know the footage's domain: with another domain's pictures, where the run
    was trained with those. Raises UserError where the sampler was trained with other ones."""
    pictures = material.pictures
    if pictures is None:
        return sampler
    if (theirs := sampler.meta.get("domain")) != pictures.digest:
        raise UserError(
            f"--pictures {pictures.folder}: is {pictures.digest}, the model was trained with {theirs}; restore that "
            "domain"
        )
    return sampler.with_pictures(pictures)
