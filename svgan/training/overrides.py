"""Fields of a run on the command line: FIELD=VALUE (`svgan train --set`, a study's `--grid`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from svgan.errors import UserError
from svgan.training.config import RunConfig

OWN_FLAG = ("recipe", "system")  # fields that --recipe sets


def value_of(text: str) -> Any:
    """Parse a number, true, false or null as in JSON; any other text stays text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value


def parse(words: Sequence[str], flags: Sequence[str] = ()) -> dict[str, Any]:
    """Parse words such as `batch=4 video_widths=8,16 basis=false` into fields; values with commas are lists.

    flags: fields that flags of their own have set. Raises UserError for any other word, and for a field given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals and text):
            raise UserError(f"--set {word}: write FIELD=VALUE, as in batch=4")
        if name in OWN_FLAG:
            raise UserError(f"--set {name}: is what --recipe says; give that")
        if name in found or name in flags:
            flag = f" (--{name.replace('_', '-')})" if name in flags else ""
            raise UserError(f"--set {name}: given twice{flag}; leave one out")
        parts = [value_of(part) for part in text.split(",") if part]
        found[name] = parts if "," in text else parts[0]
    return found


def describe_fields(config: RunConfig) -> dict[str, str]:
    """Each field as the word that sets it to the configuration's value, and the docstring beneath it."""
    from docstring_parser import parse_from_object

    kinds = [kind for kind in reversed(type(config).__mro__) if is_dataclass(kind)]
    docs = {part.arg_name: part.description or "" for kind in kinds for part in parse_from_object(kind).params}
    names = [field.name for field in fields(config) if field.name not in OWN_FLAG]
    return {f"{name}={_word_of(getattr(config, name))}": " ".join(docs.get(name, "").split()) for name in names}


def _word_of(value: Any) -> str:
    """The inverse of `value_of`, and of a list's commas."""
    if isinstance(value, list | tuple):
        return ",".join(map(_word_of, value)) + ("," if len(value) == 1 else "")
    return value if isinstance(value, str) else json.dumps(value)
