"""make aws-setup against AWS's interfaces as a moto server plays them: what it makes, twice, takes away and refuses."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from ports import free_port

from cluster import aws_setup
from svgan.errors import UserError

REGION, BUCKET, HERE = "us-west-2", "svgan-of-mine", "203.0.113.7/32"
NAME = aws_setup.IMAGES.replace("*", "{}")
IMAGES = [("ami-00000000000000001", NAME.format("20260101"), "2026-01-01", "x86_64")]
IMAGES += [("ami-00000000000000002", NAME.format("20261001"), "2026-10-01", "x86_64")]
IMAGES += [("ami-00000000000000003", NAME.format("20261101"), "2026-11-01", "arm64")]
IMAGES += [("ami-00000000000000004", "Ubuntu 24.04", "2026-11-02", "x86_64")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("moto")
    folder = tmp_path_factory.mktemp("moto")
    known = {"owner_id": "898082745236", "public": True, "virtualization_type": "hvm", "description": "an image"}
    rows = [
        {"ami_id": ami, "name": name, "creation_date": f"{day}T00:00:00.000Z", "architecture": kind, **known}
        for ami, name, day, kind in IMAGES
    ]
    (folder / "images.json").write_text(json.dumps(rows))
    port = free_port()
    program = Path(sys.executable).with_name("moto_server")
    environment = os.environ | {"MOTO_AMIS_PATH": str(folder / "images.json")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait()


@pytest.fixture
def aws(server, monkeypatch, tmp_path):
    """A fresh account. Returns the yaml, a copy with a bucket of one's own in it."""
    post(server, "reset")
    for name, value in {"AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "s"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "gpu.yaml"
    file.write_text(aws_setup.YAML.read_text().replace("bucket: CHANGE-ME", f"bucket: {BUCKET}"))
    return file


def post(server, what, body=b""):
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/{what}", body, plain, method="POST")).close()


def run(file, monkeypatch, capsys, *flags):
    monkeypatch.setattr(sys, "argv", ["aws_setup", "--config", str(file), "--address", HERE, *flags])
    aws_setup.main()
    return capsys.readouterr().out


def client(name):
    return boto3.client(name, region_name=REGION)


def test_a_dry_run_says_everything_and_does_nothing(aws, monkeypatch, capsys):
    before = aws.read_text()
    told = run(aws, monkeypatch, capsys)
    for words in (f"would: bucket {BUCKET}: make it", "would: role svgan-head: may", "would: security group svgan-ssh"):
        assert words in told
    assert "nothing was changed" in told
    assert aws.read_text() == before
    assert not client("iam").list_roles()["Roles"]
    assert not client("s3").list_buckets()["Buckets"]


def test_applied_it_makes_what_the_yaml_names_and_nothing_more_the_second_time(aws, monkeypatch, capsys):
    before = aws.read_text()
    told = run(aws, monkeypatch, capsys, "--apply")
    assert "would" not in told
    after = aws.read_text()
    names = yaml.safe_load(after)["metadata"]
    assert names["image"] == "ami-00000000000000002"
    assert names["address"] == HERE
    groups = {g["GroupId"]: g["IpPermissions"] for g in client("ec2").describe_security_groups()["SecurityGroups"]}
    (ssh,) = groups[names["ssh"]]
    assert (ssh["FromPort"], ssh["ToPort"], [part["CidrIp"] for part in ssh["IpRanges"]]) == (22, 22, [HERE])
    (among,) = groups[names["nodes"]]
    assert [part["GroupId"] for part in among["UserIdGroupPairs"]] == [names["nodes"]]
    assert not among["IpRanges"]
    changed = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert len(changed) == 4
    assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in changed), "comments stay"
    head = yaml.safe_load(after)["available_node_types"]["head"]["node_config"]
    assert head["SecurityGroupIds"] == [names["nodes"], names["ssh"]]
    for name in ("svgan-head", "svgan-worker"):
        (role,) = client("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
        assert role["RoleName"] == name
    closed = client("s3").get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}
    again = run(aws, monkeypatch, capsys, "--apply")
    assert again.splitlines() == [again.splitlines()[0]], "the first line alone, which says where"
    assert aws.read_text() == after


@pytest.mark.slow
def test_a_new_address_takes_the_place_of_the_old_one(aws, monkeypatch, capsys):
    run(aws, monkeypatch, capsys, "--apply")
    monkeypatch.setattr(sys, "argv", ["aws_setup", "--config", str(aws), "--address", "198.51.100.0/24", "--apply"])
    aws_setup.main()
    names = yaml.safe_load(aws.read_text())["metadata"]
    (group,) = client("ec2").describe_security_groups(GroupIds=[names["ssh"]])["SecurityGroups"]
    (rule,) = group["IpPermissions"]
    assert [part["CidrIp"] for part in rule["IpRanges"]] == ["198.51.100.0/24"] == [names["address"]]


