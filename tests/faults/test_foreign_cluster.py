"""A cluster that somebody else started: in another folder, with a Python that does not know this package."""

import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from harness import FLAGS, Sweep, figures
from ports import free_port, wait_until_answers
from ray_cluster import Node

pytestmark = pytest.mark.slow


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python with this environment's libraries, but for this package and MLflow."""
    venv.create(tmp_path / "python", symlinks=True, with_pip=False)
    (theirs,) = (tmp_path / "python" / "lib").glob("python*/site-packages")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "svgan" not in entry.name and entry.name != "mlflow":
            (theirs / entry.name).symlink_to(entry)
    return tmp_path / "python" / "bin" / "python"


def test_its_workers_get_this_package_and_a_library_that_they_lack_is_named(undisturbed, footage, tmp_path, python):
    (tmp_path / "elsewhere").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    knows = subprocess.run([python, "-c", "import svgan"], env=environment, cwd=tmp_path, capture_output=True)
    assert knows.returncode == 1
    ports = free_port(), free_port()
    places = ("--num-cpus", "1", "--resources", '{"trial_slot": 1}')
    start = ("--head", "--port", str(ports[0]), "--dashboard-port", str(ports[1]), *places)
    head = Node(*start, python=python, folder=tmp_path / "elsewhere")
    try:
        wait_until_answers(ports[0], head.process)
        joined = {"RAY_ADDRESS": f"127.0.0.1:{ports[0]}", "RAY_AUTH_MODE": "disabled"}
        asked = (*FLAGS, "--concurrency", "1")
        said = Sweep(tmp_path, footage[0], "--name", "lacks", *asked, environment=joined).end(code=2)
        assert "cannot run a trial (ModuleNotFoundError: No module named 'mlflow'); install constraints.txt in" in said
        assert said.splitlines()[-1].startswith("svgan: RAY_ADDRESS 127.0.0.1:")
        assert not (tmp_path / "runs").exists()
        (theirs,) = (tmp_path / "python" / "lib").glob("python*/site-packages")
        (theirs / "mlflow").symlink_to(Path(sysconfig.get_paths()["purelib"]) / "mlflow")
        sweep = Sweep(tmp_path, footage[0], "--name", "whole", *asked, environment=joined)
        sweep.end()
    finally:
        head.lose()
    assert figures(sweep.plan) == undisturbed
