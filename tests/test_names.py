"""A name of a figure or of an MLflow tag stands once: in its module of names."""

import ast
from pathlib import Path

from svgan.metrics import names
from sweeps.storage import metric_names, tag_names

ROOT = Path(__file__).resolve().parents[1]
MODULES = (names, metric_names, tag_names)


def constants(module) -> list[str]:
    return [value for name, value in vars(module).items() if name.isupper()]


def literals(tree: ast.AST) -> list[ast.Constant]:
    """Strings of the code. Docstrings are prose, and so are the fixed parts of an f-string."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node for node in found if id(node) not in inside]


def test_no_name_stands_twice():
    told = [value for module in MODULES for value in constants(module)]
    assert len(told) == len(set(told))


def test_no_name_is_spelt_out_elsewhere():
    known = {value for module in MODULES for value in constants(module)}
    homes = {Path(module.__file__) for module in MODULES}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for folder in ("svgan", "sweeps")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path not in homes
        for node in literals(ast.parse(path.read_text()))
        if node.value in known
    ]
    assert not found, "\n".join(["import these from their module of names:", *found])
