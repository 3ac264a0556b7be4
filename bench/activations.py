"""What a backward pass keeps of a picture, counted tensor by tensor: which batches fit a GPU, without having one.

    python bench/activations.py

Networks of official widths with random weights, float32; bfloat16 keeps about half. Weights, their gradients and Adam's
moments come on top: 0.5 GB for a generator, as much for a discriminator.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from svgan.images.stylegan2 import Generator, StyleGAN2Config
from svgan.systems.stylegan_v.networks import HolisticDiscriminator

WIDTHS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}


def kept(network: nn.Module, *inputs: Tensor) -> float:
    """GB that autograd keeps of a forward pass, less what is as large as the weights themselves."""
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(*inputs)
    return (sum(sizes.values()) - sum(p.numel() * p.element_size() for p in network.parameters())) / 1e9


def main() -> None:
    for resolution in (256, 1024):
        channels = {side: width for side, width in WIDTHS.items() if side <= resolution}
        config = StyleGAN2Config(resolution=resolution, w_dim=512, mapping_layers=8, channels=channels)
        generator = Generator(config)
        critic = HolisticDiscriminator(config)
        codes = torch.randn(1, config.num_layers, 512, requires_grad=True)
        clips = torch.randn(1, 3, 3, resolution, resolution, requires_grad=True)
        frame = kept(generator, codes)
        clip = kept(critic, clips, torch.tensor([[0, 4, 8]]))
        print(
            f"{resolution} px: {frame:.2f} GB a rendered frame, {clip:.2f} GB a clip of 3 in StyleGAN-V's discriminator"
        )


if __name__ == "__main__":
    main()
