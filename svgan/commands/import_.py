"""`svgan import`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make a domain of other people's checkpoints"
ABOUT = """\
Make a domain of other people's StyleGAN2 weights. Generators: rosinality's .pt (g_ema), and NVIDIA's network pickles
of stylegan2-ada-pytorch and of stylegan3's StyleGAN2 configurations (G_ema). To embed footage it takes the encoder of a
pSp or e4e checkpoint, which usually holds its generator too.

Nothing in the files is run, whatever they carry; a name that weights do not need is refused. The folder gets
safetensors, a card, and a sheet of random subjects. The sheet shows whether the import succeeded.

  svgan import psp_ffhq_encode.pt --out ffhq
  svgan import ffhq.pkl --encoder my_encoder.pt --out ffhq
  svgan import stylegan2-car-config-f.pt --out car           without an encoder it renders, but cannot embed
  svgan embed me.mp4 --domain ffhq --out latents/me

Cost: at 1024 px 40 s of one core and 2.4 GB with pSp's encoder; that domain takes 1.2 GB of disk.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=".pt or .pkl with a generator")
    parser.add_argument("--encoder", type=Path, metavar="CHECKPOINT", help="pSp's or e4e's (the generator file's own)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the domain's folder, a new one")
    parser.add_argument("--device", default="auto", help="for the sheet: auto, cpu, cuda, cuda:1, ... (auto)")


def run(options: argparse.Namespace) -> None:
    from svgan.pipelines.import_domain import import_domain
    from svgan.reports.progress import plain_console
    from svgan.torch_utils.device import pick_device

    console = plain_console()

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    made = import_domain(options.checkpoint, options.encoder, options.out, device=pick_device(options.device), say=say)
    say(f"{options.out}: domain {made.digest}; see {options.out / 'README.md'}, and its random subjects")
