"""Checkpoints of the size that researchers bring: 1024 px, 18 W+ layers of width 512, random weights in each layout."""

import copy
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import channels, nvidia, psp, rosinality, save_nvidia

from svgan.images.domain import Domain
from svgan.io.torch_file import read, state_of
from svgan.pipelines.import_domain import import_domain

pytestmark = pytest.mark.slow
WIDTHS = channels(1024)


def checkpoint(layout: str, folder: Path) -> tuple[Path, int]:
    """A file and the numbers in its generator, resampling filters left out."""
    if layout == "nvidia":
        path = save_nvidia(folder / "x.pkl", nvidia(512, WIDTHS, conv_clamp=256))
        weights = state_of(read(path)["G_ema"], path)
    else:
        state = rosinality(512, WIDTHS)
        tree = {"g_ema": state, "latent_avg": torch.randn(512)} if layout == "rosinality" else psp(18, decoder=state)
        torch.save(tree, folder / "x.pt")
        path, weights = folder / "x.pt", state
    return path, sum(v.numel() for k, v in weights.items() if not k.endswith(("kernel", "resample_filter")))


@pytest.mark.parametrize("layout", ["rosinality", "nvidia", "psp"])
@torch.no_grad()
def test_a_full_size_checkpoint_is_imported_whole_and_renders_exactly(layout, tmp_path, capsys):
    """Every number has its place; a picture in float32 is within 1e-4 of the same in float64."""
    path, count = checkpoint(layout, tmp_path)
    began, cpu = time.monotonic(), time.process_time()
    import_domain(path, None, tmp_path / "d")
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    domain = Domain.load(tmp_path / "d")
    assert domain.config.channels == WIDTHS
    assert (domain.config.num_layers, domain.config.w_dim, domain.config.mapping_layers) == (18, 512, 8)
    average = 0 if layout == "nvidia" else 512  # NVIDIA's is within the generator
    assert sum(v.numel() for v in domain.generator.state_dict().values()) == count + average
    codes = domain.generator.broadcast(domain.generator.map(torch.randn(1, 512), 0.7))
    began = time.monotonic()
    single = domain.generator(codes)
    rendered = time.monotonic() - began
    exact = copy.deepcopy(domain.generator).double()(codes.double())
    assert single.shape == (1, 3, 1024, 1024)
    scale, apart = float(exact.abs().max()), float((single - exact).abs().max())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    with capsys.disabled():
        print(
            f"\n{layout}: imported in {took:.0f} s ({cpu:.0f} s of CPU), a picture in {rendered:.1f} s, "
            f"peak {peak:.1f} GB; float32 off by {apart:.1e} of {scale:.1f}"
        )
    assert apart < 1e-4
    if layout == "psp":
        assert domain.encode(np.zeros((1, 256, 256, 3), np.uint8)).shape == (1, 18, 512)
