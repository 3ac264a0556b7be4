"""Select whose pictures the judges of a run see, if another domain than the footage's renders its clips."""

from __future__ import annotations

from svgan.errors import UserError
from svgan.sampling.sampler import Sampler
from svgan.training.data import Material


def prepare_for_judges(sampler: Sampler, material: Material) -> Sampler:
    """Return the sampler for judges of the footage's domain.

    If the run was trained with another domain's pictures, that domain renders the clips. Raises UserError if the
    sampler was trained with other pictures.
    """
    pictures = material.pictures
    if pictures is None:
        return sampler
    if (theirs := sampler.meta.get("domain")) != pictures.digest:
        raise UserError(
            f"--pictures {pictures.folder}: is {pictures.digest}, the model was trained with {theirs}; restore that "
            "domain"
        )
    return sampler.with_pictures(pictures)
