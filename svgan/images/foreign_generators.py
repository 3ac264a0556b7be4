"""Read StyleGAN2 generators of other implementations: rosinality's, NVIDIA's (stylegan2-ada-pytorch, and the StyleGAN2
configurations of stylegan3), and the decoder within a pSp or e4e checkpoint.

The weights are the same numbers under other names and shapes. Other settings decide a picture too: resampling filter,
activation, learning rate of the mapping, clamping. They are checked against the file if it states them, and a network
that ours cannot represent is refused. Every tensor of a generator must find its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.stylegan2 import Generator, StyleGAN2Config, blur_kernel
from svgan.io.torch_file import Network, parts, state_of, tensors

LARGEST = 4096  # pixels
Names = list[tuple[str, Callable[[re.Match[str]], str]]]  # (pattern of their name, our name); the first match counts


@dataclass(frozen=True, kw_only=True)
class FoundGenerator:
    """layout: whose it is. average: where its average code comes from. ignored: what else the file holds. remarks:
    lines.
    """

    layout: str
    generator: Generator
    average: str
    ignored: list[str]
    remarks: list[str]


def find_generator(tree: Any, path: Path) -> FoundGenerator:
    """Find the generator in the result of `svgan.io.torch_file.read` of `path`.

    Raises UserError if there is none of a known layout, or if ours cannot represent it.
    """
    if isinstance(tree, Mapping) and isinstance(tree.get("g_ema"), Mapping):
        weights = tensors(tree["g_ema"], path)
        return _rosinality("rosinality's StyleGAN2", weights, tree, path, _others(tree, "g_ema", "latent_avg"))
    if isinstance(tree, Mapping) and isinstance(tree.get("G_ema"), Network):
        return _nvidia(tree["G_ema"], path, _others(tree, "G_ema"))
    if has_decoder(tree):
        weights = decoder_of(tree, path)
        return _rosinality("the decoder of a pSp checkpoint", weights, tree, path, [])
    if has_encoder(tree):
        raise UserError(f"{path}: an encoder without a generator; give a generator's checkpoint, and this as --encoder")
    raise UserError(
        f"{path}: no generator of a known layout (g_ema of rosinality's, G_ema of NVIDIA's, or decoder.* of pSp's); "
        f"it holds {seen(tree)}"
    )


def has_decoder(tree: Any) -> bool:
    """Whether this is a pSp or e4e checkpoint that holds its generator."""
    return _has(tree, "decoder.")


def has_encoder(tree: Any) -> bool:
    """Whether this is a pSp or e4e checkpoint."""
    return _has(tree, "encoder.")


def _has(tree: Any, prefix: str) -> bool:
    state = tree.get("state_dict") if isinstance(tree, Mapping) else None
    return isinstance(state, Mapping) and any(str(name).startswith(prefix) for name in state)


def decoder_of(tree: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """A pSp checkpoint's own generator, under rosinality's names."""
    return tensors(without_prefix(tree["state_dict"], "decoder."), path)


def without_prefix(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {str(name).removeprefix(prefix): value for name, value in state.items() if str(name).startswith(prefix)}


def seen(tree: Any) -> str:
    """The keys of a file, for a message."""
    if not isinstance(tree, Mapping):
        return f"a {type(tree).__name__}"
    names = [str(name) for name in tree]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"


def _others(tree: Mapping[str, Any], *used: str) -> list[str]:
    return [str(name) for name in tree if name not in used]


def _rosinality(
    layout: str, weights: dict[str, Tensor], tree: Mapping[str, Any], path: Path, ignored: list[str]
) -> FoundGenerator:
    remarks: list[str] = []
    for name in [name for name in weights if name.endswith(".kernel")]:
        _check_filter(weights.pop(name), name, path)
    config = _config_of(weights, path)
    count = 2 * len(config.channels) - 1
    if not any(name.startswith("noises.") for name in weights):  # as in files of its first months
        remarks.append("noise maps: none in the file, drawn once with seed 0")
        draw = torch.Generator().manual_seed(0)
        for n in range(count):
            weights[f"noises.noise_{n}"] = torch.randn(1, 1, *(4 * 2 ** ((n + 1) // 2),) * 2, generator=draw)
    generator = _filled(config, weights, ROSINALITY, path)
    stored = tensors({"latent_avg": tree.get("latent_avg")}, path).get("latent_avg")
    return FoundGenerator(
        layout=layout,
        generator=generator,
        average=_set_average(generator, None if stored is None else one_row(stored)),
        ignored=ignored,
        remarks=remarks,
    )


def one_row(average: Tensor) -> Tensor | None:
    """An average code [D], or [L, D] with equal layers, as [D]; None if layers differ."""
    rows = average.reshape(-1, average.shape[-1]) if average.ndim else average.reshape(1, 1)
    return rows[0] if bool((rows == rows[0]).all()) else None


def _config_of(weights: Mapping[str, Tensor], path: Path) -> StyleGAN2Config:
    """Sizes from shapes, in rosinality's layout, whose mapping always has the learning rate 0.01."""
    layers = _count(weights, "style.{}.weight", start=1)
    blocks = _count(weights, "to_rgbs.{}.bias")
    if 4 * 2 ** min(blocks, 99) > LARGEST:
        raise UserError(f"{path}: a generator of more than {LARGEST} px; not supported")
    try:
        channels = {4: weights["input.input"].shape[1]}
        for n in range(blocks):
            channels[8 * 2**n] = weights[f"convs.{2 * n}.conv.weight"].shape[1]
        w_dim = weights["style.1.weight"].shape[1]
    except (KeyError, IndexError) as error:
        raise UserError(
            f"{path}: not a StyleGAN2 generator of rosinality's layout ({error} is not in it); it holds {seen(weights)}"
        ) from error
    return StyleGAN2Config(resolution=4 * 2**blocks, w_dim=w_dim, mapping_layers=layers, channels=channels)


