"""The cluster files as Ray itself reads them, and what they promise: typos refused, nothing open, names that exist."""

import copy
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster import environment, exit_code, yaml_check
from svgan.errors import UserError
from sweeps.storage.tested_versions import PUBLIC_ONLY

FOLDER = Path(environment.__file__).parent
FILES = {name: (FOLDER / f"{name}.yaml").read_text() for name in ("gpu", "onprem")}
CONFIGS = {name: yaml.safe_load(text) for name, text in FILES.items()}
FLAG = re.compile(r"--[a-z-]+")


def changed(name, path, value):
    config = copy.deepcopy(CONFIGS[name])
    place = config
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_ray_takes_it(name):
    prepared = yaml_check.check(CONFIGS[name], f"{name}.yaml")
    assert prepared["head_setup_commands"][0] == CONFIGS[name]["setup_commands"][0]


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        ("gpu", ("max_worker",), 4, "max_worker"),
        ("gpu", ("idle_timeout_minutes",), "ten", "'ten' is not of type 'number'"),
        ("gpu", ("auth", "ssh_usr"), "ubuntu", "ssh_usr"),
        ("gpu", ("available_node_types", "l4_spot", "max_worker"), 4, "max_worker"),
        ("gpu", ("available_node_types", "l4_spot", "resources", "GPU"), "1", "'1' is not of type 'integer'"),
        ("gpu", ("available_node_types", "l4_spot", "min_workers"), 9, "sum of `min_workers`"),
        ("gpu", ("head_node_type",), "haed", "must be one of"),
        ("gpu", ("provider", "cache_stoped_nodes"), False, "provider.cache_stoped_nodes: Ray knows no such field"),
        ("gpu", ("available_node_types", "l4", "node_config", "InstanceTyp"), "g6.xlarge", "l4.node_config: Unknown"),
        (
            "gpu",
            ("available_node_types", "head", "node_config", "MetadataOptions", "HttpToken"),
            "required",
            "HttpToken",
        ),
        ("onprem", ("provider", "worker_ip"), ["10.0.0.1"], "provider.worker_ip: Ray knows no such field"),
        ("onprem", ("provider",), {"type": "local", "head_ip": "10.0.0.1"}, "Ray refuses it"),
        ("onprem", ("provider",), None, "provider is missing"),
        ("onprem", ("setup_command",), ["true"], "setup_command"),
        ("onprem", ("head_start_ray_commands",), "ray start", "is not of type 'array'"),
    ],
)
def test_a_typo_is_refused(name, path, value, words):
    with pytest.raises(UserError, match=rf"^{name}.yaml: .*{re.escape(words)}") as refused:
        yaml_check.check(changed(name, path, value), f"{name}.yaml")
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:only the public interface of ray:RuntimeWarning")
@pytest.mark.parametrize("name", CONFIGS)
def test_with_rays_public_interface_alone_the_schema_still_counts(name, monkeypatch):
    monkeypatch.setenv(PUBLIC_ONLY, "ray")
    prepared = yaml_check.check(CONFIGS[name], f"{name}.yaml")
    assert prepared["setup_commands"] == CONFIGS[name]["setup_commands"]
    with pytest.raises(UserError, match=rf"^{name}\.yaml: .*setup_command"):
        yaml_check.check(changed(name, ("setup_command",), ["true"]), f"{name}.yaml")


def edited(folder, name):
    """The file as its user leaves it, and that it is taken."""
    (folder / "key").touch()
    text = FILES[name].replace("CHANGE-ME", "mine").replace("run-make-aws-setup", "made").replace("~/.ssh", str(folder))
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("/svgan\n", "/key\n") if name == "onprem" else text)
    yaml_check.ready(path)
    return path


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("gpu", "bucket: mine", "bucket: CHANGE-ME", "gpu.yaml: metadata.bucket: CHANGE-ME is to be edited"),
        ("gpu", "&image made", "&image run-make-aws-setup", "metadata.image is not set yet; first: make aws-"),
        ("gpu", "*image", "*imgae", "gpu.yaml: no YAML (found undefined alias 'imgae'"),
        ("gpu", "bucket: mine", "bucket: \udcff", "gpu.yaml: no YAML"),
        ("onprem", "http://mine:8333", "http://CHANGE-ME:8333", "metadata.endpoint: http://CHANGE-ME:8333 is to be"),
        ("onprem", "/key\n", "/none\n", "auth.ssh_private_key: there is no "),
        ("onprem", "worker_ips", "worker_ip", "onprem.yaml: provider.worker_ip: Ray knows no such field"),
        ("onprem", "provider:", "provider: {", "onprem.yaml: no YAML"),
        ("onprem", "metadata:", "---\nmetadata:\n---\n", "several documents, so none of `ray up`'s; Kubernetes takes"),
    ],
)
def test_what_ray_up_could_make_nothing_of_is_one_line(name, old, new, words, tmp_path, monkeypatch, capsys):
    path = edited(tmp_path, name)
    path.write_text(path.read_text().replace(old, new, 1), errors="surrogateescape")
    monkeypatch.setattr(sys, "argv", ["yaml_check", str(path)])
    assert exit_code(yaml_check.main) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CONFIGS)
