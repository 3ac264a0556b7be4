"""`ray up` runs this on the head: the yaml's `metadata.environment` becomes ~/.svgan_env, which every shell reads.

The secrets of the cluster, Ray's token and MLflow's password, are made here, once. Each lies in a file that only its
user can read, and never leaves the cluster. Ray copies the environment and the token to every worker
(`cluster_synced_files`).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import Any

from cluster import exit_code, yaml_check
from svgan.errors import UserError

USER = "svgan"


def variables(config: dict[str, Any]) -> dict[str, str]:
    """The environment with {bucket} and other fields of `metadata` filled in. Raises UserError.

    config: the yaml as Ray leaves it on the head.
    """
    fields = {key: value for key, value in config["metadata"].items() if isinstance(value, str)}
    filled = {}
    for name, value in config["metadata"]["environment"].items():
        try:
            filled[name] = str(value).format_map(fields)
        except (KeyError, IndexError, ValueError):
            known = ", ".join(f"{{{field}}}" for field in fields)
            raise UserError(f"metadata.environment.{name} {value}: only {known} can be filled in") from None
    return {name: str(Path(value).expanduser()) if value.startswith("~/") else value for name, value in filled.items()}


def write_private(path: Path, text: str) -> None:
    """Write a file atomically; nobody else can read it at any time."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(aside, path)


def keep_secret(path: Path, text: str) -> None:
    """Write a secret if there is none yet; close an existing one to others."""
    if path.exists():
        path.chmod(0o600)
    else:
        write_private(path, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="~/ray_bootstrap_config.yaml")
    config = json.loads(parser.parse_args().config.read_text())
    yaml_check.edited({"metadata": config["metadata"]}, config["cluster_name"])
    home = Path.home()
    keep_secret(home / ".ray/auth_token", secrets.token_hex(32))
    password = f"mlflow_tracking_username = {USER}\nmlflow_tracking_password = {secrets.token_urlsafe(24)}\n"
    keep_secret(home / ".mlflow/credentials", f"[mlflow]\n{password}")
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables(config).items()]
    write_private(home / ".svgan_env", "".join(lines))


if __name__ == "__main__":
    sys.exit(exit_code(main))
