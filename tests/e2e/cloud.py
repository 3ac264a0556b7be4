"""EC2 as moto plays it, with hosts behind it: an instance that runs there is a host on the bridge, one that is
terminated has its power cut. Ray's AWS provider is none the wiser."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping

from hosts import NETWORK, Host, Network
from services import Services

SUBNET = "10.77.0.0/24"  # moto hands out its addresses in turn, from .4


class Cloud:
    """home: files that every instance's image has below /root, by name; the key pair is added."""

    def __init__(self, network: Network, services: Services, home: Mapping[str, str]) -> None:
        self.network, self.home, self.ec2 = network, dict(home), services.client("ec2")
        self.hosts: dict[str, Host] = {}
        self.trouble: Exception | None = None
        self.subnet = self._only_subnet()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud", daemon=True)

    def _only_subnet(self) -> str:
        """One VPC of one subnet in the bridge's range; the default ones, whose addresses lead nowhere, are removed."""
        for subnet in self.ec2.describe_subnets()["Subnets"]:
            self.ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        for vpc in self.ec2.describe_vpcs()["Vpcs"]:
            with contextlib.suppress(self.ec2.exceptions.ClientError):
                self.ec2.delete_vpc(VpcId=vpc["VpcId"])
        vpc = self.ec2.create_vpc(CidrBlock=NETWORK)["Vpc"]["VpcId"]
        return self.ec2.create_subnet(VpcId=vpc, CidrBlock=SUBNET)["Subnet"]["SubnetId"]

    def __enter__(self) -> Cloud:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()

    def instances(self) -> list[dict]:
        """Those that are not terminated."""
        found = [one for group in self.ec2.describe_instances()["Reservations"] for one in group["Instances"]]
        return [one for one in found if one["State"]["Name"] in ("pending", "running")]

    def reclaim(self, instance: str) -> None:
        """What happens to a spot instance that somebody pays more for, without the two minutes' notice."""
        self.hosts[instance].cut()
        self.ec2.terminate_instances(InstanceIds=[instance])

    def _run(self) -> None:
        while not self._over.wait(0.5):
            try:
                self._follow()
            except Exception as error:  # told by the test that waits for a host in vain
                self.trouble = error
                time.sleep(1)

    def _follow(self) -> None:
        running = {one["InstanceId"]: one for one in self.instances()}
        for name in [name for name in self.hosts if name not in running]:
            self.network.remove(self.hosts.pop(name))
        for name, one in running.items():
            if name not in self.hosts:
                key = self._public_key(one.get("KeyName"))
                self.hosts[name] = self.network.host(name, one["PrivateIpAddress"], key, self.home)

    def _public_key(self, name: str | None) -> str:
        if name is None:
            return ""
        found = self.ec2.describe_key_pairs(KeyNames=[name], IncludePublicKey=True)["KeyPairs"]
        return found[0]["PublicKey"] + "\n"