def test_every_flag_of_ray_start_exists_and_both_sides_agree_on_ports(name):
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    commands = {side: CONFIGS[name][f"{side}_start_ray_commands"][-1] for side in ("head", "worker")}
    for command in commands.values():
        assert set(FLAG.findall(command)) <= known
    ports = {side: dict(re.findall(r"--([a-z-]+port)=(\d+)", command)) for side, command in commands.items()}
    shared = {key: value for key, value in ports["head"].items() if key not in ("port", "dashboard-port")}
    assert shared == ports["worker"]
    assert len(shared) == 8
    assert "--dashboard-host=127.0.0.1" in commands["head"]
    assert "enable_autoscaler_v2=0" in commands["head"] or name == "gpu"


@pytest.mark.parametrize("name", CONFIGS)
def test_its_environment_names_what_sweeps_reads_and_nothing_else(name):
    from sweeps.storage import environment as read

    sweeps = {variable.name for variable in read.VARIABLES.values()} | {read.CLUSTER, read.REPO}
    block = FILES[name].partition("  environment:\n")[2].partition("\ncluster_name")[0]
    named = set(re.findall(r"^    (?:# )?([A-Z][A-Z_0-9]+):", block, re.MULTILINE))  # also those in a comment
    endpoint = "AWS_ENDPOINT_URL_S3" if name == "gpu" else "AWS_ENDPOINT_URL"
    others = {"SVGAN_MLFLOW", "AWS_DEFAULT_REGION", endpoint, "RAY_AUTH_MODE"}
    assert named == sweeps | others
    assert "PYTHONPATH" not in FILES[name]
    assert CONFIGS[name]["metadata"]["environment"][read.CLUSTER] == f"cluster/{name}.yaml"


def test_another_s3_is_not_asked_for_nodes(monkeypatch):
    """On AWS the yaml names AWS_ENDPOINT_URL_S3: the name without _S3 would send the autoscaler there too."""
    import boto3

    place = {"region_name": "us-west-2", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://other:8333")
    assert boto3.client("s3", **place).meta.endpoint_url == "http://other:8333"
    assert boto3.client("ec2", **place).meta.endpoint_url == "https://ec2.us-west-2.amazonaws.com"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://other:8333")
    assert boto3.client("ec2", **place).meta.endpoint_url == "http://other:8333"


def test_variables_are_filled_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    told = environment.variables(changed("gpu", ("metadata", "bucket"), "mine"))
    assert told["SVGAN_STORAGE"] == "s3://mine/runs"
    assert told["SVGAN_REPO"] == "/home/somebody/svgan-repo"
    assert told["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
    assert told["AWS_DEFAULT_REGION"] == CONFIGS["gpu"]["provider"]["region"]
    wrong = changed("gpu", ("metadata", "environment", "SVGAN_STORAGE"), "s3://{buckt}/runs")
    with pytest.raises(UserError, match=r"metadata.environment.SVGAN_STORAGE s3://\{buckt\}/runs: only \{region\}"):
        environment.variables(wrong)


def test_the_head_makes_its_secrets_once_for_itself_alone(tmp_path, monkeypatch, capsys):
    import json

    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIGS["onprem"]))
    monkeypatch.setattr(sys, "argv", ["environment", str(config)])
    assert exit_code(environment.main) == 2
    assert "svgan-onprem: metadata.bucket: CHANGE-ME is to be edited" in capsys.readouterr().err
    config.write_text(config.read_text().replace("CHANGE-ME", "mine"))

    def run():
        command = [sys.executable, "-m", "cluster.environment", str(config)]
        subprocess.run(command, env={"HOME": str(tmp_path), "PYTHONPATH": str(FOLDER.parent)}, check=True, timeout=60)
        names = (".svgan_env", ".ray/auth_token", ".mlflow/credentials")
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}
        return [(tmp_path / name).read_text() for name in names]

    first = run()
    assert len(first[1]) == 64
    assert first == run()
    shell = subprocess.run(
        ["bash", "-c", ". ~/.svgan_env; echo $MLFLOW_TRACKING_URI"],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert shell.stdout == "http://127.0.0.1:5000\n"
    token, password = first[1], first[2].split("password = ")[1].strip()
    assert token not in first[0]
    assert password not in first[0]


def test_aws_opens_nothing_and_spends_no_more_than_it_says():
    config = yaml_check.check(CONFIGS["gpu"], "gpu.yaml")
    types, names = config["available_node_types"], CONFIGS["gpu"]["metadata"]
    head = types.pop("head")
    assert head["resources"] == {"CPU": 0, "trial_slot": 16}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["node_config"]["SecurityGroupIds"] == [names["nodes"], names["ssh"]]
    for kind in types.values():
        node = kind["node_config"]
        assert kind["min_workers"] == 0
        assert node["SecurityGroupIds"] == [names["nodes"]]
        assert node["IamInstanceProfile"] != head["node_config"]["IamInstanceProfile"]
    for kind in (head, *types.values()):
        node = kind["node_config"]
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert node["ImageId"] == names["image"]
        assert all(
            disk["Ebs"]["Encrypted"] and disk["Ebs"]["VolumeType"] == "gp3" for disk in node["BlockDeviceMappings"]
        )
    spot = [kind["priority"] for kind in types.values() if "InstanceMarketOptions" in kind["node_config"]]
    on_demand = [kind["priority"] for kind in types.values() if "InstanceMarketOptions" not in kind["node_config"]]
    assert min(spot) > max(on_demand)
    assert config["max_workers"] == 8
    assert config["provider"]["cache_stopped_nodes"] is False
    budget = CONFIGS["gpu"]["metadata"]["environment"]["SVGAN_MAX_GPU_HOURS"]
    assert float(budget) > 0
