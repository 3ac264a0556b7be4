"""AWS policies: who may do what, as documents for IAM, S3 and EC2."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.aws_wanted import Wanted

Document = dict[str, Any]
VERSION = "2012-10-17"
TRUST: Document = {
    "Version": VERSION,
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
CLOSED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
TLS = "SvganTlsOnly"
READ, WRITE = ["s3:GetObject"], ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]


@dataclass(frozen=True)
class Rights:
    """The policies of the two roles.

    The head starts machines of the yaml's types with the workers' role and the cluster's tag, and terminates those with
    that tag. It may use the whole bucket. A worker reads latents, and writes checkpoints and the parts of an embedding.
    It cannot reach MLflow's files or the backups of its database: those pass through the server on the head.
    """

    partition: str
    account: str
    wanted: Wanted

    def head(self) -> Document:
        tag = {"ray-cluster-name": self.wanted.cluster}
        own = {f"ec2:ResourceTag/{key}": value for key, value in tag.items()}
        machines, volumes = self._ec2("instance/*"), self._ec2("volume/*")
        start = {
            "ec2:InstanceType": list(self.wanted.types),
            "ec2:InstanceProfile": self._iam(f"instance-profile/{self.wanted.worker}"),
            **{f"aws:RequestTag/{key}": value for key, value in tag.items()},
        }
        parts = ["network-interface/*", "security-group/*", "spot-instances-request/*", "subnet/*", "volume/*"]
        with_parts = [self._ec2(part) for part in (*parts, f"key-pair/{self.wanted.key}*")]
        image = f"arn:{self.partition}:ec2:{self.wanted.region}::image/*"
        return _document(
            _allow(["ec2:DescribeInstances"], ["*"]),
            _allow(["ec2:RunInstances"], [machines], start),
            _allow(["ec2:RunInstances"], [*with_parts, image]),
            _allow(["ec2:CreateTags"], [machines, volumes], {"ec2:CreateAction": "RunInstances"}),
            _allow(["ec2:CreateTags", "ec2:TerminateInstances"], [machines], own),
            _allow(
                ["iam:PassRole"],
                [self._iam(f"role/{self.wanted.worker}")],
                {"iam:PassedToService": "ec2.amazonaws.com"},
            ),
            self._list(),
            _allow([*READ, *WRITE], [self._s3("/*")]),
        )

    def worker(self) -> Document:
        return _document(
            self._list(),
            _allow(READ, [self._s3("/latents/*"), self._s3("/runs/*")]),
            _allow(WRITE, [self._s3("/runs/*"), self._s3("/latents/*.embedding/*")]),
        )

    def _list(self) -> Document:
        return _allow(["s3:GetBucketLocation", "s3:ListBucket"], [self._s3("")])

    def _s3(self, key: str) -> str:
        return f"arn:{self.partition}:s3:::{self.wanted.bucket}{key}"

    def _ec2(self, what: str) -> str:
        return f"arn:{self.partition}:ec2:{self.wanted.region}:{self.account}:{what}"

    def _iam(self, what: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:{what}"


def _allow(actions: list[str], resources: list[str], where: Document | None = None) -> Document:
    condition = {"Condition": {"StringEquals": where}} if where else {}
    return {"Effect": "Allow", "Action": list(actions), "Resource": resources, **condition}


def _document(*statements: Document) -> Document:
    return {"Version": VERSION, "Statement": list(statements)}


def tls_only(policy: Document, partition: str, bucket: str) -> Document:
    """Add a statement that refuses connections without TLS to a bucket's policy; keep its other statements."""
    resource = [f"arn:{partition}:s3:::{bucket}", f"arn:{partition}:s3:::{bucket}/*"]
    refuse = {
        "Sid": TLS,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": resource,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    others = [part for part in policy.get("Statement", []) if part.get("Sid") != TLS]
    return {"Version": VERSION, **policy, "Statement": [*others, refuse]}


def read(policy: str | None) -> Document:
    return json.loads(policy) if policy else {}


def written(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))


def ssh(address: str) -> Document:
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": address}]}


def among(group: str) -> Document:
    return {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}


def same_rule(there: list[Document], rule: Document) -> bool:
    """Whether the existing rules are exactly this one, apart from fields that AWS adds."""

    def seen(one: Document) -> tuple[Any, ...]:
        ranges = sorted(part["CidrIp"] for part in one.get("IpRanges", []))
        groups = sorted(part["GroupId"] for part in one.get("UserIdGroupPairs", []))
        others = [*one.get("Ipv6Ranges", []), *one.get("PrefixListIds", [])]
        ports = () if one["IpProtocol"] == "-1" else (one.get("FromPort"), one.get("ToPort"))
        return one["IpProtocol"], ports, ranges, groups, len(others)

    return [seen(one) for one in there] == [seen(rule)]
