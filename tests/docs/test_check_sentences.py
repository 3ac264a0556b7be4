"""The check of sentence lengths: what counts as a sentence, as a word, and as prose."""

from pathlib import Path

import check_sentences as check

LONG = " ".join(["word"] * 36)


def lengths(text: str) -> list[int]:
    return [check.words(sentence) for _, sentence in check.sentences(text) if check.words(sentence)]


def test_a_sentence_ends_with_its_paragraph_item_cell_or_point():
    assert lengths("One two. Three four five!\nSix\n\nSeven eight") == [2, 3, 1, 2]
    assert lengths("# A head\n- one two\n  three\n- four") == [2, 3, 1]
    assert lengths("| a b | c |\n|---|---|\n| d e f | g |") == [2, 1, 3, 1]
    assert lengths("Fox et al. train it (Eq. 2). They do.") == [7, 2]


def test_code_counts_as_a_word_and_blocks_of_it_as_none():
    assert lengths("Run `python sweeps/gap.py --trials 3` and [read the page](docs/index.md).") == [6]
    assert lengths(f"Before.\n\n```sh\n{LONG}\n```\n\nAfter it.") == [1, 2]


def test_long_sentences_are_named_with_their_line(tmp_path: Path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"Fine.\n\nFine. {LONG}.\n")
    (tmp_path / "docs" / "a.md").write_text("Fine.\n")
    (tmp_path / "svgan").mkdir()
    (tmp_path / "svgan" / "a.py").write_text(
        f'"""Short."""\n\n\nclass A:\n    """Short.\n\n        {LONG}\n\n    Short.\n    """\n\n'
        f'    field: int\n    """{LONG}"""\n'
        f'\n\nHELP = "{LONG}"\nOTHER = "{LONG}"\nflag(help="{LONG}")\n'
    )
    assert [line.split(" ")[0] for line in check.too_long(tmp_path)] == ["README.md:3:"]
    found = sorted(line.split(" ")[0] for line in check.too_long(tmp_path, code=True))
    assert found == ["README.md:3:", "svgan/a.py:13:", "svgan/a.py:16:", "svgan/a.py:18:"]
