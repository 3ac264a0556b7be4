"""Make a domain folder of other people's checkpoints, for `svgan import`.

The weights are renamed and written as safetensors in float32. Nothing in a checkpoint is run (svgan.io.torch_file). The
folder appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from svgan.errors import UserError, one_line
from svgan.faces.crops import shrink
from svgan.images import foreign_generators, psp_encoder
from svgan.images.domain import ALIGNMENT, Domain, save_domain, to_uint8
from svgan.images.foreign_generators import FoundGenerator
from svgan.images.psp_encoder import FoundEncoder
from svgan.images.stylegan2 import Generator
from svgan.io.atomic import folder_beside
from svgan.io.torch_file import read
from svgan.pipelines.make_domain import check_writable

FACES = ("ffhq", "celebs", "toonify")  # how the data of encoders for faces is named
SHEET, SHOWN, TRUNCATION = (4, 1), 256, 0.7  # random subjects beside and below each other; pixels of each, at most
APART = 0.2  # average codes further from each other than this share of W's spread belong to different generators
SOURCES = "The weights are those of the checkpoint named above, under its authors' terms."

Say = Callable[[str], None]


def import_domain(
    checkpoint: Path,
    encoder: Path | None,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    say: Say = lambda text: None,
) -> Domain:
    """Make the domain folder `out` of a generator's checkpoint, with the encoder of a second or of the same one.

    Raises UserError, with nothing written, if `out` exists, a file is no checkpoint or of no known layout, or an
    encoder does not fit the generator.
    """
    if out.exists():
        raise UserError(f"--out {out}: exists already; give a new folder")
    check_writable(out, "--out ")
    tree = read(checkpoint)
    found = _find(foreign_generators.find_generator, tree, checkpoint)
    for line in _generator_lines(found, checkpoint):
        say(line)
    reader = None
    if encoder is not None or _find(_has_encoder, tree, checkpoint):
        source = encoder or checkpoint
        held = read(encoder) if encoder else tree
        reader = _find(psp_encoder.find_encoder, held, source)
        _check_fit(found.generator, reader, checkpoint, source)
        remarks = _find(partial(_doubts, found.generator, reader), held, source) if encoder else []
        for line in [*_encoder_lines(found.generator, reader, source), *remarks]:
            say(line)
    else:
        say("encoder: none, so this domain renders but cannot embed; for that, import with --encoder")
    subjects = _subjects(found.generator, checkpoint, device)
    facts = {
        "name": out.resolve().name,
        "alignment": _alignment(reader),
        "imported": {
            "generator": {"file": checkpoint.name, "layout": found.layout, "average_code": found.average},
            "encoder": {"file": (encoder or checkpoint).name} if reader else None,
        },
        "sources": SOURCES,
    }
    return _write(out, found.generator, reader.encoder if reader else None, facts, subjects)


def _find(find: Callable[[Any, Path], Any], tree: Any, path: Path) -> Any:
    """Call `find(tree, path)`; errors of a forged tree become UserErrors."""
    try:
        return find(tree, path)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        why = one_line(error)
        raise UserError(f"{path}: not laid out as its keys promise ({why}); a damaged or forged file") from error


def _has_encoder(tree: Any, path: Path) -> bool:
    return foreign_generators.has_encoder(tree)


def _check_fit(generator: Generator, found: FoundEncoder, checkpoint: Path, source: Path) -> None:
    config, made = generator.config, found.encoder
    if (made.layers, psp_encoder.WIDTH) != (config.num_layers, config.w_dim):
        side = 2 ** (made.layers // 2 + 1)
        raise UserError(
            f"{source}: its encoder makes {made.layers} codes of width {psp_encoder.WIDTH}, for a generator of "
            f"{side} px; {checkpoint} is of {config.resolution} px and takes {config.num_layers} of width "
            f"{config.w_dim}; give one made for it"
        )
    if found.average is None:
        made.latent_avg.copy_(generator.w_avg.expand_as(made.latent_avg))


def _doubts(generator: Generator, found: FoundEncoder, tree: Any, source: Path) -> list[str]:
    """Signs that an encoder was not trained for this generator."""
    own = (
        foreign_generators.decoder_of(tree, source).get("input.input") if foreign_generators.has_decoder(tree) else None
    )
    if own is not None and (own[0].shape != generator.const.shape or (own[0] - generator.const).abs().max() > 1e-3):
        why = "the encoder's file holds a generator of its own, with other weights"
    else:
        z = torch.randn(1000, generator.config.w_dim, generator=torch.Generator().manual_seed(1))
        spread = (generator.map(z) - generator.w_avg).norm(dim=1).mean()
        if (found.encoder.latent_avg - generator.w_avg).norm(dim=1).mean() <= APART * spread:
            return []
        why = "the average codes of encoder and generator are far apart"
    return [f"doubtful: {why}, so it was made for another one and its codes may not fit"]


def _alignment(found: FoundEncoder | None) -> str:
    name = found.dataset if found else ""
    return ALIGNMENT if not name or name.startswith(FACES) else name


def _generator_lines(found: FoundGenerator, path: Path) -> list[str]:
    config = found.generator.config
    widths = ", ".join(f"{side}: {width}" for side, width in sorted(config.channels.items()))
    return [
        f"generator: {found.layout}, {config.resolution} px, {config.num_layers} W+ layers of width {config.w_dim}, "
        f"{config.mapping_layers} mapping layers, {_millions(found.generator)} parameters",
        f"widths by resolution: {widths}",
        f"average code: {found.average}",
        *found.remarks,
        *(
            [f"ignored in {path.name}: {foreign_generators.seen(dict.fromkeys(found.ignored))}"]
            if found.ignored
            else []
        ),
    ]


def _encoder_lines(generator: Generator, found: FoundEncoder, path: Path) -> list[str]:
    made = found.encoder
    average = found.average or "not in the file: the generator's"
    lines = [
        f"encoder: {made.kind.replace('psp', 'pSp')}, {made.layers} codes from {made.side} px crops, "
        f"alignment {_alignment(found)}, {_millions(made)} parameters",
        f"its average code: {average}",
    ]
    if _alignment(found) != ALIGNMENT:
        lines.append(f"doubtful: trained on {found.dataset}; svgan embed aligns faces ({ALIGNMENT}) and will refuse")
    if found.ignored:
        lines.append(f"ignored in {path.name}: {foreign_generators.seen(dict.fromkeys(found.ignored))}")
    return lines


def _millions(module: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} million"


@torch.no_grad()
def _subjects(generator: Generator, path: Path, device: torch.device | str) -> np.ndarray:
    """A sheet of random subjects, which shows quickly whether the import succeeded."""
    columns, rows = SHEET
    device = torch.device(device)
    z = torch.randn(columns * rows, generator.config.w_dim, generator=torch.Generator().manual_seed(0))
    codes = generator.broadcast(generator.map(z, TRUNCATION)).to(device)
    generator.to(device)
    pictures = []
    for code in codes.split(1):
        picture = generator(code)
        if not picture.isfinite().all():
            raise UserError(f"{path}: makes pictures that are not finite; the checkpoint is spoilt")
        whole = to_uint8(picture)
        pictures.append(shrink(whole, min(SHOWN, whole.shape[1]))[0])
    generator.cpu()
    return np.concatenate([np.concatenate(pictures[n * columns : (n + 1) * columns], 1) for n in range(rows)])


def _write(
    out: Path, generator: Generator, encoder: psp_encoder.PSPEncoder | None, facts: dict[str, Any], subjects: np.ndarray
) -> Domain:
    try:
        aside = folder_beside(out)
        try:
            made = save_domain(aside, generator, encoder, facts, torch.float32)
            Image.fromarray(subjects).save(aside / "subjects.png")
            (aside / "README.md").write_text(card(made))
            os.replace(aside, out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise UserError(f"--out {out}: cannot be written ({error}); nothing of it is kept") from error
    return Domain.load(out)


def card(domain: Domain) -> str:
    """The README of an imported domain's folder."""
    config, origin = domain.config, domain.facts["imported"]
    embeds = "| encoder | none: this domain renders, and nothing can be embedded in it |"
    if origin["encoder"]:
        kind = domain.facts["encoder"]["kind"].replace("psp", "pSp")
        embeds = (
            f"| encoder | {kind}, from `{origin['encoder']['file']}` |\n"
            f"| its crops | {domain.side} px, alignment {domain.alignment} (svgan/faces/alignment.py) |"
        )
    return f"""# {domain.facts["name"]}

Imported by `svgan import`. Digest of the weights `{domain.digest}`.

| | |
|---|---|
| generator | {origin["generator"]["layout"]}, from `{origin["generator"]["file"]}` |
| pictures | {config.resolution} px |
| W+ | {config.num_layers} layers of width {config.w_dim} |
| average code | {origin["generator"]["average_code"]} |
{embeds}

Random subjects at truncation {TRUNCATION}:

![random subjects](subjects.png)

## Sources and terms

{domain.facts["sources"]}
"""
