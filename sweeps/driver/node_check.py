"""Whether every node of a joined cluster can run a trial: a node that somebody else started may lack a library."""

from __future__ import annotations

from typing import Any

from svgan.errors import UserError, one_line

# Seconds for a node to unpack the package and to import what a worker imports. Ray itself gives up an environment's
# set-up after 600 s.
IMPORT_SECONDS = 600.0


def import_trial() -> None:
    """Import what the processes of a trial import."""
    import mlflow  # noqa: F401

    from sweeps.trial import controller, worker  # noqa: F401


def check_nodes(cluster: str) -> None:
    """Raises UserError that names a node of the joined cluster on which a trial cannot be imported.

    cluster: its address. Nodes that join later are not asked.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from sweeps.parallel.remote_tasks import cause_of

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    remote: Any = ray.remote
    asked: dict[Any, str] = {}
    for node, address in nodes.items():
        on_it = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[remote(num_cpus=0, max_retries=0, scheduling_strategy=on_it)(import_trial).remote()] = address
    for result, address in asked.items():
        try:
            ray.get(result, timeout=IMPORT_SECONDS)
        except (ray.exceptions.RayError, ImportError) as error:
            cause = cause_of(error)
            why = f"{type(cause).__name__}: {one_line(cause)}"
            raise UserError(
                f"RAY_ADDRESS {cluster}: node {address} cannot run a trial ({why}); "
                "install constraints.txt in the Python that `ray start` was called with, or unset it for a local run"
            ) from None
