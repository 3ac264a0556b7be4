"""Check a cluster's yaml before anything is started: by Ray's own schema, and where Ray does not look.

    python -m cluster.yaml_check cluster/onprem.yaml

Ray accepts any field of `provider`, and passes a node's `node_config` to EC2 unread. A typo there costs money or a
launch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster import exit_code
from cluster.ray_internals import read_as_ray_up, schema
from svgan.errors import UserError, one_line

EDIT, UNSET = "CHANGE-ME", "run-make-aws-setup"
NOT_EC2S = {"SubnetIds"}  # Ray's own, of which it chooses one
NOT_IN_SCHEMA = {"key_pair", "aws_credentials", "use_external_head_ip", "external_head_ip", "coordinator_address"}


def ready(path: Path) -> None:
    """Raises UserError, naming the place, for a file from which `ray up` could not make a cluster: typos, fields still
    to be edited, a missing key.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        why = f"no YAML ({one_line(error)})"
        if "expected a single document" in why:
            why = "several documents, so none of `ray up`'s; Kubernetes takes it: kubectl apply -f"
        raise UserError(f"{path}: {why}") from None
    check(config, path.name)
    edited(config, path.name)
    key = (config.get("auth") or {}).get("ssh_private_key")
    if key and not Path(key).expanduser().is_file():
        raise UserError(f"{path.name}: auth.ssh_private_key: there is no {key} on this machine")


def edited(config: dict[str, Any], name: str) -> None:
    """Raises UserError if a name is still the repository's."""
    for place, text in _texts(config, ""):
        if EDIT in text:
            raise UserError(f"{name}: {place[1:]}: {text} is to be edited")
        if text == UNSET:
            raise UserError(f"{name}: {place[1:]} is not set yet; first: make aws-setup ARGS=--apply")


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """All strings of a document, each with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(inner, f"{place}.{key}")


def check(config: Any, name: str) -> dict[str, Any]:
    """Check what `ray up` makes of the yaml before it contacts a cloud. Raises UserError naming the place."""
    import click
    import jsonschema

    if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
        raise UserError(f"{name}: provider is missing; start again from the repository's file of that name")
    known = set(schema()["properties"]["provider"]["properties"]) | NOT_IN_SCHEMA
    if unknown := sorted(set(config["provider"]) - known):
        raise UserError(f"{name}: provider.{unknown[0]}: Ray knows no such field; a typo?")
    try:
        prepared = read_as_ray_up(config)
    except jsonschema.ValidationError as error:
        place = ".".join(map(str, error.absolute_path))
        raise UserError(f"{name}: {place + ': ' if place else ''}{error.message[:300]}") from None
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(f"{name}: {one_line(error, 300)}") from None
    except click.ClickException:
        raise UserError(f"{name}: Ray refuses it; it says why above") from None
    if config["provider"].get("type") == "aws":
        _check_machines(prepared, name)
    return prepared


def _check_machines(config: dict[str, Any], name: str) -> None:
    """Check each node type's `node_config` by botocore's description of RunInstances."""
    from botocore.session import Session
    from botocore.validate import ParamValidator

    service = Session().get_service_model("ec2")
    shape = service.operation_model("RunInstances").input_shape
    for kind, settings in config["available_node_types"].items():
        asked = {key: value for key, value in settings["node_config"].items() if key not in NOT_EC2S}
        found = ParamValidator().validate({**asked, "MinCount": 1, "MaxCount": 1}, shape)
        if found.has_errors():
            line = found.generate_report().splitlines()[0]
            raise UserError(f"{name}: available_node_types.{kind}.node_config: {line[:300]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cluster.yaml_check", description="Is the file ready for `ray up`?")
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    ready(file)
    print(f"{file}: ready for `ray up`")


if __name__ == "__main__":
    sys.exit(exit_code(main))
