"""Counter selectors: one metric and its matchers, `http_requests_total{route="/predict",code!~"5.."}`.

A small strict grammar and not PromQL: functions, ranges, offsets and operators belong to the compiler. The invariant:
`Selector.text` of what `parse_selector` gave selects the same series, in one spelling.
Source: the Prometheus manual, "Instant vector selectors"; https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

import re
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

__all__ = ["Matcher", "Selector", "bound_text", "parse_selector"]

Operator = Literal["=", "!=", "=~", "!~"]
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATOR: Final = re.compile(r"=~|!~|!=|=")
_VALUE: Final = re.compile(r'"((?:[^"\\\n]|\\.)*)"' + r"|'((?:[^'\\\n]|\\.)*)'")
_SPACE: Final = re.compile(r"\s*")
_ESCAPES: Final = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


class Matcher(Struct, frozen=True, order=True):
    """One condition on a label."""

    label: str
    operator: Operator
    value: str

    @property
    def text(self) -> str:
        """As PromQL writes it."""
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.operator}"{escaped}"'

    def accepts(self, value: str) -> bool:
        """Whether a series whose label has this value is selected; "" is a label that is not there."""
        match self.operator:
            case "=":
                return value == self.value
            case "!=":
                return value != self.value
            case "=~":
                return re.fullmatch(self.value, value) is not None
            case "!~":
                return re.fullmatch(self.value, value) is None


class Selector(Struct, frozen=True, kw_only=True):
    """One metric and what its labels must be."""

    metric: str
    matchers: tuple[Matcher, ...] = ()

    @property
    def text(self) -> str:
        """As PromQL writes it."""
        inside = ",".join(matcher.text for matcher in self.matchers)
        return f"{self.metric}{{{inside}}}" if inside else self.metric

    def value_of(self, label: str) -> str | None:
        """The value that `label` must equal; None when it may have several."""
        return next((m.value for m in self.matchers if m.label == label and m.operator == "="), None)

    def with_label(self, label: str, value: str) -> "Selector":
        """The same with `label="value"` in front, unless it has a matcher for that label."""
        if any(matcher.label == label for matcher in self.matchers):
            return self
        return replace(self, matchers=(Matcher(label, "=", value), *self.matchers))


class SelectorProblem(ValueError):
    """`text` is not a selector: the first argument says why, `offset` where (characters from its start)."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(problem)
        self.offset = offset


def parse_selector(text: str) -> Selector:
    """A selector, whole: nothing may follow it. Raises SelectorProblem."""
    at = _skip(text, 0)
    metric = _NAME.match(text, at)
    if metric is None:
        raise SelectorProblem("expected a metric name", at)
    at = _skip(text, metric.end())
    matchers: list[Matcher] = []
    if text[at : at + 1] == "{":
        at = _skip(text, at + 1)
        while text[at : at + 1] != "}":
            matcher, at = _matcher(text, at)
            if any(known.label == matcher.label and known.operator == "=" == matcher.operator for known in matchers):
                raise SelectorProblem(f"label {matcher.label!r} is given twice", at)
            matchers.append(matcher)
            at = _skip(text, at)
            if text[at : at + 1] == ",":
                at = _skip(text, at + 1)
            elif text[at : at + 1] != "}":
                raise SelectorProblem("expected ',' or '}'", at)
        at = _skip(text, at + 1)
    if at != len(text):
        raise SelectorProblem("expected the end: one metric and its matchers, no functions, ranges or operators", at)
    return Selector(metric=metric[0], matchers=tuple(matchers))


def bound_text(bound_s: float) -> str:
    """The `le` of a bucket in the one spelling that is scraped: `1.0`, `0.05`, `+Inf`."""
    return "+Inf" if bound_s == float("inf") else repr(float(bound_s))


def _matcher(text: str, at: int) -> tuple[Matcher, int]:
    label = _LABEL.match(text, at)
    if label is None:
        raise SelectorProblem("expected a label name", at)
    at = _skip(text, label.end())
    operator = _OPERATOR.match(text, at)
    if operator is None:
        raise SelectorProblem("expected one of = != =~ !~", at)
    at = _skip(text, operator.end())
    quoted = _VALUE.match(text, at)
    if quoted is None:
        raise SelectorProblem("expected a value in quotes", at)
    value = _unescaped(quoted[1] if quoted[1] is not None else quoted[2], at)
    sign = operator[0]
    if sign in {"=~", "!~"}:
        try:
            re.compile(value)
        except re.error as error:
            raise SelectorProblem(f"the pattern {value!r} is not a regular expression: {error}", at) from error
    return Matcher(label[0], _sign(sign), value), quoted.end()


def _sign(text: str) -> Operator:
    match text:
        case "=" | "!=" | "=~" | "!~":
            return text
    raise AssertionError(f"this is a bug in slipway: operator {text!r}")


def _unescaped(text: str, at: int) -> str:
    def put(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            raise SelectorProblem(f"unknown escape '\\{found[1]}'", at)
        return _ESCAPES[found[1]]

    return re.sub(r"\\(.)", put, text)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
