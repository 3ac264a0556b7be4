"""Waiting for the hosts of a list; tests/e2e/test_onprem.py has real ones."""

import pytest
import yaml

from sweeps.ray_runtime import fixed_hosts, resources

HOSTS = ["10.0.0.1", "10.0.0.2"]


def in_turn(*answers):
    """A function that gives one answer after another, and the last for ever."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    ("launched", "hosts"),
    [
        (yaml.safe_dump({"provider": {"type": "local", "head_ip": "10.0.0.9", "worker_ips": HOSTS}}), HOSTS),
        (yaml.safe_dump({"provider": {"type": "aws"}, "available_node_types": {}}), []),
        ("provider: [1", []),
        (None, []),
    ],
)
def test_the_hosts_are_those_of_the_launchers_list(launched, hosts, tmp_path, monkeypatch):
    path = tmp_path / "ray_bootstrap_config.yaml"
    monkeypatch.setattr(resources, "BOOTSTRAP", path)
    if launched is not None:
        path.write_text(launched)
    assert fixed_hosts.listed() == hosts


def test_what_is_waited_for_is_said_once(capsys):
    there = in_turn(set(), set(), {HOSTS[1]}, {HOSTS[1]}, set(HOSTS))
    fixed_hosts.wait_for_hosts(HOSTS, there, in_turn(set()), every=0)
    assert capsys.readouterr().out.splitlines() == [
        "waiting for hosts of the yaml that have not joined yet: 10.0.0.1, 10.0.0.2",
        "waiting for hosts of the yaml that have not joined yet: 10.0.0.1",
    ]
    fixed_hosts.wait_for_hosts([], in_turn(set()), in_turn(set()))
    assert not capsys.readouterr().out


def test_a_host_that_is_installed_is_waited_for_and_one_that_is_off_is_not(capsys):
    being_set_up = in_turn(*[{HOSTS[0]}] * 60, set())
    fixed_hosts.wait_for_hosts(HOSTS[:1], in_turn(set()), being_set_up, patience=0.5, every=0.01)
    assert being_set_up() == set()  # it was asked for as long as there was hope
    assert capsys.readouterr().out.splitlines()[-1].startswith("going on without 10.0.0.1: not joined")
    fixed_hosts.wait_for_hosts(HOSTS, in_turn({HOSTS[0]}), in_turn({HOSTS[1]}), patience=0.05, every=0.01)
    assert "going on without 10.0.0.2" in capsys.readouterr().out
