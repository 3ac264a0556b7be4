"""What Ray, Optuna, MLflow and pip do not publish is used in the adapters alone, at the versions that were tested."""

import ast
import re
from importlib.metadata import version
from pathlib import Path

import pytest

import svgan
from sweeps.storage import tested_versions

ROOT = Path(svgan.__file__).parent.parent
ROOMS = ("svgan", "sweeps", "cluster", "bench", "tests")
LIBRARIES = ("ray", "optuna", "mlflow", "pip")
ADAPTERS = {
    "cluster/ray_internals.py",
    "sweeps/ray_runtime/internals.py",
    "sweeps/ray_runtime/train_internals.py",
    "sweeps/tracking/mlflow_internals.py",
}
# Tests of what a version of Ray does, which docs/traps.md cites, and of the adapters.
OF_A_VERSION = {
    "tests/cluster/test_aws_setup.py",
    "tests/cluster/test_kuberay.py",
    "tests/cluster/test_patient.py",
    "tests/cluster/test_submit_from_here.py",
    "tests/growing_cluster.py",
    "tests/sweeps/ray_runtime/test_autoscaler.py",
    "tests/sweeps/ray_runtime/test_internals.py",
    "tests/sweeps/ray_runtime/test_job_submission.py",
    "tests/test_private_names.py",
}
# Private names of these libraries that are no names of a module.
KNOWN = {"_storage", "_trial_id", "_study_id", "_tracking_client", "_base_exc", "_traceback_str"}
# Private names of other libraries: os, sys, pickle, numpy, torch, fsspec, and of namedtuple, which publishes it.
OF_OTHERS = {
    "_asdict",
    "_exit",
    "_current_frames",
    "_Unpickler",
    "_reconstruct",
    "_foreach_lerp_",
    "_foreach_copy_",
    "_strip_protocol",
}
PRIVATE = re.compile(rf"\b({'|'.join(LIBRARIES)})(\.\w+)*\._[a-z]")


def files(room):
    for file in sorted((ROOT / room).rglob("*.py")):
        if str(file.relative_to(ROOT)) not in ADAPTERS | OF_A_VERSION:
            yield file


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def own_names():
    """Private names that this repository itself defines: functions, classes, variables, attributes."""
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    yield node.name
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and its_own(node):
                    yield node.attr


def its_own(node):
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def private_uses(text, own):
    """Line and name of each use of a private name that is not among the own ones; own: None takes KNOWN alone."""

    def is_foreign(name):
        return is_private(name) and (name in KNOWN or (own is not None and name not in own))

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if PRIVATE.search(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in names if PRIVATE.search(name)]
        elif isinstance(node, ast.Attribute):
            found = [node.attr] if is_foreign(node.attr) and not its_own(node) else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            found = [name] if is_foreign(name) else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = [PRIVATE.search(node.value).group()] if PRIVATE.search(node.value) else []
        else:
            found = []
        yield from ((node.lineno, name) for name in found)


def test_private_names_are_used_in_the_adapters_alone():
    own = set(own_names()) | OF_OTHERS
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for room in ROOMS
        for file in files(room)
        for line, name in private_uses(file.read_text(), own if room != "tests" else None)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "import ray._private.worker",
        "from ray.train.v2._internal import callbacks",
        "from ray.experimental.internal_kv import _internal_kv_get",
        "study._storage.get_trial(1)",
        "getattr(error, '_base_exc', error)",
        "monkeypatch.setattr('ray._private.state.state', None)",
        "code = 'from pip._internal.commands import create_command'",
    ],
)
def test_each_way_to_a_private_name_is_seen(text):
    assert list(private_uses(text, set()))


def test_the_adapters_are_there():
    for name in ADAPTERS:
        assert (ROOT / name).exists(), name


def test_the_tested_versions_are_those_of_the_constraints_and_installed():
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for library, tested in tested_versions.TESTED.items():
        assert constraints[library] == tested == version(library)


def test_another_version_or_the_users_word_leaves_the_public_interface_with_one_warning(monkeypatch):
    monkeypatch.delenv(tested_versions.PUBLIC_ONLY, raising=False)
    assert tested_versions.may_use_internals("ray")
    monkeypatch.setitem(tested_versions.TESTED, "ray", "2.0.0")
    tested_versions.warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"public interface of ray is used.*is installed, 2\.0\.0 was") as seen:
        assert [tested_versions.may_use_internals("ray") for _ in range(2)] == [False, False]
    assert len(seen) == 1
    monkeypatch.undo()
    monkeypatch.setenv(tested_versions.PUBLIC_ONLY, "mlflow,ray")
    with pytest.warns(RuntimeWarning, match="SVGAN_PUBLIC_ONLY=mlflow,ray"):
        assert not tested_versions.may_use_internals("ray")
