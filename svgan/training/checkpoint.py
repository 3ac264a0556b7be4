"""Checkpoints: a folder with `tensors.safetensors` (every tensor, by name) and `state.json` (everything else).

A checkpoint contains no code. It is written to a temporary folder and renamed, so it is complete or absent. Reading
checks its digest, and compares names and shapes with the state that its configuration makes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from svgan.errors import UserError
from svgan.io.atomic import folder_beside, write_whole
from svgan.latents.spaces import Space, space_from_state
from svgan.motion import Motion
from svgan.training import registry
from svgan.training.config import RunConfig
from svgan.training.state import State, Sums

FORMAT = 1
TENSORS, RECORD = "tensors.safetensors", "state.json"
SAMPLED = ("ema.", "space.")  # the parts that sampling needs
REMEDY = "give a folder that svgan train wrote"


class Damaged(UserError):
    """A checkpoint that is incomplete or damaged; an earlier one may be intact."""


@dataclass(frozen=True)
class Generator:
    """The parts of a checkpoint that sampling needs. meta: config, step, domain and latents digests, fps."""

    motion: Motion
    space: Space
    meta: dict[str, Any]


def save(state: State, folder: Path | str) -> Path:
    """Write `state` to `folder`, replacing an existing checkpoint. Raises UserError if the storage refuses."""
    folder = Path(folder)
    try:
        aside = folder_beside(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot write ({error}); give another folder") from error
    try:
        _write(state, aside)
        _publish(aside, folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot write ({error}); nothing of it is kept") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def load(folder: Path | str, device: torch.device | str = "cpu") -> State:
    """Load the state that `save` wrote. Raises UserError for a foreign, damaged or incomplete folder."""
    folder = Path(folder)
    record = read_record(folder)
    tensors = _read_tensors(folder, record["sha256"])
    space, config = _space(folder, record, tensors), _config(folder, record)
    state = registry.build_state(config, space, record["meta"], device)
    _fill(state.tensors(), tensors, folder)
    state.step, state.history = record["step"], record["history"]
    if "sums" in record:  # since 0.2; earlier states were saved at reports only, with no sums
        state.sums = Sums.from_json(record["sums"], state.device)
    return state


def load_generator(folder: Path | str, device: torch.device | str = "cpu") -> Generator:
    """Load the EMA generator and its space only. Raises UserError as `load` does."""
    folder = Path(folder)
    record = read_record(folder)
    tensors = _read_tensors(folder, record["sha256"], SAMPLED)
    space, config = _space(folder, record, tensors), _config(folder, record)
    motion = registry.get(config.system).motion(config, space)
    _fill({f"ema.{k}": v for k, v in motion.state_dict().items()}, _part(tensors, "ema."), folder, "ema.")
    motion = motion.to(device).requires_grad_(False).eval()
    meta = record["meta"] | {"config": config.to_json(), "step": record["step"]}
    return Generator(motion, space.to(device), meta)


def read_record(folder: Path | str) -> dict[str, Any]:
    """Read and check state.json. Raises UserError."""
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Damaged(f"{folder}: no {RECORD} here, so not a checkpoint; {REMEDY}") from error
    except (OSError, ValueError) as error:
        raise Damaged(f"{path}: cannot be read ({error}); {REMEDY}") from error
    kinds = {"config": dict, "step": int, "space": dict, "meta": dict, "history": list, "sha256": str}
    if not isinstance(record, dict) or any(not isinstance(record.get(k), kind) for k, kind in kinds.items()):
        raise Damaged(f"{path}: not a checkpoint's record; {REMEDY}")
    if record.get("format") != FORMAT:
        raise UserError(f"{path}: format {record.get('format')}, this version reads {FORMAT}; update svgan")
    return record


def _write(state: State, folder: Path) -> None:
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in state.tensors().items()}
    with write_whole(folder / TENSORS) as aside:
        save_file(tensors, aside)
    record = {
        "format": FORMAT,
        "config": state.config.to_json(),
        "step": state.step,
        "space": state.space.spec(),
        "meta": state.meta,
        "history": state.history,
        "sums": state.sums.to_json(),
        "sha256": _sha256(folder / TENSORS),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1))
    for path in (folder / TENSORS, folder / RECORD, folder):
        _to_disk(path)


def _publish(aside: Path, folder: Path) -> None:
    if folder.exists():
        old = aside.with_suffix(".replaced")
        os.replace(folder, old)
        os.replace(aside, folder)
        shutil.rmtree(old)
    else:
        os.replace(aside, folder)
    _to_disk(folder.parent)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_tensors(folder: Path, sha256: str, prefixes: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    path = folder / TENSORS
    try:
        if _sha256(path) != sha256:
            raise Damaged(f"{path}: damaged (its digest is not the recorded one); go back to an earlier checkpoint")
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise Damaged(f"{path}: cannot be read ({error}); go back to an earlier checkpoint") from error


def _config(folder: Path, record: Mapping[str, Any]) -> RunConfig:
    try:
        return registry.read_config(record["config"])
    except UserError as error:
        raise UserError(f"{folder / RECORD}: {error}") from error


def _space(folder: Path, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Space:
    try:
        own = {name.removeprefix("space."): t for name, t in _part(tensors, "space.").items()}
        return space_from_state(record["space"], own)
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{folder}: its space cannot be rebuilt ({type(error).__name__}); {REMEDY}") from error


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: t for name, t in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def _fill(own: Mapping[str, Tensor], read: Mapping[str, Tensor], folder: Path, prefix: str = "") -> None:
    """Copy tensors into those of a fresh state; names, shapes and types must agree exactly."""
    path = folder / TENSORS
    if missing := sorted(set(own) - set(read)):
        raise UserError(f"{path}: {missing[0]} is missing; {REMEDY}")
    if unknown := sorted(set(read) - set(own)):
        raise UserError(f"{path}: {unknown[0]} does not belong to this configuration; {REMEDY}")
    for name, tensor in own.items():
        if tensor.shape != read[name].shape or tensor.dtype != read[name].dtype:
            raise UserError(
                f"{path}: {name} is {read[name].dtype} {list(read[name].shape)}, "
                f"the configuration makes it {tensor.dtype} {list(tensor.shape)}; {REMEDY}"
            )
        tensor.copy_(read[name])