@pytest.mark.slow
def test_a_bucket_policy_of_ones_own_stays(aws, monkeypatch, capsys):
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    own = {
        "Sid": "Own",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteBucket",
        "Resource": f"arn:aws:s3:::{BUCKET}",
    }
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [own]}))
    run(aws, monkeypatch, capsys, "--apply")
    policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    assert [part["Sid"] for part in policy["Statement"]] == ["Own", "SvganTlsOnly"]


@pytest.mark.slow
def test_a_worker_may_do_its_work_and_no_more(aws, server, monkeypatch, capsys):
    run(aws, monkeypatch, capsys, "--apply")
    s3 = client("s3")
    s3.delete_bucket_policy(Bucket=BUCKET)  # this server speaks no TLS
    for key in ("latents/a", "runs/a", "mlflow/backup/a"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    role = client("iam").get_role(RoleName="svgan-worker")["Role"]["Arn"]
    told = client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    keys = {"aws_access_key_id": told["AccessKeyId"], "aws_secret_access_key": told["SecretAccessKey"]}
    keys["aws_session_token"] = told["SessionToken"]
    worker, ec2, iam = (boto3.client(name, region_name=REGION, **keys) for name in ("s3", "ec2", "iam"))
    post(server, "reset-auth", b"0")  # from here on the server asks who may do what
    try:
        assert worker.get_object(Bucket=BUCKET, Key="latents/a")["Body"].read() == b"x"
        worker.put_object(Bucket=BUCKET, Key="runs/b", Body=b"y")
        worker.put_object(Bucket=BUCKET, Key="latents/me.embedding/codes", Body=b"y")
        worker.delete_object(Bucket=BUCKET, Key="runs/a")
        assert worker.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 4
        for refused in (
            lambda: worker.put_object(Bucket=BUCKET, Key="latents/b", Body=b"y"),
            lambda: worker.get_object(Bucket=BUCKET, Key="mlflow/backup/a"),
            lambda: worker.delete_object(Bucket=BUCKET, Key="mlflow/backup/a"),
            lambda: worker.list_buckets(),
            lambda: ec2.describe_instances(),
            lambda: ec2.run_instances(ImageId="ami-00000000000000002", MinCount=1, MaxCount=1),
            lambda: iam.list_roles(),
        ):
            with pytest.raises(ClientError, match=r"AccessDenied|UnauthorizedOperation|not authorized"):
                refused()
    finally:
        post(server, "reset-auth", b"1000000000")


@pytest.mark.slow
def test_the_head_may_start_the_yamls_workers_and_hand_on_no_other_role(aws, monkeypatch, capsys):
    run(aws, monkeypatch, capsys, "--apply")
    policy = client("iam").get_role_policy(RoleName="svgan-head", PolicyName="svgan-head")["PolicyDocument"]
    actions = [(action, part) for part in policy["Statement"] for action in part["Action"]]
    assert not [action for action, _ in actions if "*" in action]
    assert {action.partition(":")[0] for action, _ in actions} == {"ec2", "iam", "s3"}
    (handed,) = [part["Resource"] for action, part in actions if action == "iam:PassRole"]
    assert handed == [client("iam").get_role(RoleName="svgan-worker")["Role"]["Arn"]]
    (start,) = [p["Condition"]["StringEquals"] for a, p in actions if a == "ec2:RunInstances" and "Condition" in p]
    kinds = yaml.safe_load(aws.read_text())["available_node_types"]
    kinds.pop("head")
    assert set(start["ec2:InstanceType"]) == {kind["node_config"]["InstanceType"] for kind in kinds.values()}
    assert start["ec2:InstanceProfile"].endswith(":instance-profile/svgan-worker")
    (end,) = [part for action, part in actions if action == "ec2:TerminateInstances"]
    assert end["Condition"]["StringEquals"] == {"ec2:ResourceTag/ray-cluster-name": "svgan"}


@pytest.mark.slow
def test_rays_own_provider_launches_what_the_filled_yaml_says(aws, monkeypatch, capsys):
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    run(aws, monkeypatch, capsys, "--apply")
    known = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(yaml.safe_load(aws.read_text())))
    config = AWSNodeProvider.bootstrap_config(known)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    assert Path(config["auth"]["ssh_private_key"]).stat().st_mode & 0o077 == 0
    ec2 = client("ec2")
    for name, kind in config["available_node_types"].items():
        tags = {"ray-node-type": "head" if name == "head" else "worker", "ray-node-name": name}
        (made,) = provider.create_node(kind["node_config"], tags, 1)
        (machine,) = ec2.describe_instances(InstanceIds=[made])["Reservations"][0]["Instances"]
        assert machine["InstanceType"] == kind["node_config"]["InstanceType"]
        assert machine["KeyName"] == "svgan"
        assert machine["IamInstanceProfile"]["Arn"].endswith("/svgan-head" if name == "head" else "/svgan-worker")
        groups = {group["GroupName"] for group in machine["SecurityGroups"]}
        assert groups == ({"svgan-nodes", "svgan-ssh"} if name == "head" else {"svgan-nodes"})
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        assert (machine.get("InstanceLifecycle") == "spot") == name.endswith("_spot")
        (disk,) = ec2.describe_volumes(VolumeIds=[d["Ebs"]["VolumeId"] for d in machine["BlockDeviceMappings"]])[
            "Volumes"
        ]
        assert (disk["Encrypted"], disk["Size"]) == (True, 100)
        assert {"Key": "ray-cluster-name", "Value": "svgan"} in machine["Tags"]
        assert {"Key": "ray-cluster-name", "Value": "svgan"} in disk["Tags"]
    assert len(provider.non_terminated_nodes({})) == len(config["available_node_types"])


