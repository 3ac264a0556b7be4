"""What a cluster on AWS needs besides machines: make aws-setup shows it, with ARGS=--apply it is made.

It makes least-privilege roles for head and workers, and security groups. It closes the bucket to the public and to
connections without TLS. It fills in the image, your address and the groups in cluster/gpu.yaml. A second call makes
only what is missing. --delete removes the roles and groups; the bucket and its data stay.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from cluster import aws_policies, exit_code
from cluster.aws_wanted import Wanted
from cluster.yaml_check import UNSET
from svgan.cli import Parser
from svgan.errors import UserError

YAML = Path(__file__).with_name("gpu.yaml")
ADDRESS_SECONDS = 10.0  # of one request; --address does without it
WHERE_AM_I = "https://checkip.amazonaws.com"
IMAGES = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"
GONE = ("NoSuchEntity", "404", "NoSuchBucket", "NoSuchBucketPolicy", "NoSuchPublicAccessBlockConfiguration")


@dataclass
class Setup:
    """Compares what is wanted with what exists. steps: what is missing, as text and as the call that makes it."""

    wanted: Wanted
    steps: list[tuple[str, Callable[[], Any]]] = field(default_factory=list)
    filled: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        session = boto3.Session(region_name=self.wanted.region)
        self.ec2, self.iam, self.s3, self.sts = map(session.client, ("ec2", "iam", "s3", "sts"))
        caller = self.sts.get_caller_identity()
        self.account, self.partition = caller["Account"], caller["Arn"].split(":")[1]

    def step(self, text: str, act: Callable[[], Any]) -> None:
        self.steps.append((text, act))

    def look(self, address: str) -> None:
        """Fill `steps`. address: the CIDR that may connect by SSH. Raises UserError."""
        self._bucket()
        rights = aws_policies.Rights(self.partition, self.account, self.wanted)
        self._role(self.wanted.worker, rights.worker())
        self._role(self.wanted.head, rights.head())
        self._spot()
        self._image()
        vpc = self._vpc()
        self._group("nodes", vpc, "all nodes of the cluster, among themselves")
        self._group("ssh", vpc, f"SSH from {address} to the head", address)
        self.filled["address"] = address

    def _bucket(self) -> None:
        name, region = self.wanted.bucket, self.wanted.region
        try:
            there = self.s3.head_bucket(Bucket=name, ExpectedBucketOwner=self.account)
            found = there.get("BucketRegion") or there["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("403", "AccessDenied"):
                raise UserError(
                    f"bucket {name}: it is not yours, or these credentials may not see it; choose another name"
                ) from None
            found = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region") or region
            if code in GONE:
                place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
                self.step(f"bucket {name}: make it in {region}", lambda: self.s3.create_bucket(Bucket=name, **place))
            elif found == region:
                raise
        if found and found != region:
            raise UserError(
                f"bucket {name}: it is in {found}, the cluster in {region}; traffic between them is slow and costs: "
                "change the one or the other"
            )
        closed = {key: True for key in aws_policies.CLOSED}
        if (
            self._there(lambda: self.s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"])
            != closed
        ):
            self.step(
                f"bucket {name}: closed to the public",
                lambda: self.s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=closed),
            )
        policy = aws_policies.read(self._there(lambda: self.s3.get_bucket_policy(Bucket=name)["Policy"]))
        better = aws_policies.tls_only(policy, self.partition, name)
        if better != policy:
            self.step(
                f"bucket {name}: TLS only",
                lambda: self.s3.put_bucket_policy(Bucket=name, Policy=aws_policies.written(better)),
            )

    def _role(self, name: str, rights: dict[str, Any]) -> None:
        """A role for EC2 with one inline policy, and the instance profile of the same name that carries it."""
        iam, trust = self.iam, aws_policies.written(aws_policies.TRUST)
        if self._there(lambda: iam.get_role(RoleName=name)) is None:
            self.step(f"role {name}", lambda: iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust))
        there = self._there(lambda: iam.get_role_policy(RoleName=name, PolicyName=name)["PolicyDocument"])
        if there != rights:
            actions = sorted({action for part in rights["Statement"] for action in part["Action"]})
            self.step(
                f"role {name}: may {', '.join(actions)}",
                lambda: iam.put_role_policy(
                    RoleName=name, PolicyName=name, PolicyDocument=aws_policies.written(rights)
                ),
            )
        profile = self._there(lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"])
        if profile is None:
            self.step(f"instance profile {name}", lambda: iam.create_instance_profile(InstanceProfileName=name))
        if not profile or not profile["Roles"]:
            self.step(
                f"instance profile {name}: carries role {name}",
                lambda: iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name),
            )

    def _spot(self) -> None:
        """The account's own role for spot machines; without it the first spot request would need the right to create
        it.
        """
        if not self.iam.list_roles(PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]:
            self.step(
                "the account's role for spot machines",
                lambda: self.iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com"),
            )

    def _image(self) -> None:
        if self.wanted.image != UNSET:
            try:
                found = self.ec2.describe_images(ImageIds=[self.wanted.image])["Images"]
            except ClientError:
                found = []
            if not found:
                raise UserError(
                    f"image {self.wanted.image}: not in {self.wanted.region}; put {UNSET} there to have one chosen"
                )
            self.filled["image"] = self.wanted.image
            return
        wanted = {"name": IMAGES, "state": "available", "architecture": "x86_64"}
        filters = [{"Name": name, "Values": [value]} for name, value in wanted.items()]
        images = self.ec2.describe_images(Owners=["amazon"], Filters=filters)["Images"]
        if not images:
            raise UserError(
                f"{self.wanted.region} offers no image named '{IMAGES}'; put the id of one with Ubuntu 24.04 and "
                "NVIDIA's driver under metadata.image"
            )
        self.filled["image"] = max(images, key=lambda image: image["CreationDate"])["ImageId"]

    def _vpc(self) -> str:
        found = self.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not found:
            raise UserError(
                f"{self.wanted.region}: the account has no default network there; aws ec2 create-default-vpc makes one"
            )
        return found[0]["VpcId"]

    def group(self, kind: str, vpc: str | None = None) -> dict[str, Any] | None:
        filters = [{"Name": "group-name", "Values": [f"{self.wanted.cluster}-{kind}"]}]
        filters += [{"Name": "vpc-id", "Values": [vpc]}] if vpc else []
        return next(iter(self.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]), None)

    def _group(self, kind: str, vpc: str, text: str, address: str | None = None) -> None:
        """A security group that admits `address` on port 22, and everything from the group itself."""
        name, found = f"{self.wanted.cluster}-{kind}", self.group(kind, vpc)
        there = found["IpPermissions"] if found else []

        def make() -> None:
            identity = found["GroupId"] if found else None
            if identity is None:
                identity = self.ec2.create_security_group(GroupName=name, Description=text, VpcId=vpc)["GroupId"]
            if there:
                self.ec2.revoke_security_group_ingress(GroupId=identity, IpPermissions=there)
            rule = aws_policies.ssh(address) if address else aws_policies.among(identity)
            self.ec2.authorize_security_group_ingress(GroupId=identity, IpPermissions=[rule])
            self.filled[kind] = identity

        if found:
            self.filled[kind] = found["GroupId"]
            rule = aws_policies.ssh(address) if address else aws_policies.among(found["GroupId"])
            if aws_policies.same_rule(there, rule):
                return
        self.step(f"security group {name}: {text}", make)

    def look_for_leavings(self) -> None:
        """Fill `steps` with the removal of roles and groups. Raises UserError while machines or disks exist."""
        tagged = {"Name": "tag:ray-cluster-name", "Values": [self.wanted.cluster]}
        alive = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
        booked = self.ec2.describe_instances(Filters=[tagged, alive])["Reservations"]
        left = {
            "machines": [machine["InstanceId"] for part in booked for machine in part["Instances"]],
            "disks": [disk["VolumeId"] for disk in self.ec2.describe_volumes(Filters=[tagged])["Volumes"]],
        }
        for what, names in left.items():
            if names:
                raise UserError(
                    f"cluster {self.wanted.cluster}: {len(names)} {what} are still there ({', '.join(names[:3])}); "
                    "first: ray down cluster/gpu.yaml, and a minute for them to go"
                )
        for kind in ("ssh", "nodes"):
            if found := self.group(kind):
                self.step(
                    f"security group {found['GroupName']}: deleted",
                    functools.partial(self.ec2.delete_security_group, GroupId=found["GroupId"]),
                )
        for name in (self.wanted.head, self.wanted.worker):
            self._without_role(name)

    def _without_role(self, name: str) -> None:
        iam = self.iam
        profile = self._there(lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"])
        if profile and profile["Roles"]:
            self.step(
                f"instance profile {name}: without its role",
                lambda: iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name),
            )
        if profile:
            self.step(
                f"instance profile {name}: deleted", lambda: iam.delete_instance_profile(InstanceProfileName=name)
            )
        if self._there(lambda: iam.get_role_policy(RoleName=name, PolicyName=name)):
            self.step(f"role {name}: no rights", lambda: iam.delete_role_policy(RoleName=name, PolicyName=name))
        if self._there(lambda: iam.get_role(RoleName=name)):
            self.step(f"role {name}: deleted", lambda: iam.delete_role(RoleName=name))

    @staticmethod
    def _there(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except ClientError as error:
            if error.response["Error"]["Code"] in GONE:
                return None
            raise


def fill(text: str, values: dict[str, str]) -> str:
    """Set fields of `metadata` in the yaml; everything else, comments included, stays. Raises UserError."""
    head, mark, rest = text.partition("\n  environment:")
    for name, value in values.items():
        head, count = re.subn(rf"(?m)^(  {name}: (?:&\w+ )?)\S+", rf"\g<1>{value}", head)
        if count != 1:
            raise UserError(f"metadata.{name}: no such line in the yaml, or several; it is filled in by name")
    return head + mark + rest


def save(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text)
    aside.chmod(path.stat().st_mode)
    os.replace(aside, path)


def address_of_this_machine() -> str:
    try:
        with urllib.request.urlopen(WHERE_AM_I, timeout=ADDRESS_SECONDS) as reply:
            return f"{reply.read().decode().strip()}/32"
    except OSError as error:
        raise UserError(
            f"{WHERE_AM_I} does not tell your address ({error}); give it: --address 203.0.113.7/32"
        ) from None


def network(text: str) -> str:
    """Check a CIDR: it must not be the whole world."""
    try:
        found = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise UserError(f"--address {text}: {error}; give one such as 203.0.113.7/32") from None
    if found.prefixlen < 8:
        raise UserError(f"--address {text}: that lets half the world try; give your own, such as 203.0.113.7/32")
    return str(found)


@contextlib.contextmanager
def plainly(region: str) -> Iterator[None]:
    """Turn AWS's errors into one line with a remedy."""
    try:
        yield
    except NoCredentialsError:
        raise UserError(
            "AWS: no credentials found; run `aws configure`, or set AWS_ACCESS_KEY_ID and its secret"
        ) from None
    except ClientError as error:
        told = error.response["Error"]
        remedy = "are the credentials in force, and may they do this?"
        raise UserError(
            f"AWS, {error.operation_name}: {told['Code']}: {str(told['Message'])[:200]}; {remedy}"
        ) from None
    except BotoCoreError as error:
        raise UserError(
            f"AWS in {region} is not to be reached ({str(error)[:200]}); is the region's name right?"
        ) from None


