"""The figure of a report, by which the best checkpoint is chosen: the latent Fréchet distance."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from svgan.latents.spaces import Space
from svgan.metrics.names import LATENT_FD
from svgan.sampling.judged_pictures import prepare_for_judges
from svgan.sampling.sampler import Sampler
from svgan.training.data import Material
from svgan.training.registry import Source
from svgan.training.state import State

JUDGED_CLIPS = 256  # windows on either side of the latent distance


RENDERED_CLIPS = 64  # generated ones, where they are rendered for it


def latent_judge(source: Source, seed: int, material: Material | None = None) -> Callable[[State], dict[str, float]]:
    """latent_fd at a report: the distance between windows of real codes and of generated ones.

    material: needed where the footage's domain does not render, so that its encoder reads the pictures; fewer clips are
    judged then. Of another domain's pictures it is the distance of their movements alone, each clip's mean code taken
    off on either side, for who is shown is another (ours).
    """
    from svgan.metrics.latent import LatentDistance

    apart = material is not None and material.pictures is not None
    judged: Space | None = getattr(source, "judged", None) if apart else None

    def compared(windows: Tensor) -> Tensor:
        return windows - windows.mean(1, keepdim=True) if apart else windows

    distance = LatentDistance(compared(source.windows(JUDGED_CLIPS, seed)))

    def judge(state: State) -> dict[str, float]:
        sampler = Sampler.from_state(state)
        if material is None:
            windows = sampler.coordinates(JUDGED_CLIPS, source.window, seed)
        else:
            sampler = prepare_for_judges(sampler, material)
            clips = JUDGED_CLIPS if sampler.painter is None else RENDERED_CLIPS
            windows = sampler.coordinates(clips, source.window, seed, material.domain, judged)
        return {LATENT_FD: distance(compared(windows))}

    return judge
