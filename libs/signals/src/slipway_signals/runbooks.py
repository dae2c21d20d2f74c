"""Runbooks as data: what to ask, what it may be, and what to do, read from the pages that people read.

A page is Markdown with YAML in front; `runbooks/README.md` explains the form to those who write one. It asks nothing
and runs nothing (`oncall` asks, people run). The invariant: what a page shows as ```promql or ```sh is what programs
get, so that the page and its tests cannot differ.

A page holds names (`$service`, `$previous`), which `fill` replaces. Capitals (`$HOME`) and `$(…)` are the shell's own.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml
from msgspec import Struct

from slipway_bundle.errors import FileError, UsageError

__all__ = [
    "Cause",
    "Evidence",
    "Into",
    "Runbook",
    "RunbookError",
    "Section",
    "fill",
    "fill_known",
    "fill_page",
    "load_runbook",
    "load_runbooks",
    "names_in",
]

Into = Literal["text", "sh", "promql"]
"""What a filled text is for; it decides how a value is quoted."""

FRONT: Final = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
NAME: Final = re.compile(r"\$(?:\{([a-z][a-z0-9_]*)\}|([a-z][a-z0-9_]*))")

LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same as `safe_load`, and ten times as fast where libyaml is there."""


class RunbookError(UsageError):
    """A page that is no runbook, or a name on it that has no value."""

    code = "runbook_invalid"


class Evidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question that the live system answers."""

    id: str
    """Unique on its page."""

    question: str
    promql: str
    """An instant query; holds names."""

    empty: str
    """What it means that the answer has no series."""

    unit: str = ""
    """Of the value: `requests/s`, `seconds`, `ratio`, … ; empty where the value says nothing and the labels all."""


class Cause(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One explanation, with what speaks for it and what to do then."""

    name: str
    promql: str | None = None
    """Has a series when this is the cause; holds names. None: what remains when nothing else is."""

    why: str
    """A sentence; may hold names, labels of the first series, and `$value`."""

    command: str | None = None
    """What to type next; holds names. None where `step` is something that people do."""

    step: str
    """A sentence: what the next step is for."""


class Section(Struct, frozen=True, kw_only=True):
    """What stands below a heading of the second level, up to the next."""

    heading: str
    text: str
    """Markdown."""


class Runbook(Struct, frozen=True, kw_only=True):
    """One page: of an alert, or of a scenario (`playbook-…`) that several alerts may show."""

    name: str
    """The file's name without `.md`."""

    alert: str | None
    """None for a playbook."""

    alerts: tuple[str, ...]
    """Of a playbook; of an alert's page, the alert alone."""

    severity: str
    owner: str
    title: str
    evidence: tuple[Evidence, ...]
    causes: tuple[Cause, ...]
    """The most likely first."""

    sections: tuple[Section, ...]

    def section(self, heading: str) -> str:
        """The Markdown below a heading.

        Raises:
            RunbookError: when the page has no such heading.
        """
        for section in self.sections:
            if section.heading == heading:
                return section.text
        told = ", ".join(section.heading for section in self.sections)
        raise RunbookError(f"{self.name}: no heading {heading!r}, expected one of: {told}", page=self.name)

    def commands(self, heading: str) -> tuple[str, ...]:
        """The ```sh blocks below a heading, as written; a block may have several lines."""
        return _fences(self.section(heading), "sh")

    def queries(self, heading: str) -> tuple[str, ...]:
        """The ```promql blocks below a heading, as written."""
        return _fences(self.section(heading), "promql")


