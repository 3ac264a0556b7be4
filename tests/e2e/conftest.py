"""The hosts, and what runs beside them: made once for this room, gone whole at its end."""

import hosts
import pytest
import services


@pytest.fixture(scope="session")
def network():
    if why := hosts.missing():
        pytest.skip(why)
    with hosts.network() as made:
        yield made
    assert hosts.leftovers() == []


@pytest.fixture(scope="session")
def running_services(network):
    if why := services.missing():
        pytest.skip(why)
    return services.start(network)
