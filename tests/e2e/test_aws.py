"""cluster/gpu.yaml as its user meets it, with Ray's unmodified AWS provider, from nothing until nothing is left."""

import re
import time
from collections.abc import Iterator
from typing import Any

import clusters
import hosts
import pytest
from cloud import Cloud
from users import User, assert_scored_promoted_and_loadable, ports, study

from sweeps.provenance import package_digest

pytestmark = pytest.mark.slow

# One trial, whole, whose figures depend on nothing but its configuration.
STUDY = ("--grid", "gap_weight=1", "--steps", "40", "--clips", "2")
ASK = """
import sys, urllib.error, urllib.request
try:
    print("answer", urllib.request.urlopen(sys.argv[1], timeout=5).status)
except urllib.error.HTTPError as error:
    print("answer", error.code)
except OSError as error:
    print("answer", error)
"""


class Site:
    """A user with a cluster on AWS."""

    def __init__(self, cloud: Cloud, user: User) -> None:
        self.cloud, self.user = cloud, user

    @property
    def head(self) -> hosts.Host:
        (found,) = [host for host in self.cloud.hosts.values() if (host.home / "ray_bootstrap_config.yaml").exists()]
        return found

    @property
    def workers(self) -> dict[str, hosts.Host]:
        head = self.head
        return {instance: host for instance, host in self.cloud.hosts.items() if host is not head}


def ask(host: hosts.Host, url: str) -> str:
    return host.run("python", "-c", ASK, url).stdout.strip()


@pytest.fixture(scope="module")
def site(network, running_services, tmp_path_factory) -> Iterator[Site]:
    """A cluster that `ray up` has made, as the README says; gone with `ray down` at the end."""
    clusters.put_latents(running_services)
    image = clusters.image() | clusters.account(running_services)
    with Cloud(network, running_services, image, clusters.equip) as cloud:
        laptop = clusters.laptop(network, running_services)
        clusters.aws(laptop, running_services)
        made = Site(cloud, User(laptop, "cluster/gpu.yaml", tmp_path_factory.mktemp("logs")))
        began = time.monotonic()
        made.user.ray("up", "-y")
        print(f"ray up took {time.monotonic() - began:.0f} s")
        yield made
        assert not cloud.trouble
        network.remove(laptop)


@pytest.fixture(scope="module")
def undisturbed(site) -> dict[str, Any]:
    """The first study, from a cluster without workers; with what it printed, and what listened while it ran."""
    began = time.monotonic()
    submitted = site.user.submit("first", *STUDY)
    submitted.until("step 5/40")
    until_training = time.monotonic() - began
    workers = site.workers
    listening = {host.name: ports(host) for host in site.cloud.hosts.values()}
    printed = submitted.end()
    print(f"from ray submit to the 5th step: {until_training:.0f} s; whole: {time.monotonic() - began:.0f} s")
    return {**study(site.head, "first"), "printed": printed, "workers": workers, "listening": listening}


def test_from_nothing_workers_come_and_train_together_from_s3(site, undisturbed):
    instances = [one for group in site.cloud.ec2.describe_instances()["Reservations"] for one in group["Instances"]]
    spot = [one for one in instances if one.get("InstanceLifecycle") == "spot"]
    assert len(undisturbed["workers"]) == 2
    assert {one["InstanceId"] for one in spot} >= set(undisturbed["workers"])
    assert {one["IamInstanceProfile"]["Arn"].rpartition("/")[2] for one in spot} == {"svgan-worker"}
    assert undisturbed["latents"] == "s3://svgan-e2e/latents"
    assert undisturbed["storage"] == "s3://svgan-e2e/runs"
    assert "each on 2 x 1 CPU" in undisturbed["printed"]
    assert "0 of 1 fit now, the rest when nodes come" in undisturbed["printed"]


def test_the_trial_is_scored_promoted_and_loaded_by_its_alias(site, undisturbed):
    assert_scored_promoted_and_loadable(site.head, undisturbed, undisturbed["printed"])


