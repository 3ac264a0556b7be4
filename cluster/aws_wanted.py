"""What cluster/gpu.yaml wants of AWS: region, bucket, key, cluster and the types of its nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from cluster import yaml_check
from svgan.errors import UserError, one_line

BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


@dataclass(frozen=True)
class Wanted:
    """What the yaml asks for. types: EC2 instance types of the workers."""

    cluster: str
    region: str
    bucket: str
    key: str
    image: str
    head: str
    worker: str
    types: tuple[str, ...]

    @classmethod
    def read(cls, text: str, name: str) -> Wanted:
        """Raises UserError naming the field."""
        try:
            config = yaml.safe_load(text)
            told, kinds = config["metadata"], dict(config["available_node_types"])
            profiles = {key: kind["node_config"]["IamInstanceProfile"]["Name"] for key, kind in kinds.items()}
            head = profiles.pop(config["head_node_type"])
            workers = set(profiles.values())
            types = tuple(sorted({kinds[key]["node_config"]["InstanceType"] for key in profiles}))
            found = {key: str(told[key]) for key in ("region", "bucket", "key", "image")}
            cluster = str(config["cluster_name"])
        except yaml.YAMLError as error:
            raise UserError(f"{name}: no YAML ({one_line(error)})") from None
        except (KeyError, TypeError) as error:
            raise UserError(f"{name}: {error} is missing; start again from the repository's cluster/gpu.yaml") from None
        yaml_check.check(config, name)
        if not BUCKET.match(found["bucket"]):
            raise UserError(f"{name}: bucket {found['bucket']}: put your own bucket's name there, in small letters")
        if len(workers) != 1 or head in workers:
            raise UserError(f"{name}: IamInstanceProfile: give all workers one profile, and the head another")
        return cls(cluster=cluster, head=head, worker=workers.pop(), types=types, **found)
