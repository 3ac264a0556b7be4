"""`python -m sweeps embed VIDEO...`."""

from __future__ import annotations

import argparse
from pathlib import Path

import sweeps

MAIN = Path(sweeps.__file__).with_name("__main__.py")
HELP = "videos to W+ codes by all workers of a cluster"
ABOUT = """What `svgan embed` does, spread over a cluster's CPUs and GPUs, or this machine's cores: stretches of 128
to 256 frames, each kept in OUT.embedding as it is finished. Killed and started again, with more workers or fewer, it
goes on where it was; the set it makes is the same in every bit as `svgan embed`'s on such a machine. Videos and domain
must lie where every node sees them.

A cluster that grows by itself is asked for nodes up to its limit, and those that come or go are made use of. Codes are
made on GPUs where there are any or could be; when none has come for 15 minutes, on CPUs until one does, which is said,
since theirs may differ from a GPU's in the last bit.

  python -m sweeps embed day1.mp4 day2.mp4 --domain ffhq --out s3://bucket/latents/me

Cost: 30 to 100 ms a frame and core for the landmarks, then crops and codes; 0.6 GB a core.
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
