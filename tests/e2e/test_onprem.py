"""cluster/onprem.yaml as its user meets it: a list of hosts, no cloud and no autoscaling."""

import re
import subprocess
from typing import Any

import clusters
import hosts
import pytest
from users import User, assert_scored_promoted_and_loadable, study

pytestmark = pytest.mark.slow

HEAD, WORKERS, SPARE = "10.77.0.20", ("10.77.0.21", "10.77.0.22"), "10.77.0.23"
STUDY = ("--grid", "gap_weight=1", "--steps", "40", "--clips", "2")


@pytest.fixture(scope="module")
def machines(network, running_services):
    """Four machines that the laptop's key opens; the first and the last are to be heads and have the keys of the S3."""
    clusters.put_latents(running_services)
    laptop = clusters.laptop(network, running_services)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", laptop.home / ".ssh/svgan"], check=True)
    laptop.own()
    key = (laptop.home / ".ssh/svgan.pub").read_text()
    made = []
    for number, address in enumerate((HEAD, *WORKERS, SPARE)):
        home = clusters.image() | ({} if address in WORKERS else clusters.account(running_services))
        made.append(network.host(f"machine-{number}", address, key, home))
        clusters.equip(made[-1])
    yield laptop, made
    for host in (*made, laptop):
        network.remove(host)


@pytest.fixture(scope="module")
def listed(machines, running_services, tmp_path_factory) -> dict[str, Any]:
    """A study of an undisturbed cluster, with what it printed; `ray down` has followed."""
    laptop, (head, *_) = machines
    clusters.onprem(laptop, running_services, HEAD, WORKERS)
    user = User(laptop, "cluster/onprem.yaml", tmp_path_factory.mktemp("listed"))
    user.ray("up", "-y")
    printed = user.submit("listed", *STUDY).end(seconds=280)
    user.ray("down", "-y")
    return study(head, "listed") | {"printed": printed}


def test_a_list_of_hosts_trains_together_from_s3_and_is_left_without_ray(machines, listed):
    _, (head, *workers, _) = machines
    printed = listed["printed"]
    # A study waits for hosts that have not joined; on a busy machine they may have joined before it looks.
    waited = re.search(r"waiting for hosts of the yaml that have not joined yet: (.+)", printed)
    assert waited is None or set(waited[1].strip().split(", ")) <= set(WORKERS)
    assert "each on 2 x 1 CPU" in printed
    assert "ray exec cluster/onprem.yaml 'ray job logs -f" in printed
    assert listed["latents"] == "s3://svgan-e2e/latents"
    assert_scored_promoted_and_loadable(head, listed, printed)
    # `ray down` has stopped the head alone; a worker gives up a minute after it has last heard of it.
    for host in (head, *workers):
        hosts.wait(lambda host=host: "raylet" not in host.run("ps", "-eo", "args").stdout, 100, every=1)


def test_the_heads_power_is_cut_and_another_head_finishes_the_study_from_the_storage(machines, listed, tmp_path):
    """The new head has neither study.json nor Optuna's file nor MLflow's database of the old one."""
    laptop, (head, *_, spare) = machines
    user = User(laptop, "cluster/onprem.yaml", tmp_path)
    user.ray("up", "-y")
    submitted = user.submit("cut", *STUDY)
    submitted.until("step 20/40")
    head.cut()
    assert submitted.process.wait(120) != 0
    clusters.move_head(laptop, SPARE)
    user.ray("up", "-y")
    resumed = user.begin("resumed", "ray", "submit", user.file, "sweeps/gap.py", "--", "--resume", "cut")
    printed = resumed.end(seconds=400)
    assert "waiting 50 s to see whether it still does" in printed
    told = study(spare, "cut")
    assert [trial["points"] for trial in told["trials"]] == [trial["points"] for trial in listed["trials"]]
    assert (told["status"], told["trials"][0]["status"]) == ("FINISHED", "FINISHED")
    user.ray("down", "-y")
