"""YAML that people write, read strictly: every value knows its line, and nothing in it can surprise.

It knows nothing of objectives. The invariants: a file is bounded before it is understood (size, depth, number of
values); anchors, aliases and tags do not exist here, so a small file cannot become a large one and cannot name a
Python class; a key stands once; each refusal begins with file:line:column.
Source: YAML 1.1 as PyYAML reads it; "billion laughs" is what the ban on aliases is for.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NoReturn

import yaml

from slipway_bundle.errors import FileError
from slipway_signals.slo.errors import SloError

__all__ = ["Value", "decode_documents", "load_documents", "parse_documents"]

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 24
MAX_VALUES: Final = 10_000
MAX_SHOWN: Final = 60
"""Characters of a wrong value that a message repeats."""

_TEXT: Final = "tag:yaml.org,2002:str"
_NULL: Final = "tag:yaml.org,2002:null"
_BOOLEAN: Final = "tag:yaml.org,2002:bool"
_NUMBERS: Final = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}


class Value:
    """A value with its place in the file and its path in the document."""

    __slots__ = ("_key", "_node", "file", "path")

    def __init__(self, node: yaml.Node, file: str, path: str, key: yaml.Node | None = None) -> None:
        self._node = node
        self._key = key
        self.file = file
        self.path = path

    @property
    def line(self) -> int:
        """Line of the value, from 1."""
        return int(self._node.start_mark.line) + 1

    @property
    def column(self) -> int:
        """Column of the value, from 1."""
        return int(self._node.start_mark.column) + 1

    def fail(self, problem: str, *, hint: str | None = None, expected: str | None = None, offset: int = 0) -> NoReturn:
        """Raises SloError: file:line:column, the field, what it got, and `problem`; `offset` is into a text."""
        got = self._shown()
        column = self.column
        if offset and self._node.start_mark.line == self._node.end_mark.line:
            column += offset + (getattr(self._node, "style", None) in {"'", '"'})
        raise SloError(
            f"{self.file}:{self.line}:{column}: {self.path} is {got}: {problem}",
            hint=hint,
            file=self.file,
            line=self.line,
            column=column,
            path=self.path,
            got=got,
            expected=expected or problem,
        )

    def expect(self, expected: str, *, hint: str | None = None) -> NoReturn:
        """Raises SloError: this value should have been `expected`."""
        self.fail(f"expected {expected}", hint=hint, expected=expected)

    def mapping(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, "Value"]:
        """The values by key; refuses other keys, and a mapping without a required one."""
        required = tuple(required)
        known = {*required, *optional}
        found = self.entries()
        for name, value in found.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                expected = ", ".join(sorted(known))
                hint = f"did you mean {near[0]!r}?" if near else None
                value.refuse_key(name, f"is not a key here, expected {expected}", hint=hint)
        for name in required:
            if name not in found:
                self.fail(f"{name!r} is missing", expected=f"{self.path}.{name}")
        return found

    def entries(self) -> dict[str, "Value"]:
        """The values by key, whatever the keys are."""
        if not isinstance(self._node, yaml.MappingNode):
            self.expect("a mapping")
        found: dict[str, Value] = {}
        for key, node in self._node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
                Value(key, self.file, f"{self.path} key").expect("text as a key")
            value = Value(node, self.file, f"{self.path}.{key.value}", key)
            if key.value in found:
                value.refuse_key(key.value, f"stands twice, first in line {found[key.value].line}")
            found[key.value] = value
        return found

    def refuse_key(self, name: str, problem: str, *, hint: str | None = None) -> NoReturn:
        """Raises SloError at the key, not at its value."""
        mark = (self._key or self._node).start_mark
        line, column = int(mark.line) + 1, int(mark.column) + 1
        raise SloError(
            f"{self.file}:{line}:{column}: {self.path} {problem}",
            hint=hint,
            file=self.file,
            line=line,
            column=column,
            path=self.path,
            got=name,
        )

    def items(self) -> list["Value"]:
        """The values of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            self.expect("a list")
        return [Value(node, self.file, f"{self.path}[{n}]") for n, node in enumerate(self._node.value)]

    def text(self) -> str:
        """A string that is not empty."""
        if not isinstance(self._node, yaml.ScalarNode) or self._node.tag != _TEXT or not self._node.value.strip():
            self.expect("text", hint="put it in quotes" if isinstance(self._node, yaml.ScalarNode) else None)
        return str(self._node.value)

    def one_of(self, *allowed: str) -> str:
        """A string out of a closed set."""
        if not isinstance(self._node, yaml.ScalarNode) or self._node.value not in allowed:
            self.expect(" or ".join(allowed))
        return str(self._node.value)

    def boolean(self) -> bool:
        """`true` or `false`."""
        if self._node.tag != _BOOLEAN or self._node.value not in {"true", "false"}:
            self.expect("true or false")
        return bool(self._node.value == "true")

    def number(self) -> Decimal:
        """A finite decimal number, exactly as written."""
        try:
            found = Decimal(self._node.value) if self._node.tag in _NUMBERS else None
        except (InvalidOperation, TypeError, ValueError):
            found = None
        if found is None or not found.is_finite():
            self.expect("a number")
        return found

    def _shown(self) -> str:
        if isinstance(self._node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self._node, yaml.SequenceNode):
            return "a list"
        if self._node.tag == _NULL:
            return "empty"
        text = repr(self._node.value) if self._node.tag == _TEXT else str(self._node.value)
        return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def load_documents(path: Path, name: str | None = None) -> list[Value]:
    """The documents of a file. `name` is what messages call it.

    Raises:
        FileError: The file cannot be read.
        SloError: It is too large, not UTF-8, not YAML, or uses what is banned here.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FileError(f"{name}: cannot be read: {error.strerror}", path=name) from error
    return decode_documents(data, name)


def decode_documents(data: bytes, name: str) -> list[Value]:
    """The documents of a file's bytes; raises SloError as `load_documents` does."""
    if len(data) > MAX_BYTES:
        raise SloError(f"{name}:1:1: the file is larger than {MAX_BYTES} bytes", file=name, line=1, column=1)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SloError(f"{name}:{line}:1: byte {error.start} is not UTF-8", file=name, line=line, column=1) from error
    return parse_documents(text, name)


def parse_documents(text: str, name: str) -> list[Value]:
    """The documents of a text, empty ones left out; raises SloError as `load_documents` does."""
    try:
        _bound(yaml.parse(text, Loader=yaml.SafeLoader), name)
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"{name}:{line}:{column}: not YAML: {error.problem or error.context}"
        raise SloError(message, file=name, line=line, column=column) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
        raise SloError(
            f"{name}:{line}:{column}: not YAML: {error.reason}", file=name, line=line, column=column
        ) from error
    return [Value(node, name, "$") for node in nodes if node is not None and node.tag != _NULL]


def _bound(events: Iterator[yaml.Event], name: str) -> None:
    """Walk the events, which costs no more than the text, and stop at what is not wanted."""
    depth = values = 0
    for event in events:
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases are not read here, write the value out"
        elif tag := getattr(event, "tag", None):
            problem = f"the tag {tag!r} is not read here, remove it"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH:
            problem = f"nested deeper than {MAX_DEPTH}"
        elif values > MAX_VALUES:
            problem = f"more than {MAX_VALUES} values"
        if problem:
            raise SloError(f"{name}:{line}:{column}: {problem}", file=name, line=line, column=column)
