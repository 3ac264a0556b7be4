"""kuberay.yaml as far as it can be checked without Kubernetes: by Ray's own reader of a cluster's groups, by the names
that KubeRay's types have (ray-operator/apis/ray/v1), and against the other files. It was not run."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import yaml

from cluster import environment
from sweeps.ray_runtime.job_submission import JOB as JOB_VARIABLE
from sweeps.ray_runtime.job_submission import STOP_WAIT

FOLDER = Path(environment.__file__).parent
TEXT = (FOLDER / "kuberay.yaml").read_text()
DOCUMENTS = {document["kind"]: document for document in yaml.safe_load_all(TEXT)}
SPEC = DOCUMENTS["RayJob"]["spec"]
CLUSTER = SPEC["rayClusterSpec"]
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
PODS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]

JOB = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}
GROUPS = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions"}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def read_by_ray(spec):
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    return _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "svgan", "namespace": "default"}, "spec": spec})


def test_rays_autoscaler_reads_the_groups_as_meant():
    kinds = read_by_ray(CLUSTER)["available_node_types"]
    head, gpu = kinds["headgroup"], kinds["gpu"]
    assert head["resources"].items() >= {"CPU": 0, "GPU": 0, "trial_slot": 16}.items()
    assert gpu["resources"].items() >= {"CPU": 4, "GPU": 1}.items()
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, 8)
    assert read_by_ray(CLUSTER)["idle_timeout_minutes"] == 10


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("headGroupSpec", "rayStartParams", "resources"), '{"trial_slot": 16}'),  # without KubeRay's second quotes
        (("headGroupSpec", "rayStartParams", "num-cpus"), "none"),
    ],
)
def test_what_ray_cannot_read_is_refused(path, value):
    spec = copy.deepcopy(CLUSTER)
    place = spec
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(Exception):  # noqa: B017, PT011  (whatever Ray raises)
        read_by_ray(spec)


def test_its_fields_are_those_of_kuberays_types():
    assert set(SPEC) == JOB
    assert set(CLUSTER) == GROUPS | {"headGroupSpec", "workerGroupSpecs"}
    assert set(CLUSTER["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in CLUSTER["workerGroupSpecs"]:
        assert set(group) == GROUP
    for group in PODS:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_it_starts_the_same_study_from_an_image_of_this_code_and_this_ray():
    repo = DOCUMENTS["ConfigMap"]["data"]["SVGAN_REPO"]
    script = SPEC["entrypoint"].removeprefix(f"env {JOB_VARIABLE}=1 python {repo}/")
    assert (FOLDER.parent / script).exists()
    assert f"WORKDIR {repo}" in DOCKERFILE
    for room in ("svgan", "sweeps"):
        assert f"COPY --chown=1000:1000 {room} {room}" in DOCKERFILE
    for copied in re.findall(r"^COPY \S+ (.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((FOLDER.parent / name).exists() for name in copied.split())
    constraints = (FOLDER.parent / "constraints.txt").read_text().split()
    assert f"ray=={CLUSTER['rayVersion']}" in constraints
    assert CLUSTER["rayVersion"] == ray.__version__
    assert f"FROM rayproject/ray:{ray.__version__}-py311-gpu" in DOCKERFILE
    images = {group["template"]["spec"]["containers"][0]["image"] for group in PODS}
    assert len(images) == 1


def hook(group):
    return group["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]


def test_a_pod_that_must_go_stops_its_study_first():
    """The hook, and a `ray job stop` of KubeRay's, end within the grace period."""
    study = Path(SPEC["entrypoint"].split()[-1]).stem
    assert hook(PODS[0]) == ["/bin/sh", "-c", f"cd /home/ray && python -m sweeps stop {study}"]
    graces = {group["template"]["spec"]["terminationGracePeriodSeconds"] for group in PODS}
    assert min(graces) > int(DOCUMENTS["ConfigMap"]["data"][STOP_WAIT]) > 30, "seconds that keeping a state may take"


def test_a_workers_pod_waits_for_the_workers_in_it(tmp_path):
    """With a folder in the place of /proc, for other tests have workers too."""
    *shell, script = hook(PODS[1])
    for number, title in ((1, "/bin/sh"), (20, "ray::RayTrainWorker.work"), (21, "grep ray::RayTrainWorker")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_bytes(title.encode() + b"\0")
    waiting = subprocess.Popen([*shell, script.replace("/proc/", f"{tmp_path}/")])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
        (tmp_path / "20" / "cmdline").unlink()
        assert waiting.wait(60) == 0
    finally:
        waiting.kill()
        waiting.wait()


def test_what_is_installed_is_what_the_project_depends_on():
    done = subprocess.run(
        [sys.executable, FOLDER / "requirements.py"], capture_output=True, text=True, check=True, timeout=60
    )
    names = {re.split(r"[=<>\[ ]", line)[0] for line in done.stdout.splitlines()}
    assert {"torch", "ray", "mlflow", "optuna", "boto3", "psycopg", "flask-wtf"} <= names
    assert "svgan" not in names


def test_its_environment_is_that_of_the_other_files():
    from sweeps.storage import environment as read

    told = DOCUMENTS["ConfigMap"]["data"]
    sweeps = {variable.name for variable in read.VARIABLES.values()} | {read.CLUSTER, read.REPO}
    block = TEXT.partition("\ndata:")[2].partition("\n---")[0]
    named = set(re.findall(r"^  (?:# )?([A-Z][A-Z_]+):", block, re.MULTILINE))
    assert named == sweeps | {"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", STOP_WAIT}
    assert all(isinstance(value, str) for value in told.values())
    assert told[read.CLUSTER] == "cluster/kuberay.yaml"
    for group in PODS:
        sources = group["template"]["spec"]["containers"][0]["envFrom"]
        assert sources == [{"configMapRef": {"name": "svgan"}}, {"secretRef": {"name": "svgan"}}]


def test_no_secret_stands_in_it_and_no_pod_is_more_than_it_must():
    assert "Secret" not in DOCUMENTS
    assert not re.search(r"[A-Z_]*(PASSWORD|SECRET|KEY|TOKEN)[A-Z_]*: *\S", TEXT)
    assert CLUSTER["authOptions"] == {"mode": "token"}
    for group in PODS:
        pod = group["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        assert pod["securityContext"]["runAsNonRoot"] is True
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
    assert CLUSTER["workerGroupSpecs"][0]["template"]["spec"]["automountServiceAccountToken"] is False