@pytest.mark.slow
def test_delete_leaves_the_bucket_alone_and_waits_for_the_machines(aws, monkeypatch, capsys):
    run(aws, monkeypatch, capsys, "--apply")
    ec2 = client("ec2")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "ray-cluster-name", "Value": "svgan"}]}]
    image = yaml.safe_load(aws.read_text())["metadata"]["image"]
    machine = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags)["Instances"][0]
    with pytest.raises(UserError, match=rf"1 machines are still there \({machine['InstanceId']}\); first: ray down"):
        run(aws, monkeypatch, capsys, "--delete", "--apply")
    ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    tags = [{"ResourceType": "volume", "Tags": tags[0]["Tags"]}]
    disk = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1, TagSpecifications=tags)["VolumeId"]
    with pytest.raises(UserError, match=rf"1 disks are still there \({disk}\)"):
        run(aws, monkeypatch, capsys, "--delete", "--apply")
    ec2.delete_volume(VolumeId=disk)
    assert "would: role svgan-head: deleted" in run(aws, monkeypatch, capsys, "--delete")
    told = run(aws, monkeypatch, capsys, "--delete", "--apply")
    assert f"bucket {BUCKET} stays" in told
    iam = client("iam")
    assert not [role for role in iam.list_roles()["Roles"] if role["RoleName"].startswith("svgan")]
    assert not iam.list_instance_profiles()["InstanceProfiles"]
    left = [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]]
    assert not [name for name in left if name.startswith("svgan")]
    assert [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]] == [BUCKET]
    assert run(aws, monkeypatch, capsys, "--delete", "--apply").count("done") == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (BUCKET, "CHANGE-ME", "gpu.yaml: bucket CHANGE-ME: put your own"),
        ("&image run-make-aws-setup", "&image ami-00000000000000009", "image ami-00000000000000009: not in us-west-2"),
        ("  key: &key svgan", "  kee: &key svgan", "gpu.yaml: 'key' is missing"),
        ("{Name: svgan-head}", "{Name: svgan-worker}", "and the head another"),
        ("metadata:", "metadata: [", "gpu.yaml: no YAML"),
    ],
)
def test_a_yaml_that_cannot_be_meant_is_refused(aws, monkeypatch, capsys, old, new, words):
    text = aws.read_text()
    assert old in text
    aws.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        run(aws, monkeypatch, capsys, "--apply")
    assert not client("iam").list_roles()["Roles"]


@pytest.mark.slow
def test_a_bucket_elsewhere_is_refused(aws, monkeypatch, capsys):
    place = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3", region_name="eu-west-1").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    with pytest.raises(UserError, match=f"bucket {BUCKET}: it is in eu-west-1, the cluster in us-west-2"):
        run(aws, monkeypatch, capsys, "--apply")
    assert not client("iam").list_roles()["Roles"]


def test_a_bucket_of_somebody_else_is_refused(aws, monkeypatch, capsys):
    """moto does not tell whose a bucket is; this answers as S3 does where the owner is not the one expected."""

    class Denied(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.headers["x-amz-expected-bucket-owner"])
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_):
            pass

    asked = []
    with http.server.HTTPServer(("127.0.0.1", 0), Denied) as denying:
        threading.Thread(target=denying.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{denying.server_port}")
        with pytest.raises(UserError, match=f"bucket {BUCKET}: it is not yours"):
            run(aws, monkeypatch, capsys, "--apply")
        denying.shutdown()
    assert asked == ["123456789012"]


@pytest.mark.parametrize("address", ["everyone", "0.0.0.0/0", "203.0.113.7/8", "10.0.0.300/32"])
def test_an_address_that_is_none_or_everybodys_is_refused(aws, monkeypatch, capsys, address):
    monkeypatch.setattr(sys, "argv", ["aws_setup", "--config", str(aws), "--address", address])
    with pytest.raises(UserError, match="--address"):
        aws_setup.main()


def test_without_credentials_one_line_says_so_and_the_code_is_2(aws, tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    environment["PYTHONPATH"] = str(aws_setup.YAML.parent.parent)
    command = [sys.executable, "-m", "cluster.aws_setup", "--config", str(aws), "--address", HERE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("svgan: AWS: no credentials found; run `aws configure`")
    assert done.stderr.count("\n") == 1
