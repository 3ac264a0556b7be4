"""Fail on a sentence above 35 words: `make lint` runs it.

    python tests/docs/check_sentences.py              README.md, docs/*.md, the head of bench/LOG.md
    python tests/docs/check_sentences.py --code       also docstrings and help texts of svgan, sweeps and cluster

A sentence ends at `.`, `!` or `?` before a space, and with its paragraph, heading, list item or table cell. Blocks of
code are left out, and inline code counts as one word.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MOST = 35
ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/*.md")
CODE = ("svgan/**/*.py", "sweeps/**/*.py", "cluster/**/*.py")
TEXTS = {"HELP", "ABOUT"}  # constants of a command that hold its help

FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2[^\n]*$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"(`+).+?\1", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
NEW_BLOCK = re.compile(r"^\s*([-*+] |\d+\. |#+ |\||>|$)")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|et al|cf|vs|Eq|eq|Fig|Sec|No)\.(?=\s)")
END = re.compile(r"(?<=[.!?])[)\"*_]*\s+(?=\S)")


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every paragraph, list item, heading and table cell of a text without code."""
    start, lines = 0, []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if NEW_BLOCK.match(line) and lines:
            yield start, " ".join(lines)
            lines = []
        if line.lstrip().startswith("|"):
            yield from ((number, cell) for cell in line.strip().strip("|").split("|"))
        elif line.strip():
            start = start if lines else number
            lines.append(line.strip())


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """(line of its block, sentence) of a text in Markdown."""
    blank = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    plain = INLINE_CODE.sub(lambda found: "CODE" + "\n" * found[0].count("\n"), blank)
    for line, block in blocks(LINK.sub(r"\1", plain)):
        for sentence in END.split(ABBREVIATION.sub(r"\1", block)):
            yield line, sentence


def words(sentence: str) -> int:
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def prose(docstring: str) -> str:
    """A docstring without its indented examples and lists of columns, which are code."""
    lines = docstring.expandtabs().splitlines()
    return "\n".join("" if re.match(r" {2,}", line) or re.search(r"\S {3,}\S", line) else line for line in lines)


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring and help text of a Python file.

    A string that stands alone, as beneath a field of a dataclass, is a docstring too.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        value = _text_of(node)
        if isinstance(value, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in value.values]
            yield value.lineno, prose(_dedent("".join(parts)))
        elif isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.lineno, prose(_dedent(value.value))


def _text_of(node: ast.AST) -> ast.expr | None:
    """What a node says to a reader, if it says anything."""
    match node:
        case ast.Expr(value=value) | ast.keyword(arg="help" | "description" | "epilog", value=value):
            return value
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in TEXTS:
            return value
    return None


def _dedent(text: str) -> str:
    first, *rest = text.splitlines() or [""]
    margin = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=0)
    return "\n".join([first.lstrip(), *(line[margin:] for line in rest)])


def too_long(root: Path, code: bool = False) -> list[str]:
    """A line for every sentence above MOST words under `root`."""
    found = [(path, 0, path.read_text()) for pattern in PAGES for path in sorted(root.glob(pattern))]
    log = root / "bench" / "LOG.md"
    if log.exists():  # its head; the rest is a log, kept as it was written
        found.append((log, 0, log.read_text().split("\n## ")[0]))
    if code:
        for pattern in CODE:
            for path in sorted(root.glob(pattern)):
                found += [(path, line - 1, text) for line, text in texts_of(path)]
    return [
        f"{path.relative_to(root)}:{offset + line}: {words(sentence)} words: {sentence[:90]}"
        for path, offset, text in found
        for line, sentence in sentences(text)
        if words(sentence) > MOST
    ]


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--code", action="store_true", help="docstrings and help texts too")
    lines = too_long(ROOT, flags.parse_args().code)
    print("\n".join(lines), end="\n" if lines else "")
    if lines:
        print(f"{len(lines)} sentences above {MOST} words: divide them")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
