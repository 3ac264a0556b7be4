"""cluster/onprem.yaml as its user meets it: a list of hosts, no cloud and no autoscaling."""

import subprocess

import clusters
import hosts
import pytest
from users import User, assert_scored_promoted_and_loadable, study

pytestmark = pytest.mark.slow

HEAD, WORKERS = "10.77.0.20", ("10.77.0.21", "10.77.0.22")


@pytest.fixture(scope="module")
def machines(network, running_services):
    """Three machines that the laptop's key opens; the first is to be the head and has the keys of the S3."""
    clusters.put_latents(running_services)
    laptop = clusters.laptop(network, running_services)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", laptop.home / ".ssh/svgan"], check=True)
    laptop.own()
    key = (laptop.home / ".ssh/svgan.pub").read_text()
    made = []
    for number, address in enumerate((HEAD, *WORKERS)):
        home = clusters.image() | (clusters.account(running_services) if address == HEAD else {})
        made.append(network.host(f"machine-{number}", address, key, home))
        clusters.equip(made[-1])
    yield laptop, made
    for host in (*made, laptop):
        network.remove(host)


def test_a_list_of_hosts_trains_together_from_s3_and_is_left_without_ray(machines, running_services, tmp_path):
    laptop, (head, *workers) = machines
    clusters.onprem(laptop, running_services, HEAD, WORKERS)
    user = User(laptop, "cluster/onprem.yaml", tmp_path)
    user.ray("up", "-y")
    submitted = user.submit("listed", "--grid", "gap_weight=1", "--steps", "40", "--clips", "2")
    printed = submitted.end(seconds=280)
    assert f"waiting for hosts of the yaml that have not joined yet: {', '.join(WORKERS)}" in printed
    assert "each on 2 x 1 CPU" in printed
    assert "ray exec cluster/onprem.yaml 'ray job logs -f" in printed
    user.ray("down", "-y")
    told = study(head, "listed")
    assert told["latents"] == "s3://svgan-e2e/latents"
    assert_scored_promoted_and_loadable(head, told, printed)
    # `ray down` has stopped the head alone; a worker gives up a minute after it has last heard of it.
    for host in (head, *workers):
        hosts.wait(lambda host=host: "raylet" not in host.run("ps", "-eo", "args").stdout, 100, every=1)
