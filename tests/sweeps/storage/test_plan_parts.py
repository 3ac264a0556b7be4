"""The parts of a plan: fields that flags and `study.json` share."""

import ast
import collections
import dataclasses
import inspect

import pytest

from sweeps.storage import plan_parts
from sweeps.storage.plan_parts import PARTS


@pytest.mark.parametrize("name", PARTS)
def test_every_field_has_its_text_beneath_it(name):
    (body,) = (node.body for node in ast.parse(inspect.getsource(PARTS[name])).body if isinstance(node, ast.ClassDef))
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            assert isinstance(after, ast.Expr), ast.unparse(node.target)
            assert isinstance(after.value, ast.Constant), ast.unparse(node.target)


def test_no_two_parts_have_a_field_of_one_name():
    names = collections.Counter(field.name for part in PARTS.values() for field in dataclasses.fields(part))
    assert max(names.values()) == 1
    assert not set(names) & set(PARTS)
    assert set(PARTS.values()) == {
        kind for kind in vars(plan_parts).values() if dataclasses.is_dataclass(kind) and isinstance(kind, type)
    }
