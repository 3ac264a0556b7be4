"""`python -m sweeps gc NAME...`: delete the checkpoints and models that nothing needs.

Three things are needed: the training state and models of trials that have not ended, every trial's best model by latent
FD and by FVD, and every registered model. Only what is known by name is deleted: Ray Train's folders of trials that
have ended, Tune's own files, and superseded models in MLflow.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.metrics.names import LATENT_FD
from sweeps.commands import find_study
from sweeps.storage.tag_names import SEED, TRIAL

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from rich.table import Table

    from sweeps.storage.plan import Plan
    from sweeps.tracking.client import Tracking

HELP = "delete checkpoints that nothing needs any more"
ABOUT = """Delete the checkpoints and models of an ended study that nothing needs, after showing them and asking.

  python -m sweeps gc gap-1 gap-2 --dry-run       only show what would be freed, trial by trial
  python -m sweeps gc gap-1 --yes                 do not ask

Deleted: the training state of trials that have ended (a resume needs that of the others only), models that a later one
of the same trial has beaten, and Tune's own files. Kept: each trial's best model by latent FD and by FVD long, every
registered model, clips, figures, error texts, Optuna's record. If it is interrupted, run it again.

MLflow keeps a deleted model's entry, without its files; `mlflow gc` removes such entries from its database.
"""
TUNE_FILES = re.compile(
    r"tuner\.pkl|trainable\.pkl|\.validate_storage_marker|(experiment_state|search_gen_state|searcher-state|"
    r"basic-variant-state|search_gen_state-)[\w.:-]*\.(json|pkl)|trial-\d{4,}/(error\.pkl|params\.(json|pkl)|"
    r"result\.json|progress\.csv|checkpoint_\w+/.*)"
)


@dataclasses.dataclass(frozen=True)
class Item:
    """Something to delete. trial: its number, None if it belongs to the study; kind: a column of the table."""

    trial: int | None
    kind: str
    bytes: int
    delete: Callable[[], None]


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="the studies' names")
    parser.add_argument("--dry-run", action="store_true", help="show what would be freed, and delete nothing")
    parser.add_argument("--yes", action="store_true", help="delete without asking; give whole names")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> None:
    from rich.console import Console

    from sweeps.storage import driver_lock
    from sweeps.tracking import outbox

    plans = [find_study.folder_plan(asked, name, exact=asked.yes) for name in asked.names]
    for plan in plans:
        if driver_lock.is_held(plan):
            raise UserError(
                f"{plan.name}: {driver_lock.holder(plan)} is running it; wait, or: python -m sweeps stop {plan.name}"
            )
        if outbox.waiting(plan):
            raise UserError(f"{plan.name}: writes wait for MLflow in its outbox; first: python -m sweeps sync")
    console = Console(highlight=False)
    for plan in plans:
        with console.status(f"{plan.name}: looking"):
            items = list(superfluous(plan, find_study.open_tracking(plan)))
        if not items:
            console.print(f"{plan.name}: nothing to delete")
            continue
        console.print(table(plan.name, items))
        if asked.dry_run:
            continue
        if not asked.yes and not confirmed(plan.name):
            console.print(f"{plan.name}: nothing was deleted")
            continue
        delete(items, console)
        console.print(f"{plan.name}: {size(sum(item.bytes for item in items))} freed")


def superfluous(plan: Plan, tracking: Tracking) -> Iterator[Item]:
    """List what can be deleted. It is found anew on each call, so an interrupted gc continues where it stopped."""
    over = trials_over(plan, tracking)
    yield from models(tracking, over)
    files, root = file_system(plan.output.storage)
    for number in sorted(over):
        folder = f"{root}/{plan.trial_name(number)}"
        if files.exists(folder):
            yield Item(number, "training state", files.du(folder), partial(files.rm, folder, recursive=True))
    tune = f"{root}/{plan.name}/tune"
    known = [path for path in files.find(tune) if TUNE_FILES.fullmatch(path[len(tune) + 1 :])]
    if known:
        yield Item(None, "Tune's files", sum(files.size(path) or 0 for path in known), partial(files.rm, known))


def trials_over(plan: Plan, tracking: Tracking) -> set[int]:
    """The numbers of the trials that have ended according to both Optuna and MLflow."""
    from sweeps.reports.trial_table import ENDED, rows_of
    from sweeps.search.optuna_store import open_study

    record = {trial.number for trial in open_study(plan).get_trials(deepcopy=False) if trial.state.is_finished()}
    return record & {row.number for row in rows_of(tracking.runs(), alive=False) if row.status in ENDED}


def models(tracking: Tracking, over: set[int]) -> Iterator[Item]:
    """The superseded models of trials that have ended, seed by seed, with the bytes of their files."""
    from sweeps.promotion.registry import FIGURE
    from sweeps.tracking.client import registered_models, sweep_models

    registered = registered_models(tracking.client)
    rivals: dict[tuple[int, str], list[LoggedModel]] = {}
    for model in sweep_models(tracking.client, tracking.experiment, tracking.plan.name):
        rivals.setdefault((int(model.tags[TRIAL]), model.tags.get(SEED, "")), []).append(model)
    for number, seed in sorted(key for key in rivals if key[0] in over):
        own = rivals[number, seed]
        best = {best_by(own, LATENT_FD), best_by(own, FIGURE)} - {None}
        # If none of them has figures, the best one is unknown.
        for model in own if best else ():
            if model.model_id not in best | registered:
                yield model_item(tracking, number, model)


def best_by(models: Sequence[LoggedModel], name: str) -> str | None:
    from sweeps.promotion.registry import figure

    judged = [(value, model.model_id) for model in models if (value := figure(model, name)) is not None]
    return min(judged)[1] if judged else None


def model_item(tracking: Tracking, number: int, model: LoggedModel) -> Item:
    from sweeps.tracking.client import delete_model, files_of

    return Item(number, "models", artifact_bytes(files_of(tracking, model)), partial(delete_model, tracking, model))


def artifact_bytes(stored: Any, path: str | None = None) -> int:
    listed = stored.list_artifacts(path)
    return sum(artifact_bytes(stored, each.path) if each.is_dir else each.file_size or 0 for each in listed)


def file_system(storage: str) -> tuple[Any, str]:
    import fsspec

    files, path = fsspec.core.url_to_fs(storage)
    files.invalidate_cache()
    return files, path.rstrip("/")


def table(name: str, items: Sequence[Item]) -> Table:
    """A table of what would be freed: one row per trial, one column per kind, and the sums."""
    from rich.table import Table

    kinds = list(dict.fromkeys(item.kind for item in items))
    rows = sorted({item.trial for item in items}, key=lambda trial: (trial is None, trial))
    shown = Table("trial", title=f"{name}: not needed any more", box=None, pad_edge=False, title_justify="left")
    for kind in (*kinds, "in all"):
        shown.add_column(kind, justify="right")
    for row in [*rows, "all"]:
        own = [item for item in items if row in ("all", item.trial)]
        sums = [sum(item.bytes for item in own if item.kind == kind) for kind in kinds]
        label = "study" if row is None else str(row)
        shown.add_row(label, *(size(part) if part else "-" for part in sums), size(sum(sums)))
    return shown


def confirmed(name: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError(f"{name}: nobody is there to be asked; give --yes to delete, or --dry-run to look")
    return input(f"{name}: delete this? [y/N] ").strip().lower() in ("y", "yes")


def delete(items: Sequence[Item], console: Any) -> None:
    from svgan.reports.progress import Stages, bars

    with bars(console) as progress:
        tell = Stages(progress)
        for done, item in enumerate(items, start=1):
            item.delete()
            tell("deleting", done, len(items))


def size(count: int) -> str:
    """'512 B', '3.4 MB', '1.2 GB'; powers of ten."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{count} B" if units[0] == "B" else f"{value:.1f} {units[0]}"
