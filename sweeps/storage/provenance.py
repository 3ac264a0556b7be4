"""The code behind a figure: the git commit, if there is one, and a digest of the installed package."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import svgan
import sweeps
from sweeps.storage.environment import COMMIT

GIT_SECONDS = 10.0  # git answers in some ms; a network disk that does not answer must not hold the start


def package_digest(*rooms: Path) -> str:
    """12 hex digits of sha256 over the names and bytes of all .py files of `svgan` and `sweeps`, or of these
    folders.
    """
    total = hashlib.sha256()
    for root in rooms or (Path(svgan.__file__).parent, Path(sweeps.__file__).parent):
        for path in sorted(root.rglob("*.py")):
            total.update(f"{root.name}/{path.relative_to(root).as_posix()}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()[:12]


def git_commit(folder: Path = Path(__file__).parent) -> str | None:
    """The commit of the checkout that holds this package (or folder), with `-dirty` if files differ; None outside git.

    SVGAN_COMMIT names the commit of a package that was sent to a cluster.
    """
    if told := os.environ.get(COMMIT):
        return told

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=GIT_SECONDS
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def code_tags() -> dict[str, str]:
    tags = {"package": package_digest()}
    commit = git_commit()
    if commit:
        tags |= {"commit": commit, "mlflow.source.git.commit": commit.removesuffix("-dirty")}
    return tags
