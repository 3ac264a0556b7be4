"""What the cluster's autoscaler reports: nodes that it starts, and nodes that it cannot start for want of a quota or of
capacity.

The report is the text of `ray status --verbose`, which is the same for both versions of the autoscaler and for every
provider of nodes.
"""

from __future__ import annotations

import re

from sweeps.ray_runtime import internals

PENDING, FAILED, END = "\nPending:\n", "\nRecent failures:\n", "\n\nResources\n"
HOST = re.compile(r"^ (\S+): ", re.MULTILINE)
# A kind of node, the category of its failure, the time of the last attempt or the node's name, and the cause.
FAILURE = re.compile(r"^ (\S+): (\S+) \([^)\n]*\)(?: - (.*))?$", re.MULTILINE)
REQUEST = re.compile(r"^.*request id \S+: ")  # what version 2 writes before the provider's own words
LONGEST = 200  # characters of a cause, which some clouds write as a page


def pending_hosts() -> set[str]:
    """The addresses of the hosts that Ray's autoscaler waits for, or sets up."""
    return set(HOST.findall(_between(internals.autoscaler_status(), PENDING, FAILED)))


def describe(status: str) -> str:
    """The failures and the nodes that are starting, in one line; '' if the report names neither.

    status: what `ray status --verbose` prints. Times and ids are left out, so that a cause reads alike at each attempt.
    """
    failures = [
        f"{kind}: {category}" + (f" ({REQUEST.sub('', why)[:LONGEST]})" if why else "")
        for kind, category, why in FAILURE.findall(_between(status, FAILED, END))
    ]
    starting = [line.strip() for line in _between(status, PENDING, FAILED).splitlines() if not line.startswith(" (no ")]
    return "; ".join(dict.fromkeys([*failures, *starting]))


def is_report(status: str) -> bool:
    """Whether the autoscaler has reported at all."""
    return PENDING in status


def _between(text: str, start: str, end: str) -> str:
    """The text after `start`, up to `end`; '' if it has no `start`."""
    return text.partition(start)[2].partition(end)[0]
