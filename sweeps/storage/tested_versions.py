"""Whether a library's internals may be used: at the version that they were tested with, and at no other.

Only the adapters ask here (`sweeps/ray_runtime/internals.py`, `sweeps/tracking/mlflow_internals.py` and their like).
Each of their functions has a public way beside the internal one, and takes it where this module says no.
"""

from __future__ import annotations

import functools
import os
import warnings
from importlib.metadata import version

# The versions of constraints.txt; tests/test_private_names.py compares the two.
TESTED = {"ray": "2.60.0", "mlflow": "3.17.2"}
# Libraries, separated by commas, of which only the public interface may be used.
PUBLIC_ONLY = "SVGAN_PUBLIC_ONLY"


def may_use_internals(library: str) -> bool:
    """Whether the installed library is the tested version. If not, each process says so in one warning."""
    reason = why_not(library, os.environ.get(PUBLIC_ONLY, ""))
    if reason:
        warn_once(library, reason)
    return not reason


def why_not(library: str, public_only: str) -> str:
    """Why only the public interface may be used; '' if the internals may be used too."""
    if library in public_only.split(","):
        return f"{PUBLIC_ONLY}={public_only}"
    installed = installed_version(library)
    return "" if installed == TESTED[library] else f"{installed} is installed, {TESTED[library]} was tested"


installed_version = functools.cache(version)  # the driver asks twice a second, and the answer lies on the disk


@functools.cache
def warn_once(library: str, reason: str) -> None:
    warnings.warn(
        f"only the public interface of {library} is used, which is slower and says less ({reason})",
        RuntimeWarning,
        stacklevel=3,
    )