class _Front(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    severity: str
    owner: str
    alert: str | None = None
    alerts: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    causes: tuple[Cause, ...] = ()


def load_runbooks(folder: Path) -> dict[str, Runbook]:
    """Every page in a folder but its README, by name, in the order of the alphabet."""
    pages = sorted(path for path in folder.glob("*.md") if path.stem != "README")
    return {path.stem: load_runbook(path) for path in pages}


def load_runbook(path: Path) -> Runbook:
    """One page.

    Raises:
        FileError: when the file cannot be read.
        RunbookError: when it is no runbook; the message names the file and the field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise FileError(f"runbook {str(path)!r} cannot be read: {problem}", path=str(path)) from problem
    front = _front(text, path)
    title, sections = _sections(text[_front_end(text) :])
    ids = [evidence.id for evidence in front.evidence]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise RunbookError(f"{path.name}: $.evidence has {twice[0]!r} twice, expected each id once", path=str(path))
    return Runbook(
        name=path.stem,
        alert=front.alert,
        alerts=front.alerts if front.alert is None else (front.alert,),
        severity=front.severity,
        owner=front.owner,
        title=title or path.stem,
        evidence=front.evidence,
        causes=front.causes,
        sections=sections,
    )


def names_in(text: str) -> frozenset[str]:
    """The names that `fill` would replace."""
    return frozenset(braced or bare for braced, bare in NAME.findall(text))


def fill(text: str, values: Mapping[str, str], *, into: Into = "text") -> str:
    """`text` with each name replaced by its value.

    Args:
        text: Holds names: `$service` or `${service}`.
        values: By name. A value may come from a label, so it is data: in `sh` it is quoted as one word, in `promql`
            it is escaped for a quoted string, in `text` it stands as it is.
        into: What the text is.

    Raises:
        RunbookError: when a name has no value.
    """
    quoted = QUOTES[into]

    def replaced(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in values:
            known = ", ".join(f"${each}" for each in sorted(values)) or "none"
            raise RunbookError(
                f"`${name}` has no value, expected one of those known: {known}",
                hint=f"give it, for example with `--{name}`, or ask where the alert fires, which says it",
                name=name,
            )
        return quoted(values[name])

    return NAME.sub(replaced, text)


def fill_known(text: str, values: Mapping[str, str], *, into: Into = "text") -> str:
    """The same, where names without a value stay as they are, for a person to fill in."""
    quoted = QUOTES[into]

    def replaced(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return quoted(values[name]) if name in values else found[0]

    return NAME.sub(replaced, text)


def fill_page(markdown: str, values: Mapping[str, str]) -> str:
    """Markdown with the names that are known filled in: quoted in ```sh and ```promql blocks, plain around them."""
    from markdown_it import MarkdownIt

    lines = markdown.splitlines(keepends=True)
    purposes: list[Into] = ["text"] * len(lines)
    for token in MarkdownIt().parse(markdown):
        language = token.info.strip()
        if token.type == "fence" and token.map and language in {"sh", "promql"}:
            start, end = token.map
            purposes[start:end] = ["sh" if language == "sh" else "promql"] * (end - start)
    return "".join(fill_known(line, values, into=purpose) for line, purpose in zip(lines, purposes, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


QUOTES: Final[dict[Into, Callable[[str], str]]] = {"text": str, "sh": shlex.quote, "promql": _escaped}


def _front_end(text: str) -> int:
    found = FRONT.match(text)
    return 0 if found is None else found.end()


def _front(text: str, path: Path) -> _Front:
    found = FRONT.match(text)
    if found is None:
        raise RunbookError(
            f"{path.name}: the page begins without front matter, expected YAML between two lines of `---`",
            hint="copy the head of another page in runbooks/",
            path=str(path),
        )
    try:
        front = msgspec.convert(yaml.load(found[1], Loader=LOADER), _Front)  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, msgspec.ValidationError) as problem:
        raise RunbookError(
            f"{path.name}: the front matter cannot be used: {problem}",
            hint="runbooks/README.md lists the fields",
            path=str(path),
        ) from problem
    if (front.alert is None) == (not front.alerts):
        raise RunbookError(
            f"{path.name}: expected `alert` (a page of one alert) or `alerts` (a playbook), and one of them only",
            path=str(path),
        )
    return front


def _sections(text: str) -> tuple[str, tuple[Section, ...]]:
    """The first heading, and each second-level heading with the lines below it."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt().parse(text)
    heads = [
        (token.tag, tokens[index + 1].content, token.map)
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.tag in {"h1", "h2"} and token.map
    ]
    title = next((content for tag, content, _ in heads if tag == "h1"), "")
    lines = text.splitlines(keepends=True)
    starts = [(content, lines_of[0], lines_of[1]) for tag, content, lines_of in heads if tag == "h2"]
    ends = [start for _, start, _ in starts[1:]] + [len(lines)]
    sections = tuple(
        Section(heading=heading, text="".join(lines[below:end]).strip("\n") + "\n")
        for (heading, _, below), end in zip(starts, ends, strict=True)
    )
    return title, sections


def _fences(text: str, language: str) -> tuple[str, ...]:
    from markdown_it import MarkdownIt

    tokens = MarkdownIt().parse(text)
    return tuple(
        token.content.rstrip("\n") for token in tokens if token.type == "fence" and token.info.strip() == language
    )
