"""`python -m sweeps embed VIDEO...`."""

from __future__ import annotations

import argparse
from pathlib import Path

import sweeps

MAIN = Path(sweeps.__file__).with_name("__main__.py")
HELP = "videos to W+ codes by all workers of a cluster"
ABOUT = """Embed videos as `svgan embed` does, on a cluster's CPUs and GPUs or on this machine's cores.

The work is cut into stretches of 128 to 256 frames. Each finished stretch is kept in OUT.embedding, so a command that
was killed continues there, with more workers or fewer. On machines of one kind, the set equals that of `svgan embed`
in every bit. Videos and domain must lie where every node sees them.

The command asks an autoscaling cluster for nodes up to its limit, and copes with nodes that come and go. GPUs make the
codes if the cluster has some or can add some. If none has come for 15 minutes, CPUs make them until one does. The
command says so, because a CPU's codes may differ from a GPU's in the last bit.

  python -m sweeps embed day1.mp4 day2.mp4 --domain ffhq --out s3://bucket/latents/me

Cost: 30 to 100 ms per frame and core for the landmarks, then crops and codes; 0.6 GB per core.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="files with one face each")
    parser.add_argument("--out", required=True, metavar="URI", help="a new folder, or a URL such as s3://bucket/prefix")
    parser.add_argument("--domain", default="default", metavar="DIR", help="a domain's folder [%(default)s]")
    parser.add_argument("--components", type=int, default=64, metavar="N", help="principal axes to keep [%(default)s]")
    parser.add_argument("--frames", action="store_true", help="keep the recorded crops beside the codes")


def run(asked: argparse.Namespace) -> int | None:
    from svgan.commands.embed import tell
    from svgan.images.domain import Domain
    from svgan.reports.progress import EmbedBars, bars, plain_console
    from sweeps.parallel import embedding
    from sweeps.ray_runtime import job_submission
    from sweeps.ray_runtime.session import cluster_joined, ray_started
    from sweeps.storage import environment

    environment.check_passwordless("--out", asked.out)
    if job_submission.needed():
        words = [*asked.videos, "--out", asked.out, "--domain", asked.domain, "--components", str(asked.components)]
        words += ["--frames"] if asked.frames else []
        return job_submission.submit(MAIN, ["embed", *words], "embed", study=False)
    environment.settle()
    console = plain_console()
    domain = Domain.load(asked.domain)
    with cluster_joined(), ray_started(object_store_memory=512 * 2**20), bars(console) as progress:
        made = embedding.embed(
            asked.videos,
            domain,
            asked.out,
            components=asked.components,
            frames=asked.frames,
            watcher=EmbedBars(progress),
        )
    tell(console, asked.out, asked.videos, made)
    return None