def main() -> None:
    parser = Parser(prog="make aws-setup", description=__doc__)
    parser.add_argument("--apply", action="store_true", help="do it; without this it is only said")
    parser.add_argument("--delete", action="store_true", help="take roles and groups away again (with --apply)")
    parser.add_argument(
        "--address", metavar="CIDR", help=f"who may come by SSH [this machine, as {WHERE_AM_I} sees it]"
    )
    parser.add_argument("--config", type=Path, default=YAML, metavar="FILE", help="[cluster/gpu.yaml]")
    asked = parser.parse_args()
    try:
        text = asked.config.read_text()
    except OSError as error:
        raise UserError(f"--config {asked.config}: {error.strerror}") from None
    wanted = Wanted.read(text, asked.config.name)
    with plainly(wanted.region):
        setup = Setup(wanted)
        print(f"account {setup.account}, {wanted.region}, cluster {wanted.cluster}")
        if asked.delete:
            setup.look_for_leavings()
        else:
            setup.look(network(asked.address or address_of_this_machine()))
        for step, act in setup.steps:
            if asked.apply:
                act()
            print(f"{'done' if asked.apply else 'would'}: {step}")
    if not asked.delete:
        told = fill(text, setup.filled)
        if told != text and asked.apply:
            save(asked.config, told)
        changes = [f"{name} {value}" for name, value in setup.filled.items() if value not in text]
        if changes:
            print(f"{'done' if asked.apply else 'would'}: {asked.config.name}: {', '.join(changes)}")
    elif asked.apply:
        print(
            f"bucket {wanted.bucket} stays, with all that is in it; aws s3 rb --force s3://{wanted.bucket} deletes it"
        )
    if not asked.apply:
        print(
            "nothing was changed; do it with: make aws-setup ARGS="
            + ("'--delete --apply'" if asked.delete else "--apply")
        )


if __name__ == "__main__":
    sys.exit(exit_code(main))
