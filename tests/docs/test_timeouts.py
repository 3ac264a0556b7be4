"""Every limit in seconds has a name and a row in docs/timeouts.md, and every row has its limit."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "timeouts.md"
NAMED = re.compile(r"(SECONDS|MINUTES|HOURS|RETRIES|SILENCES|PAUSE|TIMEOUT|PATIENCE|EVERY)$")
COMMENTED = re.compile(r"^[A-Z_, ]+ = [\d., ]+ *# .*\b(seconds|minutes|hours)\b")
# Settings of others, by the key under which they are set: Ray, MLflow, systemd, Ray's launcher, KubeRay, dpkg.
SETTING = re.compile(r"^(RAY|MLFLOW)_\w*(TIMEOUT|RETRIES|INTERVAL|BACKOFF)\w*$|^\w+_ttl_seconds$")
OF_OTHERS = "idle_timeout_minutes|idleTimeoutSeconds|ttlSecondsAfterFinished|TimeoutStopSec|RestartSec|Lock::Timeout"
# Arguments and attributes that are seconds.
WAITS = {"timeout", "connect_timeout", "timeout_s", "every", "wait", "limit", "patience", "pause", "interval"}
FILES = sorted(path for room in ("sweeps", "cluster") for path in (ROOT / room).rglob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Each target of an assignment with its value, None for one that is not written beside it."""
    if isinstance(node, ast.AnnAssign):
        yield node.target, node.value
    for target in node.targets if isinstance(node, ast.Assign) else ():
        if not isinstance(target, ast.Tuple):
            yield target, node.value
            continue
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [None] * len(target.elts)
        yield from zip(target.elts, values, strict=True)


def limits(path: Path) -> Iterator[tuple[str, ast.expr | None]]:
    """The limits of a file with their values: constants by name or comment, settings of others by their keys."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        for target, value in assigned(node):
            if not isinstance(target, ast.Name) or (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                continue
            if NAMED.search(target.id) or COMMENTED.search(lines[target.lineno - 1]):
                yield target.id, value
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SETTING.match(node.value):
            yield node.value, None


def seconds(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions of a node that are a number of seconds."""
    if isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg in WAITS)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("sleep", "wait"):
            yield from node.args
    if isinstance(node, ast.FunctionDef):
        arguments, defaults = node.args.args[::-1], node.args.defaults[::-1]
        pairs = [
            *zip(arguments, defaults, strict=False),
            *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
        ]
        for argument, default in pairs:
            counts = isinstance(argument.annotation, ast.Name) and argument.annotation.id == "int"
            if default is not None and argument.arg in WAITS and not counts:
                yield default
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value in WAITS:
                yield value
    for target, value in assigned(node):
        if isinstance(target, ast.Attribute) and target.attr in WAITS and value is not None:
            yield value


def nameless(path: Path) -> Iterator[str]:
    """Numbers of seconds that stand where they are used. Multiples of a limit are derived from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        for expression in seconds(node):
            parts = list(ast.walk(expression))
            words = [getattr(part, "id", getattr(part, "attr", "")) for part in parts]
            if any(word.isupper() or word in WAITS for word in words):
                continue
            if any(isinstance(part, ast.Constant) and type(part.value) in (int, float) for part in parts):
                yield f"{named(path)}:{expression.lineno}: {ast.unparse(expression)}"


def rows() -> list[list[str]]:
    """name, file, value, reason, what happens."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [[cell.strip("`") for cell in row[:2]] + row[2:] for row in cells]


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_number_of_seconds_is_without_a_name(path):
    assert not list(nameless(path))


def test_the_table_lists_every_limit_and_nothing_else():
    there = {(name, named(path)) for path in FILES for name, _ in limits(path)}
    for path in sorted((ROOT / "cluster").iterdir()):
        if path.is_file():
            there |= {(name, named(path)) for name in re.findall(rf"\b({OF_OTHERS})\b", path.read_text())}
    listed = [(name, where) for name, where, *_ in rows()]
    assert len(listed) == len(set(listed))
    assert set(listed) == there


def test_every_row_gives_a_value_a_reason_and_what_happens():
    for row in rows():
        assert len(row) == 5, row
        assert all(row), row


def test_the_values_are_those_of_the_code():
    """A constant that is a number begins its cell."""
    values = {(name, named(path)): value for path in FILES for name, value in limits(path)}
    for name, where, value, *_ in rows():
        constant = values.get((name, where))
        if isinstance(constant, ast.Constant):
            assert value.split()[0] == f"{constant.value:g}", (name, where)
