"""A fourth system as another package brings it: an entry point on the path of this process and of those it starts."""

import importlib
import os
from pathlib import Path

import pytest

from svgan.training import registry

METADATA = "Metadata-Version: 2.1\nName: fourth-system\nVersion: 1.0\n"


@pytest.fixture(scope="module")
def fourth(tmp_path_factory: pytest.TempPathFactory):
    """Installed for a module's tests, and forgotten afterwards."""
    site = tmp_path_factory.mktemp("site")
    info = site / "fourth_system-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nlines = fourth_system:SYSTEM\n")
    here, before = Path(__file__).parent, os.environ.get("PYTHONPATH", "")
    registry.systems()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), str(here), before])))
        patch.setattr(registry, "_systems", dict(registry._systems))
        yield
    importlib.invalidate_caches()
