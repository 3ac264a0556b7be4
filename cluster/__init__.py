"""Where studies run: AWS, machines of one's own, Kubernetes. It imports sweeps and svgan, never the reverse."""

from __future__ import annotations

import sys
from collections.abc import Callable

from svgan.errors import UserError


def exit_code(main: Callable[[], None]) -> int:
    """Run a command; return 0, or 2 with one line on bad input or a bad environment."""
    try:
        main()
    except UserError as error:
        print(f"svgan: {error}", file=sys.stderr)
        return 2
    return 0