def _count(weights: Mapping[str, Tensor], form: str, start: int = 0) -> int:
    count = 0
    while form.format(start + count) in weights:
        count += 1
    return count


def _styled(rest: str) -> str:
    return {"noise.weight": "noise_strength", "activate.bias": "bias"}.get(rest, rest).replace("modulation", "affine")


ROSINALITY: Names = [
    (r"style\.(\d+)\.(weight|bias)", lambda m: f"mapping.{int(m[1]) - 1}.{m[2]}"),
    (r"input\.input", lambda m: "const"),
    (r"conv1\.(.+)", lambda m: f"convs.0.{_styled(m[1])}"),
    (r"convs\.(\d+)\.(.+)", lambda m: f"convs.{int(m[1]) + 1}.{_styled(m[2])}"),
    (r"to_rgb1\.(.+)", lambda m: f"rgbs.0.{_styled(m[1])}"),
    (r"to_rgbs\.(\d+)\.(.+)", lambda m: f"rgbs.{int(m[1]) + 1}.{_styled(m[2])}"),
    (r"noises\.noise_(\d+)", lambda m: f"convs.{m[1]}.noise"),
]


def _nvidia(network: Network, path: Path, ignored: list[str]) -> FoundGenerator:
    modules = dict(parts(network, path))
    weights = state_of(network, path)
    for name in [name for name in weights if name.endswith("resample_filter")]:
        _check_filter(weights.pop(name), name, path)
    config, remarks = _nvidia_config(modules, weights, path), []
    if not any(name.endswith(".noise_const") for name in weights):
        remarks.append("noise maps: the network was made without")
        for side, layer in _noisy_layers(config):
            weights |= {f"{layer}.noise_const": torch.zeros(side, side), f"{layer}.noise_strength": torch.zeros(())}
    average = weights.pop("mapping.w_avg", None)
    generator = _filled(config, weights, NVIDIA, path)
    return FoundGenerator(
        layout="NVIDIA's StyleGAN2",
        generator=generator,
        average=_set_average(generator, average),
        ignored=ignored,
        remarks=remarks,
    )


def _noisy_layers(config: StyleGAN2Config) -> Iterable[tuple[int, str]]:
    for side in config.resolutions:
        for n in (0, 1) if side > 4 else (1,):
            yield side, f"synthesis.b{side}.conv{n}"


def _nvidia_config(modules: Mapping[str, Network], weights: Mapping[str, Tensor], path: Path) -> StyleGAN2Config:
    """Sizes from shapes. Raises UserError for constructor arguments that ours does not support."""
    if "synthesis.input" in modules or any(name.startswith("synthesis.L") for name in modules):
        raise UserError(f"{path}: layers of StyleGAN3 (R or T), not supported yet; give a StyleGAN2 configuration")
    top = modules[""].state
    for key, number, what in (("c_dim", 0, "classes"), ("img_channels", 3, "colour channels")):
        if top.get(key, number) != number:
            raise UserError(f"{path}: a generator with {top[key]} {what}, not supported yet; {number} are")
    if top.get("z_dim") != top.get("w_dim"):
        raise UserError(f"{path}: z_dim {top.get('z_dim')} and w_dim {top.get('w_dim')} differ, not supported yet")
    for key, wanted in (("architecture", "skip"), ("activation", "lrelu")):
        # Affine layers are linear in all of NVIDIA's networks; their activation is not an argument.
        said = _said(modules, key, lambda name: not name.endswith(".affine"))
        if said not in ([], [wanted]):
            raise UserError(f"{path}: {key} {', '.join(map(str, said))}, not supported; {wanted} is")
    clamps = _said(modules, "conv_clamp", lambda name: True)
    rates = _said(modules, "bias_gain", lambda name: bool(re.fullmatch(r"mapping\.fc\d+", name)))
    widths = {
        int(m[1]): len(bias) for n, bias in weights.items() if (m := re.fullmatch(r"synthesis\.b(\d+)\.conv1\.bias", n))
    }
    if len(rates) != 1 or "mapping.fc0.weight" not in weights or not widths:
        raise UserError(f"{path}: G_ema is no StyleGAN2 generator; it holds {seen(weights)}")
    if len(clamps) > 1 or max(widths) > LARGEST:
        raise UserError(f"{path}: layers of several conv_clamp, or over {LARGEST} px, not supported")
    return StyleGAN2Config(
        resolution=max(widths),
        w_dim=weights["mapping.fc0.weight"].shape[-1],
        mapping_layers=_count(weights, "mapping.fc{}.weight"),
        channels=widths,
        mapping_lr=float(rates[0]),
        clamp=float(clamps[0]) if clamps and clamps[0] is not None else None,
    )


