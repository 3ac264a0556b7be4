"""The flags of every study file, and the command that resumes a study."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from svgan.dataclass_flags import HELP, UNDECIDED, flag, parse, switch
from svgan.errors import UserError
from sweeps.driver.definition import Study
from sweeps.storage import environment
from sweeps.storage.environment import on_cluster
from sweeps.storage.paths import absolute, study_folder
from sweeps.storage.plan import Plan, check_name
from sweeps.storage.plan_parts import ON_CPU, ON_GPU, PARTS, Compute, Data, Judging, Output, Search

# Given beside --resume, these replace what the study was started with.
REPLACEABLE = ("max_gpu_hours", "max_hours", "trial_hours", "patience", "on_end")
NOT_REMEMBERED = ("resume", "take_over", "storage", "trials", "enqueue", *REPLACEABLE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of a study. `test_flags.py` freezes their set."""

    search: Search
    data: Data = dataclasses.field(default_factory=Data)
    compute: Compute = dataclasses.field(default_factory=Compute)
    judging: Judging
    output: Output
    grid: Annotated[list[str] | None, flag("FIELD=V,V", words=True, default="alone: the study's")] = None
    """Train every point of a grid, none pruned, in place of a search, as in gap_weight=0,1,10."""
    enqueue: Annotated[list[str] | None, flag("FIELD=V,FIELD=V", words=True, default="none")] = None
    """Points of the space that run before anything is proposed. Without --trials, each is a trial more."""
    name: Annotated[str | None, flag("NAME", default="the study's, with date and time")] = None
    """Name of this run of the study."""
    resume: Annotated[str | None, flag("NAME", default="none")] = None
    """Finish the study of that name: finished trials stay, interrupted ones continue. Flags are remembered."""
    take_over: Annotated[bool, switch("if its driver lives, refuse")] = False
    """With --resume: take the study over from a driver on another machine, without waiting to see whether it lives."""

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)
        if self.take_over and not self.resume:
            raise UserError("--take-over: it needs the study's name; give --resume NAME")

    @classmethod
    def defaults(cls, study: Study) -> Flags:
        """The flags of a study if none is given. What the driver decides is undecided."""
        return cls(
            search=Search(
                recipe=study.recipe,
                metric=study.metric,
                objective=f"{study.metric}_best",
                controls=UNDECIDED,
                steps=study.steps,
                seconds=study.seconds,
                seeds=study.seeds,
                reports=study.reports,
                rungs=UNDECIDED,
                reduction=study.reduction,
            ),
            judging=Judging(
                clips=UNDECIDED if study.clips is None else study.clips,
                metrics=tuple(study.metrics),
                precision=UNDECIDED,
            ),
            output=Output(folder=UNDECIDED, model=UNDECIDED),
        )

    @classmethod
    def parse(cls, study: Study, arguments: Sequence[str] | None, doc: str = "") -> Flags:
        """Parse flags. Raises UserError for one that cannot be read or is out of range."""
        given = list(sys.argv[1:] if arguments is None else arguments)
        flags = cls.defaults(study)
        if set(HELP) & set(given):  # it shows their number
            flags = dataclasses.replace(flags, search=dataclasses.replace(flags.search, trials=study.trials))
        return parse(flags, given, prog=f"sweeps/{study.name}.py", description=doc)

    def check_resumable(self, study: Study) -> None:
        """Raises UserError for a flag that may not be given beside --resume."""
        usual = Flags.defaults(study)
        for part, other in [(self, usual), *((getattr(self, name), getattr(usual, name)) for name in PARTS)]:
            for name, value in vars(part).items():
                if name not in (*PARTS, *NOT_REMEMBERED) and value != getattr(other, name):
                    raise UserError(
                        f"{environment.option(name)}: a study's flags are remembered; leave it out with --resume"
                    )


def judged_on(asked: Judging, gpu: bool) -> dict[str, Any]:
    """The clips of a trial's FVD, and the clips and seeds of a champion's: as asked, else what a CPU or a GPU measures
    in minutes.

    With --clips, a promotion uses no more clips than those.
    """
    clips, many, seeds = ON_GPU if gpu and asked.clips is None else (ON_CPU, 0, 1)
    usual = {"clips": clips, "promotion_clips": many, "promotion_seeds": seeds}
    return {name: count if getattr(asked, name) is None else getattr(asked, name) for name, count in usual.items()}


def resume_command(plan: Plan) -> str:
    """The command that resumes a study, by the study file that is running, if one is."""
    if environment.launched():
        return f"ray submit {environment.yaml()} sweeps/{plan.study}.py -- --resume {plan.name}"
    if on_cluster():
        again = f"kubectl delete rayjob svgan-{plan.study}; kubectl apply -f {environment.yaml()}"
        return f"{again}  # its entrypoint with --resume {plan.name}"
    script = Path(sys.argv[0])
    file = script if script.suffix == ".py" and script.name != "__main__.py" else f"sweeps/{plan.study}.py"
    usual = study_folder(absolute("./runs"), plan.name) == Path(plan.output.folder)
    return f"python {file} --resume {plan.name}" + ("" if usual else f" --storage {plan.output.storage}")
