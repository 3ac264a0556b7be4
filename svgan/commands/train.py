"""`svgan train`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

HELP = "train a temporal GAN: StyleVideoGAN, MoCoGAN-HD or StyleGAN-V"
ABOUT = """\
Train a temporal GAN without Ray. StyleVideoGAN learns from codes, MoCoGAN-HD from frames that the domain's generator
renders, and StyleGAN-V from a few frames of each clip, with its own generator of pictures. The folder gets checkpoints
and figures.json, and at the end a clip and a contact sheet of the best checkpoint (lowest latent_fd).

  svgan train --out runs/one                                      the default footage, recipe tiny
  svgan train --out runs/two --recipe pca --gap-weight 10 --critic multiscale
  svgan train --out runs/hd --recipe mocogan-hd                   another system, on the same footage
  svgan train --out runs/p --recipe mocogan-hd-cross --set form=paper batch=4     any field of its recipe
  svgan train --recipe mocogan-hd-cross --set help                these fields, with the recipe's values
  svgan train --out runs/v --recipe stylegan-v                    and another
  svgan train --out runs/dog --recipe mocogan-hd-cross --pictures dogs     the footage's motion, a dog's pictures
  svgan train --out runs/w --recipe stylegan-v --latents latents/me --footage       on the frames kept beside the codes
  svgan train --out runs/one --resume --steps 2000                continue, further than first planned

Cost: recipe tiny, about 11 iterations a second on one core; mocogan-hd, 5 s of a core per iteration; stylegan-v, 1 s.
paper and the recipes that end in -full need a GPU. On a CPU the others use one thread. For tiny and pca that is as fast
as two, and it does not slow down beside other jobs. Set OMP_NUM_THREADS for another number.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the run's folder, a new one")
    parser.add_argument(
        "--recipe",
        help="tiny, pca, paper, stylegan-v-codes; mocogan-hd, mocogan-hd-cross, stylegan-v, and those three at full "
        "size: mocogan-hd-full, mocogan-hd-cross-full, stylegan-v-full (tiny)",
    )
    parser.add_argument("--latents", metavar="URI", help="codes of svgan embed (the domain's own)")
    parser.add_argument("--domain", help="'default' or a domain's folder (default)")
    parser.add_argument(
        "--pictures", metavar="DOMAIN", help="another domain, whose pictures get the motion (recipe mocogan-hd-cross)"
    )
    parser.add_argument(
        "--footage",
        nargs="*",
        metavar="VIDEO",
        help="recipes that learn from frames see the recorded ones, not what the codes render: of these videos, or, "
        "none named, those kept beside the codes (svgan embed --frames)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="iterations (the recipe's)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of weights, noise and clips (0)")
    parser.add_argument(
        "--gap-weight", type=float, metavar="X", help="lambda_GAP; 0: no penalty (tiny 1, stylegan-v-codes 0, else 100)"
    )
    parser.add_argument("--width", type=int, metavar="N", help="width of the GRU, or of content and motion codes (32)")
    parser.add_argument(
        "--critic", metavar="NAME", help="tconv, multiscale or holistic (tconv; stylegan-v-codes holistic)"
    )
    parser.add_argument(
        "--iteration",
        help="plain, fast (equal gradients, less time) or graph (fast as one launch of a GPU) (tiny fast, else plain)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        action=SetFields,
        metavar="FIELD=VALUE",
        help="other fields of the recipe: batch=4 basis=false video_widths=8,16 (--recipe NAME --set help lists them)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out; its flags are remembered")
    parser.add_argument("--report-every", type=int, metavar="N", help="steps between figures and checkpoints")


class SetFields(argparse.Action):
    """Keeps the words; `help` prints the recipe's fields, as their configuration documents them, and exits."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        if values != ["help"]:
            return
        from svgan.training import recipes
        from svgan.training.overrides import describe_fields

        for word, text in describe_fields(recipes.make(namespace.recipe or "tiny")).items():
            print(f"  {word:32} {text}")
        parser.exit()


def run(options: argparse.Namespace) -> None:
    from svgan.runs.folder import plan_run
    from svgan.runs.training import train_run, write_sample
    from svgan.torch_utils.device import pick_device
    from svgan.training.overrides import parse
    from svgan.training.reporter import ConsoleReporter

    names = ("steps", "seed", "gap_weight", "width", "critic", "iteration")
    overrides = {name: value for name in names if (value := getattr(options, name)) is not None}
    overrides |= parse(options.set, list(overrides))
    device = pick_device(options.device)
    planned = plan_run(
        options.out,
        options.recipe,
        overrides,
        domain=options.domain,
        latents=options.latents,
        report_every=options.report_every,
        resume=options.resume,
        pictures=options.pictures,
        footage=options.footage,
    )
    if device.type == "cpu" and not planned.config.recipe.endswith(("paper", "-full")):
        one_thread()
    try:
        with ConsoleReporter() as reporter:
            state = train_run(planned, options.out, reporter=reporter, device=device)
    except KeyboardInterrupt:
        print(f"go on with: svgan train --out {options.out} --resume", file=sys.stderr)
        raise
    clip = write_sample(options.out, device)
    print(f"{options.out}: {state.step} steps; a clip of the best checkpoint: {clip}")


def one_thread() -> None:
    """Use one CPU thread for small networks, unless OMP_NUM_THREADS says otherwise.

    On two cores one thread is as fast alone. Beside another job, two threads slow down from 8 to 0.15 iterations a
    second.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