def _said(modules: Mapping[str, Network], key: str, chosen: Callable[[str], bool]) -> list[Any]:
    """The different values of an attribute in the modules that have it."""
    values = [module.state[key] for name, module in modules.items() if chosen(name) and key in module.state]
    return [value for n, value in enumerate(values) if value not in values[:n]]


def _place(side: str) -> int:
    """The index of a block by its resolution: 4 is 0, 8 is 1, ..."""
    return int(side).bit_length() - 3


def _nvidia_layer(rest: str) -> str:
    return {"weight": "conv.weight", "noise_const": "noise"}.get(rest, rest).replace("affine", "conv.affine")


NVIDIA: Names = [
    (r"mapping\.fc(\d+)\.(weight|bias)", lambda m: f"mapping.{m[1]}.{m[2]}"),
    (r"synthesis\.b4\.const", lambda m: "const"),
    (
        r"synthesis\.b(\d+)\.conv([01])\.(.+)",
        lambda m: f"convs.{2 * _place(m[1]) + int(m[2]) - 1}.{_nvidia_layer(m[3])}",
    ),
    (r"synthesis\.b(\d+)\.torgb\.(.+)", lambda m: f"rgbs.{_place(m[1])}.{_nvidia_layer(m[2])}"),
]


def _check_filter(kernel: Tensor, name: str, path: Path) -> None:
    """Raises UserError unless `kernel` is [1, 3, 3, 1], in two dimensions, whatever its gain."""
    if kernel.shape != (4, 4) or not torch.allclose(kernel / kernel.sum(), blur_kernel(like=kernel), atol=1e-6):
        raise UserError(f"{path}: {name} is another resampling filter than [1, 3, 3, 1], not supported")


def _filled(config: StyleGAN2Config, weights: Mapping[str, Tensor], names: Names, path: Path) -> Generator:
    """A generator with these weights in float32. Raises UserError for a tensor that is missing, unknown or not
    finite.
    """
    with torch.device("meta"):
        generator = Generator(config)
    shapes = {name: value.shape for name, value in generator.state_dict().items()}
    ours = {"w_avg": torch.zeros(config.w_dim)}
    for theirs, value in weights.items():
        name = next((call(m) for pattern, call in names if (m := re.fullmatch(pattern, theirs))), "")
        if name not in shapes or name in ours:
            raise UserError(f"{path}: {theirs} has no place in a StyleGAN2 generator; is it a variant of it?")
        if [n for n in value.shape if n != 1] != [n for n in shapes[name] if n != 1]:
            raise UserError(f"{path}: {theirs} is {list(value.shape)}, its place is {list(shapes[name])}")
        if not value.isfinite().all():
            raise UserError(f"{path}: {theirs} holds numbers that are not finite; the checkpoint is spoilt")
        ours[name] = value.reshape(shapes[name]).float().contiguous()
    if missing := sorted(set(shapes) - set(ours)):
        raise UserError(
            f"{path}: not a whole StyleGAN2 generator: {len(missing)} tensors are missing, {missing[0]} (our name) one"
        )
    generator.load_state_dict(ours, assign=True)
    return generator.eval().requires_grad_(False)


def _set_average(generator: Generator, stored: Tensor | None) -> str:
    """Fill `w_avg`; return its source."""
    if stored is not None and stored.shape == generator.w_avg.shape and stored.isfinite().all():
        generator.w_avg.copy_(stored)
        return "from the file"
    generator.w_avg.copy_(generator.average_code())
    return "not in the file: computed from the mapping network (10 000 random subjects)"