def test_nothing_listens_but_what_the_yaml_says(site, undisturbed):
    text = (hosts.REPOSITORY / "cluster/gpu.yaml").read_text()
    (comment,) = re.findall(r"(?m)^# What listens:.*\n(?:^#.*\n)*", text)
    said = {int(port) for port in re.findall(r"\b\d{2,5}\b", comment)}
    for first, last in re.findall(r"(\d{2,5}) to (\d{2,5})", comment):
        said |= set(range(int(first), int(last) + 1))
    said -= {8265, 5000}  # on the head's loopback alone
    for name, found in undisturbed["listening"].items():
        others = {port: program for port, program in found.items() if port not in said}
        # The kernel chooses where the workers of a trial meet.
        assert not {program for program in others.values() if not program.startswith("ray::RayTrain")}, (name, others)
    assert len(undisturbed["listening"]) == 3


def test_who_has_no_token_or_password_is_refused(site):
    head = site.head
    assert ask(head, "http://127.0.0.1:8265/api/jobs/") == "answer 401"
    assert ask(head, "http://127.0.0.1:8265/nodes?view=summary") == "answer 401"
    assert ask(head, "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1") == "answer 401"
    for url in (f"http://{head.address}:8265/", f"http://{head.address}:5000/"):
        assert "refused" in ask(site.user.laptop, url)
    told = site.user.laptop.run(
        "env", "RAY_AUTH_MODE=disabled", "ray", "status", "--address", f"{head.address}:6379", check=False
    )
    assert told.returncode
    assert "Authentication token is missing" in told.stdout


@pytest.mark.unproven
def test_a_laptop_and_a_workers_machine_are_lost_and_the_study_ends_as_if_nothing_had_happened(site, undisturbed):
    user = site.user
    submitted = user.submit("hurt", *STUDY)
    submitted.until("step 10/40")
    user.laptop.cut()
    assert submitted.process.wait(10) != 0
    lost = next(iter(site.workers))
    site.cloud.reclaim(lost)
    (job,) = re.findall(r"submitted as job (\S+)", submitted.printed())
    user.laptop.start()
    told = user.ray("exec", f"ray job logs -f {job}", timeout=280)
    assert "workers started again" in told
    assert f"Job '{job}' succeeded" in told
    (trial,), (whole,) = study(site.head, "hurt")["trials"], undisturbed["trials"]
    assert trial["points"] == whole["points"]
    assert trial["status"] == "FINISHED"
    assert lost not in site.cloud.hosts


def test_a_studys_own_exit_code_reaches_the_shell(site, undisturbed):
    failing = ("--name", "failing one", "--latents", "s3://svgan-e2e/nothing")
    sent = site.user.in_clone("python", "cluster/submit.py", "sweeps/gap.py", "--", *failing, check=False)
    assert sent.returncode == 2
    assert "--name 'failing one'" in sent.stdout
    assert "s3://svgan-e2e/nothing" in sent.stdout
    site.user.submit("failing-too", *failing[2:]).end(1)


@pytest.mark.unproven
def test_idle_workers_go_and_a_fresh_one_gets_the_code_that_was_submitted(site, undisturbed):
    hosts.wait(lambda: not site.workers, 200, lambda: str(site.cloud.hosts))
    clone = site.user.laptop.home / "svgan"
    with (clone / "svgan/losses.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    sent = ("make", "-s", "submit", "ARGS=--name changed --grid gap_weight=1 --steps 8 --clips 0")
    told = site.user.in_clone(*sent, timeout=240).stdout
    digest = package_digest(clone / "svgan", clone / "sweeps")
    changed = study(site.head, "changed")
    assert f"package {digest}" in told
    assert [one["tags"]["package"] for one in (changed, *changed["trials"])] == [digest, digest]
    assert undisturbed["tags"]["package"] != digest
    assert len(site.workers) == 2
    for host in site.workers.values():
        kept = (host.folder / "tmp").glob("ray/session_2*/runtime_resources/working_dir_files/_ray_pkg_*/svgan")
        assert {package_digest(code, code.with_name("sweeps")) for code in kept} == {digest}


def test_ray_down_leaves_nothing(site):
    site.user.ray("down", "-y")
    hosts.wait(lambda: not site.cloud.instances() and not site.cloud.hosts, 60, lambda: str(site.cloud.instances()))
    assert [name for name in hosts.namespaces() if "-i-" in name] == []
