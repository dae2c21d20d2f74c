"""Words that must stay true: links lead somewhere, commands exist, each glossary word has one meaning."""

import re
from collections import Counter

import pytest
import regen
from house_files import ROOT, every_file

from slipway_cli.main import slipway

MARKDOWN = [path for path in every_file() if path.suffix == ".md"]
COMMANDS = ("make demo", "make test")
ELSEWHERE = {"annotations", "config", "descriptor", "image-index", "image-layout", "manifest"} | {
    "inference_rest",
    "required_api",
    "extension_binary_data",
    "extension_schedule_policy",
}
"""Pages of the OCI image specification and of the Open Inference Protocol, which are cited by name."""

ADRS = [path for path in MARKDOWN if path.match("docs/adr/[0-9]*.md")]


def test_links_between_pages_lead_to_files() -> None:
    broken = []
    for page in MARKDOWN:
        for target in re.findall(r"\]\(([^)\s]+)\)", _prose(str(page))):
            path = target.partition("#")[0]
            if (
                path
                and "://" not in path
                and not path.startswith("mailto:")
                and not (ROOT / page.parent / path).exists()
            ):
                broken.append(f"{page}: {target}")

    assert broken == []


def test_links_to_headings_lead_to_headings() -> None:
    broken = []
    for page in MARKDOWN:
        for target in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", _prose(str(page))):
            path, _, anchor = target.partition("#")
            if "://" not in path and anchor not in _anchors(str(page.parent / path) if path else str(page)):
                broken.append(f"{page}: {target}")

    assert broken == []


def test_a_page_that_is_named_is_in_the_repository() -> None:
    """A source that the reader cannot open is no source; pages elsewhere are cited by address."""
    names = {path.name for path in every_file()} | {f"{page}.md" for page in {"CHANGELOG", *ELSEWHERE}}
    dangling = []
    for path in every_file():
        if path.suffix in {".py", ".sh", ".toml", ".yml"} or path in MARKDOWN:
            text = re.sub(r"https?://\S+", "", (ROOT / path).read_text())
            dangling += [
                f"{path}: {name}" for name in re.findall(r"(?<![\w*.])[\w-]+\.md\b", text) if name not in names
            ]

    assert dangling == []


def test_code_blocks_carry_a_language() -> None:
    bare = []
    for page in MARKDOWN:
        opened = False
        for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
            if line.lstrip().startswith("```"):
                if not opened and line.strip() == "```":
                    bare.append(f"{page}:{number}")
                opened = not opened

    assert bare == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_two_commands_of_the_readme_exist(command: str) -> None:
    verb = command.removeprefix("make ")

    assert command in (ROOT / "README.md").read_text()
    assert re.search(rf"^{verb}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_continuous_integration_runs_the_same_two_commands(command: str) -> None:
    assert f"run: {command}" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_makefile_bodies_stay_short() -> None:
    bodies = Counter[str]()
    verb = ""
    for line in (ROOT / "Makefile").read_text().splitlines():
        if line.startswith("\t"):
            bodies[verb] += 1
        else:
            verb = line.partition(":")[0]

    assert {name: n for name, n in bodies.items() if n > 3} == {}


def test_every_make_verb_says_what_it_does() -> None:
    verbs = re.findall(r"^([a-z]+):.*$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    described = re.findall(r"^([a-z]+):.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert verbs == described


def test_a_glossary_word_has_one_entry() -> None:
    words = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)

    assert words
    assert [word for word, n in Counter(word.lower() for word in words).items() if n > 1] == []


def test_decision_records_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in ADRS]

    assert numbers == list(range(1, len(ADRS) + 1))


@pytest.mark.parametrize("page", ADRS, ids=lambda path: path.stem)
def test_a_decision_record_is_one_page_with_four_headings(page: object) -> None:
    text = (ROOT / str(page)).read_text()

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Situation", "Decision", "Rejected", "Consequences"]
    assert len(text.splitlines()) <= 60


def test_the_licence_is_there() -> None:
    text = (ROOT / "LICENSE").read_text()

    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_command_line_page_says_what_the_program_says() -> None:
    """Every verb is on it, because it is written from the command tree: `make regen`."""
    assert (ROOT / "docs" / "cli.md").read_text() == regen.render()


def test_every_command_has_help() -> None:
    assert [words for words, command in regen.commands(slipway, regen.NAME) if not command.help] == []


def test_an_open_changelog_fragment_has_a_known_kind() -> None:
    kinds = {"added", "changed", "fixed", "removed", "security"}
    fragments = [path for path in every_file() if path.parts[0] == "changes" and path.name != "README.md"]

    assert [
        str(path) for path in fragments if not re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(kinds)})\.md", path.name)
    ] == []


def _prose(page: str) -> str:
    """The page without code: a bracket in a code block is not a link."""
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def _anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
