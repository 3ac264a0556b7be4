"""EC2 as moto plays it, with hosts behind it: an instance that runs there is a host on the bridge, one that is
terminated has its power cut. Ray's AWS provider is none the wiser."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from hosts import NETWORK, Host, Network
from services import Services

SUBNET = "10.77.0.0/24"  # moto hands out its addresses in turn, from .4


class Cloud:
    """home: files of the image's user, by name; the key pair is added. equip: what else is done to a new host."""

    def __init__(
        self,
        network: Network,
        services: Services,
        home: Mapping[str, str],
        equip: Callable[[Host], None] = lambda host: None,
    ) -> None:
        self.network, self.home, self.equip, self.ec2 = network, dict(home), equip, services.client("ec2")
        self.hosts: dict[str, Host] = {}
        self.trouble: Exception | None = None
        self._only_subnet()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud", daemon=True)

    def _only_subnet(self) -> None:
        """The account's default network gets one subnet in the bridge's range, in place of those that lead nowhere."""
        for subnet in self.ec2.describe_subnets()["Subnets"]:
            self.ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        default = [{"Name": "is-default", "Values": ["true"]}]
        (vpc,) = self.ec2.describe_vpcs(Filters=default)["Vpcs"]
        ranges = {one["CidrBlock"] for one in vpc["CidrBlockAssociationSet"]}
        if NETWORK not in ranges:
            self.ec2.associate_vpc_cidr_block(VpcId=vpc["VpcId"], CidrBlock=NETWORK)
        self.ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock=SUBNET)

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
                made = self.network.host(name, one["PrivateIpAddress"], "", self.home)
                self.equip(made)
                made.write(".ssh/authorized_keys", key)
                self.hosts[name] = made

    def _public_key(self, name: str | None) -> str:
        if name is None:
            return ""
        found = self.ec2.describe_key_pairs(KeyNames=[name], IncludePublicKey=True)["KeyPairs"]
        return found[0]["PublicKey"] + "\n"
