"""The documents against the repository: links, command lines, names of files and of tests, and the site they make."""

import argparse
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import svgan
from svgan import cli

ROOT = Path(svgan.__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "bench" / "LOG.md", *sorted(ROOT.glob("docs/*.md"))]
TEXTS = {page: page.read_text() for page in PAGES}
STUDIES = sorted(f"sweeps/{name}.py" for name in ("gap", "width", "critic", "cross", "systems"))
SOURCES = [path.read_text() for path in ROOT.glob("sweeps/**/*.py")]
CITING = {".py", ".sh", ".yaml"}
FOLDERS = "svgan|sweeps|cluster|tests|bench|docs"


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=named)
# A log keeps the names of its day.
pages_of_today = pytest.mark.parametrize("page", [page for page in PAGES if page.name != "LOG.md"], ids=named)


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    heads = [re.sub(r"`|\*", "", head) for head in re.findall(r"^#+ +(.*?)(?: +\{#.*\})?$", plain, re.MULTILINE)]
    slugs = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
    return slugs | {re.sub("-+", "-", slug) for slug in slugs} | set(re.findall(r"\{#([\w-]+)\}", plain))


def commands(text: str) -> list[str]:
    """The command lines of a page's sh blocks, without comments, continued lines joined."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [part.strip() for line in bare for part in line.split(" && ") if part]


def flags(words: str) -> list[str]:
    return re.findall(r"(?<=\s)(--[a-z][\w-]*|-[a-z])(?=[\s=]|$)", f" {words}")


@cache
def help_of(*words: str) -> str:
    """What a command's --help says, in a process of its own."""
    asked = [sys.executable, *words, "--help"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def svgan_help(command: str) -> str:
    (group,) = cli.parser()._subparsers._group_actions
    choices: dict[str, argparse.ArgumentParser] = group.choices
    assert command in choices, f"svgan {command}: no such command"
    return choices[command].format_help()


def help_for(line: str) -> str | None:
    """The help that a line's flags are looked up in; None for a command that is not ours."""
    if found := re.match(r"svgan ([a-z]+)", line):
        return svgan_help(found[1])
    if found := re.match(r"(?:python -m sweeps|ray submit \S+ sweeps/__main__\.py --) ([a-z]+)", line):
        return help_of("-m", "sweeps", found[1])
    if found := re.match(r"(?:ray submit \S+ )?(?:python )?((?:sweeps|bench|cluster)/\w+\.py)", line):
        assert (ROOT / found[1]).exists(), line
        return help_of("sweeps/gap.py" if found[1] in STUDIES else found[1])
    if found := re.match(r"python -m (cluster\.\w+)", line):
        return help_of("-m", found[1])
    return None


@every_page
def test_links_lead_somewhere(page: Path):
    plain = re.sub(r"^```.*?^```|`[^`\n]*`", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", plain):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        led = (page.parent / path).resolve() if path else page
        assert led.exists(), f"{named(page)} links to {target}"
        if anchor:
            assert anchor in anchors(led.read_text()), f"{named(page)} links to {target}: no such heading"


@every_page
def test_every_flag_of_a_command_line_is_one_of_that_command(page: Path):
    for line in commands(TEXTS[page]):
        text = help_for(line)
        if text is None:
            continue
        words = line.split(" -- ", 1)[-1] if " -- " in line else line
        for flag in flags(re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", words)):
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", text), f"{named(page)}: {line}: no {flag}"


@every_page
def test_every_target_of_make_is_there(page: Path):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [line for line in commands(TEXTS[page]) if line.startswith("make ")]
    for name in re.findall(r"make ([a-z][a-z0-9-]*)", " ".join([*asked, *re.findall(r"`(make [^`]*)`", TEXTS[page])])):
        assert name in targets, f"{named(page)}: make {name}"


@pages_of_today
def test_every_file_that_is_named_is_there(page: Path):
    """`sweeps/search/asha.py`, a folder, or a module such as `sweeps.search.asha`."""
    for name in re.findall(rf"`((?!\w+/test_)(?:{FOLDERS})/[\w./-]*\w/?)`", TEXTS[page]):
        assert (ROOT / name).exists(), f"{named(page)} names {name}"
    for name in re.findall(r"`((?:svgan|sweeps|cluster)(?:\.[a-z_0-9]+)+)(?:\.[A-Z]\w*)?`", TEXTS[page]):
        if any(f'"{name}"' in source for source in SOURCES):  # a tag in MLflow
            continue
        *folder, last = name.split(".")
        places = [
            ROOT.joinpath(*folder, f"{last}.py"),
            ROOT.joinpath(*folder, last),
            ROOT.joinpath(*folder[:-1], f"{folder[-1]}.py"),
        ]
        assert any(place.exists() for place in places), f"{named(page)} names {name}"


@pages_of_today
def test_every_function_that_is_named_is_there(page: Path):
    """`asha.ASHA`, of a module named by its last part: some module of that name defines it."""
    for module, name in re.findall(r"`(\w+)\.([A-Za-z]\w*)`", TEXTS[page]):
        sources = [path.read_text() for path in ROOT.glob(f"s[vw]*/**/{module}.py")]
        if sources and not re.fullmatch("py|json|db|yaml|md|html|csv|log", name):
            defined = rf"^ *(?:(?:async )?def|class) {name}\b|^ *{name}\b.*[:=]|^    {name},$"
            assert any(re.search(defined, source, re.MULTILINE) for source in sources), (
                f"{named(page)}: {module}.{name}"
            )


@every_page
def test_every_test_that_is_named_is_there(page: Path):
    text = TEXTS[page]
    files = {str(path.relative_to(ROOT / "tests")): path.read_text() for path in ROOT.glob("tests/**/test_*.py")}
    for file, test in re.findall(r"`((?:[\w/]+/)?test_\w+\.py)(?:::([\w:]+))?`", text):
        found = [source for path, source in files.items() if f"/{path}".endswith(f"/{file.removeprefix('tests/')}")]
        assert found, f"{named(page)} names {file}"
        for part in test.split("::") if test else []:
            assert any(re.search(rf"(def|class) {part}\b", source) for source in found), (
                f"{named(page)}: {file}::{test}"
            )


def test_every_page_that_the_code_cites_is_there():
    """As in `docs/papers.md#fvd-protocol`, with its heading."""
    files = [path for folder in FOLDERS.split("|") for path in ROOT.glob(f"{folder}/**/*") if path.suffix in CITING]
    for file in files:
        for page, anchor in re.findall(r"\b(docs/[\w-]+\.md)(?:#([\w-]+))?", file.read_text()):
            assert (ROOT / page).exists(), f"{named(file)} cites {page}"
            assert not anchor or anchor in anchors((ROOT / page).read_text()), f"{named(file)} cites {page}#{anchor}"


def test_every_module_of_the_architecture_is_there():
    """Its tables name files under the folders of their heading, or under the package's."""
    for section in re.split(r"^##+ ", TEXTS[ROOT / "docs" / "architecture.md"], flags=re.MULTILINE):
        head, *rows = section.splitlines()
        folders = [ROOT / name for name in re.findall(r"`([\w/]+)`", head)] or [ROOT / "cluster"]
        for row in rows if "Modules of cluster" in head or "`" in head else []:
            for name in re.findall(r"`([^`]+)`", row.split("|")[1]) if row.startswith("|") else []:
                places = [place / name for folder in folders for place in (folder, folder.parent)]
                assert any(place.exists() for place in places), f"docs/architecture.md: {head}: {name}"


def test_the_readme_is_short():
    assert len(TEXTS[ROOT / "README.md"].splitlines()) <= 150


def test_the_site_builds_strictly_and_needs_no_network(tmp_path: Path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    build = [str(Path(sys.executable).parent / "zensical"), "build", "--strict"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.name: path.read_text() for path in (tmp_path / "build" / "docs").glob("*.html")}
    assert {page.with_suffix(".html").name for page in ROOT.glob("docs/*.md")} <= set(pages)
    for name, text in pages.items():
        assert not re.findall(r"<(?:link|script|img|iframe)[^>]+(?:href|src)=\"?https?://", text), name
        assert "mermaid" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL), (
            f"{name}: its drawing needs a network"
        )
