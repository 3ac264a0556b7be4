"""A user's laptop with this repository, and the cluster files it is given: the repository's own, names replaced."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hosts import HOME, REPOSITORY, USER, Host, Network
from services import ACCESS_KEY, BUCKET, REGION, SECRET, Services

LAPTOP = "10.77.0.3"
OBJECTS = 128 * 2**20  # bytes of each host's object store
# Ray asks nobody outside, and takes of the machine that all hosts share what a host of its own would have.
SHELL = f"""export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
export RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES={OBJECTS}
"""


def account(services: Services) -> dict[str, str]:
    """~/.aws: whose cloud it is and where. On the instances it stands for what their profile and the real AWS give."""
    names = ("ec2", "iam", "sts", "s3")
    parts = "".join(f"{name} =\n  endpoint_url = {services.ec2}\n" for name in names)
    return {
        ".aws/credentials": f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n",
        ".aws/config": f"[default]\nregion = {REGION}\nservices = here\n[services here]\n{parts}",
    }


def image() -> dict[str, str]:
    """What a node has in its user's home beforehand: what node_setup.sh would install."""
    digest = hashlib.sha256(
        b"".join((REPOSITORY / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    )
    return {".bashrc": SHELL, ".svgan_ready": f"{digest.hexdigest()}  -\n"}


def equip(host: Host) -> None:
    """The rest of the image: the environment where node_setup.sh makes it, and I3D, which a cluster fetches."""
    from svgan.assets import cache

    (host.home / "svgan-venv").symlink_to(sys.prefix)
    shutil.copytree(cache.path("i3d").parent, host.home / ".cache/svgan/i3d")
    host.own()


def laptop(network: Network, services: Services) -> Host:
    """A host with a clone of this repository in ~/svgan, uncommitted changes too, as make install leaves it."""
    made = network.host("laptop", LAPTOP, home={".bashrc": f"{SHELL}export VENV={sys.prefix}\n", **account(services)})
    clone = made.home / "svgan"
    subprocess.run(
        ["git", "-c", "advice.detachedHead=false", "clone", "-q", "--no-hardlinks", REPOSITORY, clone], check=True
    )
    listed = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, clone / name)
    made.own()
    packages = sysconfig.get_path("purelib")
    made.run("bash", "-c", f"touch $VENV/.ready; echo {HOME}/svgan > {packages}/svgan.pth")
    return made


def edit(host: Host, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit a cluster file of the laptop's clone."""
    path = host.home / "svgan/cluster" / name
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config, sort_keys=False, width=1000))


def asked(config: dict[str, Any]) -> None:
    """What a study asks for by default where no host has a GPU, and where its codes are."""
    told = {"SVGAN_WORKERS": "2", "SVGAN_GPUS_PER_WORKER": "0", "SVGAN_CONCURRENCY": "1"}
    config["metadata"]["environment"] |= told | {"SVGAN_LATENTS": "s3://{bucket}/latents"}


def aws(host: Host, services: Services) -> None:
    """cluster/gpu.yaml as its user makes it: the names edited, make aws-setup. Then what moto and a machine without a
    GPU need: private addresses, workers of one CPU, an S3 of their own, and a minute of idleness."""
    path = host.home / "svgan/cluster/gpu.yaml"
    path.write_text(path.read_text().replace("bucket: CHANGE-ME", f"bucket: {BUCKET}"))
    host.run("make", "-C", "svgan", "aws-setup", "ARGS=--apply --address 10.77.0.0/16")

    def change(config: dict[str, Any]) -> None:
        asked(config)
        config["metadata"]["environment"]["AWS_ENDPOINT_URL_S3"] = services.s3
        config["provider"]["use_internal_ips"] = True
        config["idle_timeout_minutes"] = 1
        for name, kind in config["available_node_types"].items():
            if name != config["head_node_type"]:
                kind["resources"] = {"CPU": 1}

    edit(host, "gpu.yaml", change)


def put_latents(services: Services) -> None:
    """The default domain's codes, as shards in the bucket."""
    from svgan.images.domain import Domain

    folder, client = Path(Domain.load("default").latents_uri), services.client("s3")
    for path in folder.iterdir():
        client.upload_file(str(path), BUCKET, f"latents/{path.name}")


def onprem(host: Host, services: Services, head: str, workers: Sequence[str]) -> None:
    """cluster/onprem.yaml with its names edited; each worker stands for a machine of one CPU."""
    path = host.home / "svgan/cluster/onprem.yaml"
    text = path.read_text().replace("bucket: CHANGE-ME", f"bucket: {BUCKET}")
    path.write_text(text.replace("endpoint: http://CHANGE-ME:8333", f"endpoint: {services.s3}"))

    def change(config: dict[str, Any]) -> None:
        asked(config)
        config["provider"] |= {"head_ip": head, "worker_ips": list(workers)}
        config["auth"]["ssh_user"] = USER
        config["worker_start_ray_commands"][-1] += " --num-cpus=1"

    edit(host, "onprem.yaml", change)


def move_head(host: Host, head: str) -> None:
    """cluster/onprem.yaml after its head was lost: another machine, and a name that `ray up` does not remember."""

    def change(config: dict[str, Any]) -> None:
        config["provider"]["head_ip"] = head
        config["cluster_name"] += "-again"

    edit(host, "onprem.yaml", change)
