"""Flags of a command line from the fields of dataclasses, by tyro: a flag is written once, its help beneath its field.

An error is one line, raised as `UserError`, as `svgan.cli.Parser` does.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from svgan.errors import UserError, one_line

__all__ = ["HELP", "UNDECIDED", "NoFlag", "flag", "parse", "switch"]
T = TypeVar("T")
_ANY: Any = Annotated[Any, PrimitiveConstructorSpec(0, "", lambda _: None, lambda _: True, lambda _: [])]
NoFlag = Annotated[tyro.conf.Suppress[T], tyro.conf.arg(constructor=_ANY)]  # NoFlag[int]: a field that no flag sets
UNDECIDED: Any = None  # the value of a field whose flag was not given, where the program decides the value later
HELP = ("-h", "--help")
_DESCRIPTION = "(description)"
_FRAME = re.compile(r"[│╭╮╰╯|+]|\x1b\[[0-9;]*m")
_RULE = re.compile(r"─{3,}|-{9,}")


def flag(
    metavar: str, read: Callable[[str], Any] = str, *, default: str | Callable[[str], str] = "{}", words: bool = False
) -> Any:
    """The annotation of a field that a flag sets: `steps: Annotated[int, flag("N", int)] = 1700`.

    read: makes the value of the flag's word, and raises ValueError for a word that is none. words: the flag takes any
    number of words, as a list. default: what `--help` shows in brackets as the default, `{}` standing for the
    default's text, or a function that makes it of that text.
    """

    def read_words(given: Sequence[str]) -> Any:
        if words:
            return [read(word) for word in given]
        try:
            return read(given[0])
        except ValueError:
            raise ValueError(f"invalid {read.__name__} value: {given[0]!r}") from None

    spec: Any = PrimitiveConstructorSpec(
        nargs="*" if words else 1,
        metavar=f"[{metavar} ...]" if words else metavar,
        instance_from_str=read_words,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [f"{value:g}" if isinstance(value, float) else str(value)],
    )
    made: Any = Annotated[Any, spec]  # not the field's own type, of which UNDECIDED is none
    return tyro.conf.arg(constructor=made, help_behavior_hint=_hint(default))


def switch(default: str) -> Any:
    """The annotation of a boolean field that its flag sets to true. default: as of `flag`."""
    return tyro.conf.arg(help_behavior_hint=_hint(default))


def _hint(default: str | Callable[[str], str]) -> Callable[[str], str]:
    def hint(shown: str) -> str:
        text = ast.literal_eval(shown)[0] if shown.startswith("[") else shown  # tyro shows a list of words
        return f"[{default(text) if callable(default) else default.replace('{}', text)}]"

    return hint


def parse(default: T, arguments: Sequence[str], *, prog: str, description: str) -> T:
    """The dataclass `default`, whose fields may be dataclasses, with the values that the flags give.

    `--help` prints and exits. Raises UserError for flags that cannot be read.
    """
    printed, error = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(error), _unwrapped(arguments):
            return tyro.cli(
                type(default),
                default=default,
                args=arguments,
                prog=prog,
                description=_DESCRIPTION,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as ended:
        if ended.code:
            raise UserError(f"{_reason(error.getvalue())}; see {prog} --help") from None
        text = "\n".join(line.rstrip() for line in printed.getvalue().splitlines())
        print(text.replace(_DESCRIPTION, description.strip()))  # tyro would wrap the description's lines anew
        raise


@contextlib.contextmanager
def _unwrapped(arguments: Sequence[str]) -> Iterator[None]:
    """Tell tyro of a terminal so wide that it does not break the lines of an error."""
    before = os.environ.get("COLUMNS")
    if not set(HELP) & set(arguments):
        os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def _reason(said: str) -> str:
    """What tyro says is wrong, on one line: of its text, cut by rules into title, reason and help, the reason."""
    reasons, part = [], 0
    for line in said.splitlines():
        if _RULE.search(line):
            part += 1
        elif part == 1:
            reasons.append(_FRAME.sub(" ", line))
    text = one_line(" ".join(reasons) or said, 500)
    return re.sub(r"^Error parsing (\S+): ", r"argument \1: ", text).rstrip(".")
