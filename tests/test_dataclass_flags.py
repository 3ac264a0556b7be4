"""Flags made of dataclasses: their values, what `--help` shows, and errors of one line."""

import dataclasses
from typing import Annotated

import pytest

from svgan.dataclass_flags import UNDECIDED, NoFlag, flag, parse, switch
from svgan.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What it is about."""

    steps: Annotated[int, flag("N", int)] = 40
    """Number of steps."""
    share: Annotated[float, flag("X", float, default="a half")] = UNDECIDED
    """Share of it."""
    fast: Annotated[bool, switch("no")] = False
    """Be fast."""
    kept: NoFlag[tuple[int, ...]] = UNDECIDED
    """No flag sets this."""

    def __post_init__(self):
        if self.steps < 1:
            raise UserError(f"--steps {self.steps}: must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    part: Part
    words: Annotated[list[str] | None, flag("A=B", words=True, default="none")] = None
    """Any number of words."""


def parsed(*arguments):
    return parse(Whole(part=Part()), arguments, prog="tool", description="About.\n\n    tool --steps 3   a line\nEnd.")


def test_flags_set_the_fields_of_parts_and_leave_the_others():
    assert parsed() == Whole(part=Part())
    assert parsed("--steps", "3", "--fast") == Whole(part=Part(steps=3, fast=True))
    assert parsed("--share=0.5", "--steps", "2", "--steps", "3").part == Part(steps=3, share=0.5)
    assert parsed("--words").words == []
    assert parsed("--words", "a=1", "b=2", "--steps", "3").words == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--steps", "many"], "argument --steps: invalid int value: 'many'; see tool --help"),
        (["--steps", "0"], "--steps 0: must be at least 1"),
        (["--steps", "-3"], "--steps -3: must be at least 1"),
        (["--steps"], "Missing value for argument '--steps'. Expected 1 values; see tool --help"),
        (["--step", "3"], "Unrecognized options: --step, 3; see tool --help"),
        (["--no-fast"], "Unrecognized options: --no-fast; see tool --help"),
        (["--part.steps", "3"], "Unrecognized options: --part.steps, 3; see tool --help"),
        (["--kept", "3"], "Unrecognized options: --kept, 3; see tool --help"),
        (["word"], "Unrecognized options: word; see tool --help"),
        (["--share", "x" * 90], f"argument --share: invalid float value: '{'x' * 90}'; see tool --help"),
    ],
)
def test_an_error_is_one_line_and_says_which_flag(arguments, line, capsys, recwarn):
    with pytest.raises(UserError) as refused:
        parsed(*arguments)
    assert str(refused.value) == line
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list


def test_help_shows_texts_defaults_and_the_description_as_it_is_written(capsys):
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "\nAbout.\n\n    tool --steps 3   a line\nEnd.\n" in shown
    words = " ".join(shown.split())
    assert "--steps N Number of steps. [40]" in words
    assert "--share X Share of it. [a half]" in words
    assert "--fast Be fast. [no]" in words
    assert "--words [A=B ...] Any number of words. [none]" in words
    assert "What it is about." in words
    assert "kept" not in words
