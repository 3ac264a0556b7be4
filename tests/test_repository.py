"""The repository as its user finds it: targets of make, what git ignores, names in texts, an install beside it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import svgan

FOLDER = Path(svgan.__file__).parent.parent
DOCUMENTS = (FOLDER / "README.md", *sorted(FOLDER.glob("docs/*.md")))


def test_make_ui_serves_in_one_process_at_the_port_asked_for():
    """MLflow's four workers are killed by a health check on a busy machine, and its job runner costs 230 MB."""
    done = subprocess.run(
        ["make", "-n", "ui", "PORT=5077"], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=True
    )
    (line,) = [line for line in done.stdout.splitlines() if "mlflow ui" in line]
    assert line.startswith("MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false ")
    assert "--port 5077 --workers 1" in line


def test_what_the_documents_write_is_ignored_and_no_source_is():
    texts = "\n".join(file.read_text() for file in DOCUMENTS)
    written = re.findall(r"^svgan .* --out (\S+)|^svgan domain (\S+)", texts, re.MULTILINE)
    names = [name for pair in written for name in pair if name and "://" not in name]
    assert {"latents/me", "runs/one", "clip.mp4", "my_domain"} <= set(names)
    if not (FOLDER / ".git").exists():
        pytest.skip("no git here")
    for name in [*names, "svgan/latents/shards.py"]:
        path = name if Path(name).suffix else f"{name}/"
        # The clone may be another user's.
        asked = ["git", "-c", "safe.directory=*", "check-ignore", "--no-index", "-q", path]
        code = subprocess.run(asked, cwd=FOLDER, timeout=60).returncode
        assert code == (1 if name.startswith("svgan/") else 0), name


def test_no_text_names_a_file_of_the_cluster_folder_before_it_is_there():
    for file in (*FOLDER.glob("sweeps/**/*.py"), *FOLDER.glob("svgan/**/*.py"), *DOCUMENTS):
        for name in re.findall(r"\bcluster/[\w.-]+\.ya?ml", file.read_text()):
            assert (FOLDER / name).exists(), f"{file.name} names {name}"


def test_python_beside_a_clone_named_svgan_finds_the_package(tmp_path: Path):
    """The clone's folder is no package: an install by import hook would come after it, one by path comes before."""
    (tmp_path / "svgan" / "latents" / "me").mkdir(parents=True)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    asked = [sys.executable, "-c", "import svgan.latents.shards"]
    done = subprocess.run(asked, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + "installed before pyproject.toml said package-dir? make install"
