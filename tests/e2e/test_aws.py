"""cluster/gpu.yaml as its user meets it, with Ray's unmodified AWS provider, from nothing until nothing is left."""

import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import clusters
import hosts
import pytest
from cloud import Cloud
from users import User, assert_scored_promoted_and_loadable, codes_in_training, ports, study

from sweeps.storage.provenance import package_digest

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


class Hurt(NamedTuple):
    """A study whose user's laptop and one of whose two workers lost their power. digest: of the submitted package."""

    job: str
    digest: str
    before: set[str]
    lost: str


@pytest.fixture(scope="module")
def hurt(site, undisturbed) -> Hurt:
    """The first study again, of a package with a line more; returned while nobody has noticed the lost worker yet."""
    clone = site.user.laptop.home / "svgan"
    with (clone / "svgan/training/losses.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    submitted = site.user.begin("hurt", "make", "-s", "submit", f"ARGS=--name hurt {' '.join(STUDY)}")
    submitted.until("step 10/40")
    before = set(site.workers)
    site.user.laptop.cut()
    assert submitted.process.wait(10) != 0
    lost = min(before)
    site.cloud.reclaim(lost)
    (job,) = re.findall(r"submitted as job (\S+)", submitted.printed())
    site.user.laptop.start()
    return Hurt(job, package_digest(clone / "svgan", clone / "sweeps"), before, lost)


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


def test_the_trial_is_scored_promoted_and_loaded_by_its_alias(site, undisturbed, hurt):
    assert_scored_promoted_and_loadable(site.head, undisturbed, undisturbed["printed"])


def test_who_has_no_token_or_password_is_refused(site, hurt):
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


def test_a_laptop_and_a_workers_machine_are_lost_and_the_study_ends_as_if_nothing_had_happened(site, undisturbed, hurt):
    again = site.user.begin("again", "ray", "exec", site.user.file, f"ray job logs -f {hurt.job}")
    again.until("workers started again")
    fresh = [host for instance, host in site.workers.items() if instance not in hurt.before]
    found: set[str] = set()
    hosts.wait(lambda: found.update(*map(codes_in_training, fresh)) or found, 10)
    assert found == {hurt.digest}
    assert f"Job '{hurt.job}' succeeded" in again.end()
    told, (whole,) = study(site.head, "hurt"), undisturbed["trials"]
    (trial,) = told["trials"]
    assert trial["points"] == whole["points"]
    assert trial["status"] == "FINISHED"
    assert [told["tags"]["package"], trial["tags"]["package"]] == [hurt.digest] * 2
    assert undisturbed["tags"]["package"] != hurt.digest
    assert hurt.lost not in site.cloud.hosts


def test_a_studys_own_exit_code_reaches_the_shell(site, hurt):
    failing = ("--latents", "s3://svgan-e2e/nothing here")
    sent = site.user.in_clone("python", "cluster/submit.py", "sweeps/gap.py", "--", *failing, check=False)
    assert sent.returncode == 2
    assert "s3://svgan-e2e/nothing here: no manifest.json" in sent.stdout
    site.user.submit("failing-too", "--latents", "s3://svgan-e2e/nothing").end(1)


def test_idle_workers_go(site, hurt):
    hosts.wait(lambda: not site.workers, 200, lambda: str(site.cloud.hosts))


def test_ray_down_leaves_nothing(site):
    site.user.ray("down", "-y")
    hosts.wait(lambda: not site.cloud.instances() and not site.cloud.hosts, 60, lambda: str(site.cloud.instances()))
    assert [name for name in hosts.namespaces() if "-i-" in name] == []
