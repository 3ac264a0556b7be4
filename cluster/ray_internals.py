"""The one place of this room that uses what Ray does not publish: how `ray up` reads a cluster's yaml."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from sweeps.storage.tested_versions import may_use_internals


def read_as_ray_up(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of the yaml before it reaches for a cloud. Raises what Ray raises.

    Internal: the two functions by which `ray up` fills and checks it. Public way: Ray's defaults and Ray's schema;
    whether counts of nodes and a list of hosts make sense, `ray up` then says itself.
    """
    asked = copy.deepcopy(config)
    if may_use_internals("ray"):
        from ray.autoscaler._private.util import prepare_config, validate_config

        prepared: dict[str, Any] = prepare_config(asked)
        validate_config(prepared)
        return prepared
    import jsonschema
    from ray.autoscaler.sdk import fillout_defaults

    filled: dict[str, Any] = fillout_defaults(asked)
    jsonschema.validate(filled, schema())
    return filled


def schema() -> dict[str, Any]:
    """Ray's JSON schema of a cluster's yaml, a file of its package."""
    import ray.autoscaler

    read: dict[str, Any] = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
    return read
