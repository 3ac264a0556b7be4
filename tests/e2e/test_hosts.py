"""What the other tests here stand on: hosts that are apart, and of which nothing is left."""

import hosts
import pytest
from cloud import Cloud

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(network):
    made = [network.host(f"one-{number}", f"10.77.1.{number}") for number in (1, 2)]
    yield made
    for host in made:
        network.remove(host)


def test_a_host_sees_its_own_processes_files_and_name_and_no_code_of_ours(pair):
    one, two = pair
    assert one.run("hostname").stdout.strip() == "one-1"
    one.run("touch", "/tmp/mine", "mine", "/dev/shm/mine", "/var/tmp/mine")
    assert not two.run("ls", "/tmp", "/dev/shm", "/var/tmp").stdout.count("mine")
    assert "Read-only file system" in one.run("touch", "/etc/mine", check=False).stdout
    assert len(one.run("ps", "-e", "--no-headers").stdout.splitlines()) < 5
    assert "No module named 'svgan'" in one.run("python", "-c", "import svgan", check=False).stdout
    assert one.run("bash", "-c", "exit 3", check=False).returncode == 3


def test_a_power_cut_takes_everything_at_once_and_the_disk_is_there_afterwards(pair, tmp_path):
    one, two = pair
    one.write("kept", "here")
    sleeping = one.begin("sleep", "600", log=tmp_path / "log")
    hosts.wait(lambda: "sleep 600" in one.run("ps", "-eo", "args").stdout, 10)
    one.cut()
    assert sleeping.wait(5) != 0
    assert one.namespace not in hosts.namespaces()
    assert "No route" in two.run("ssh", "-o", "ConnectTimeout=5", one.address, "true", check=False).stdout
    assert one.start().run("cat", "kept").stdout == "here"


def test_an_instance_is_a_host_that_its_key_opens_until_it_is_terminated(network, running_services, tmp_path):
    with Cloud(network, running_services, {".image": "made for it"}) as cloud:
        key = cloud.ec2.create_key_pair(KeyName="test")["KeyMaterial"]
        (subnet,) = cloud.ec2.describe_subnets()["Subnets"]
        place = [{"DeviceIndex": 0, "SubnetId": subnet["SubnetId"], "AssociatePublicIpAddress": False}]
        count = {"MinCount": 1, "MaxCount": 1}
        cloud.ec2.run_instances(ImageId="ami-12c6146b", KeyName="test", NetworkInterfaces=place, **count)
        hosts.wait(lambda: cloud.hosts, 10, lambda: cloud.trouble)
        ((instance, host),) = cloud.hosts.items()
        other = network.host("laptop-of-another", "10.77.1.3", home={"key": key})
        login = ("ssh", "-i", "key", "-o", "StrictHostKeyChecking=no", host.address)
        assert other.run(*login, "cat .image").stdout.endswith("made for it")
        cloud.ec2.terminate_instances(InstanceIds=[instance])
        hosts.wait(lambda: not cloud.hosts, 10, lambda: cloud.trouble)
        network.remove(other)
    assert not cloud.trouble
    assert not host.on
    assert not host.folder.exists()
