"""Which interface workers meet over."""

import os

import pytest

from sweeps.ray_runtime import network

HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
WIFI = "wlan0 00000000 0100A8C0 0003 0 0 600 00000000 0 0 0\n"
WIRE = "eth1 00000000 0100A8C0 0003 0 0 100 00000000 0 0 0\n"
NEAR = "eth0 00004D0A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
DOWN = "eth9 00000000 0100A8C0 0002 0 0 1 00000000 0 0 0\n"
HERE = "lo 0000007F 00000000 0001 0 0 0 000000FF 0 0 0\n"


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (NEAR + WIFI + WIRE + DOWN, "eth1"),
        (HERE + NEAR, "eth0"),
        (HERE, "lo"),
        ("", "lo"),
    ],
)
def test_the_default_route_of_least_metric_then_any_then_the_loopback(routes, expected):
    assert network.interface(HEAD + routes) == expected


def test_this_machines_table_can_be_read():
    here = network.interface(network.ROUTES.read_text())
    assert os.path.exists(f"/sys/class/net/{here}")


def test_what_is_set_already_stays(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "mine")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME")
    network.choose()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"
    assert os.environ["NCCL_SOCKET_IFNAME"] == network.interface(network.ROUTES.read_text())
