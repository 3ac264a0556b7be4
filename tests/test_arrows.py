"""Imports point one way: cluster -> sweeps -> svgan, and svgan knows neither Ray nor MLflow nor Optuna."""

import ast
from pathlib import Path

import pytest

import svgan

ROOT = Path(svgan.__file__).parent.parent
FORBIDDEN = {"svgan": {"sweeps", "cluster", "ray", "mlflow", "optuna"}, "sweeps": {"cluster"}, "bench": {"cluster"}}


def imported(file):
    """The first parts of all names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_point_one_way(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert not FORBIDDEN[room] & set(imported(file)), file
