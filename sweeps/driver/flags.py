"""The flags of every study file, and the command that resumes a study."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from svgan.cli import Parser
from sweeps.storage import environment
from sweeps.storage.environment import on_cluster, shown
from sweeps.storage.paths import absolute, study_folder
from sweeps.storage.plan import OBJECTIVES, Plan

# The ladder of docs/judging.md: clips of a trial's FVD; on a GPU also a champion's, and over how many seeds.
ON_CPU, ON_GPU = 64, (256, 2048, 3)


def parser(
    study: str, doc: str, *, trials: int, steps: int, clips: int | None, seconds: float | None = None, seeds: int = 1
) -> argparse.ArgumentParser:
    """The flags of every study file; their set is frozen by a test."""
    p = Parser(prog=f"sweeps/{study}.py", description=doc)
    counts: dict[str, Any] = {"type": int, "metavar": "N"}
    ask = p.add_argument_group("what to run")
    ask.add_argument("--trials", **counts, help=f"trials, controls included [{trials}; with --grid, its points]")
    ask.add_argument("--steps", default=steps, **counts, help="generator steps of a whole trial [%(default)s]")
    ask.add_argument(
        "--seconds",
        default=seconds,
        type=float,
        metavar="X",
        help="of training, in place of steps: each trial, all of them controls or of a grid, has as many steps as take "
        f"so long by a timing beforehand [{'as many as --steps' if seconds is None else f'{seconds:g}'}]",
    )
    usual = f"{ON_CPU}; {ON_GPU[0]} where workers have GPUs" if clips is None else clips
    ask.add_argument("--clips", default=clips, **counts, help=f"clips behind each FVD; 0: no FVD [{usual}]")
    ask.add_argument("--seed", default=0, **counts, help="of the search and of every trial [%(default)s]")
    ask.add_argument(
        "--grid",
        nargs="*",
        metavar="FIELD=V,V",
        help="every point of a grid in place of a search, each whole, as in gap_weight=0,1,10 [alone: the study's]",
    )
    ask.add_argument(
        "--objectives",
        metavar="A,B",
        help=f"several to minimise at once, towards their Pareto front: of {', '.join(OBJECTIVES)}",
    )
    ask.add_argument(
        "--seeds",
        default=seeds,
        **counts,
        help="of each trial, trained in turn: it is judged by their mean [%(default)s]",
    )
    ask.add_argument(
        "--promotion-clips",
        **counts,
        help="clips behind the figure by which the champion is chosen among the best few [those of --clips; "
        f"{ON_GPU[1]} where workers have GPUs and --clips is not given]",
    )
    ask.add_argument(
        "--promotion-seeds", **counts, help=f"of generation, over which that figure is a mean [1; {ON_GPU[2]} as above]"
    )
    ask.add_argument(
        "--latents",
        default=environment.default("latents"),
        metavar="URI",
        help=f"W+ shards: a folder or URL [{shown('latents', 'those of the domain')}]",
    )
    ask.add_argument(
        "--domain", metavar="DIR", help="what renders: a domain's folder, at the same place on every node [the study's]"
    )
    ask.add_argument(
        "--pictures", metavar="DIR", help="another domain, whose pictures are to move (cross-domain recipes) [none]"
    )
    ask.add_argument(
        "--footage",
        action="store_true",
        help="recipes of frames see the recorded ones, kept beside the codes by svgan embed --frames [what codes "
        "render]",
    )
    size = p.add_argument_group("on what")
    size.add_argument(
        "--workers",
        default=environment.default("workers", 1),
        **counts,
        help=f"DDP workers of a trial [{shown('workers', 1)}]",
    )
    size.add_argument(
        "--gpus-per-worker",
        default=environment.default("gpus_per_worker"),
        type=float,
        metavar="X",
        help=f"[{shown('gpus_per_worker', 'a share of the GPUs there are, else 0')}]",
    )
    size.add_argument(
        "--concurrency",
        **counts,
        help=f"trials at a time [as CPUs, GPUs and memory allow; at most {shown('concurrency', 'any')}]",
    )
    size.add_argument(
        "--max-gpu-hours",
        type=float,
        metavar="X",
        help="GPU-hours, or core-hours where trials have no GPU, after which the study stops, to be resumed with more "
        f"[{shown('max_gpu_hours', 'none')}]",
    )
    size.add_argument(
        "--patience",
        type=float,
        default=15.0,
        metavar="MIN",
        help="minutes without a step after which a worker is killed and started again [%(default)g]",
    )
    keep = p.add_argument_group("where it is kept")
    keep.add_argument(
        "--storage",
        default=environment.default("storage", "./runs"),
        metavar="URI",
        help=f"checkpoints, state and logs [{shown('storage', './runs')}]",
    )
    keep.add_argument("--tracking", metavar="URI", help=f"MLflow [{shown('tracking', 'sqlite:///mlflow.db')}]")
    keep.add_argument(
        "--optuna", default="", metavar="URL", help="its record: 'journal' or postgresql://... [optuna.db in storage]"
    )
    keep.add_argument("--experiment", default="svgan", metavar="NAME", help="MLflow experiment [%(default)s]")
    keep.add_argument("--name", metavar="NAME", help="of this run of the study [the study's, with date and time]")
    keep.add_argument(
        "--resume",
        metavar="NAME",
        help="finish the study of that name: done trials stay, cut ones go on (flags remembered)",
    )
    return p


def judged_on(asked: argparse.Namespace, gpu: bool) -> tuple[int, int, int]:
    """Clips behind a trial's FVD, those behind a champion's, and over how many seeds: as asked, else what a CPU, or a
    GPU, does in minutes. Asking for --clips is asking for no more than these at a promotion."""
    clips, many, seeds = ON_GPU if gpu and asked.clips is None else (ON_CPU, 0, 1)
    return (
        clips if asked.clips is None else asked.clips,
        many if asked.promotion_clips is None else asked.promotion_clips,
        seeds if asked.promotion_seeds is None else asked.promotion_seeds,
    )


def resume_command(plan: Plan) -> str:
    """The command that finishes a study which was stopped or cut, by the file that is running, if a study's is."""
    if environment.launched():
        return f"ray submit {environment.yaml()} sweeps/{plan.study}.py -- --resume {plan.name}"
    if on_cluster():
        again = f"kubectl delete rayjob svgan-{plan.study}; kubectl apply -f {environment.yaml()}"
        return f"{again}  # its entrypoint with --resume {plan.name}"
    script = Path(sys.argv[0])
    file = script if script.suffix == ".py" and script.name != "__main__.py" else f"sweeps/{plan.study}.py"
    usual = study_folder(absolute("./runs"), plan.name) == Path(plan.folder)
    return f"python {file} --resume {plan.name}" + ("" if usual else f" --storage {plan.storage}")
