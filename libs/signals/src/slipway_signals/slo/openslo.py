"""OpenSLO v1 into objectives: the documents of one `slo.yaml`.

It reads what the compiler can keep, and refuses the rest at its line: one `kind: SLO` a document, one objective and one
rolling window each, the indicator written in place. The invariant: what comes out needs no further check; a series that
nothing exports, a threshold that is no bucket bound and a target that no alert can watch are all found here.
Source: OpenSLO v1, https://github.com/OpenSLO/OpenSLO; annotations `slipway.dev/…` say what the format has no word for.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from slipway_signals.metrics import REQUEST_DURATION
from slipway_signals.slo import burn
from slipway_signals.slo.business import read_business
from slipway_signals.slo.durations import parse_duration
from slipway_signals.slo.indicators import read_indicator, read_slices
from slipway_signals.slo.model import DAYS, Business, Category, Counters, DeployWindow, ServiceSlos, Severity, Slo
from slipway_signals.slo.series import Known
from slipway_signals.slo.yamltext import Value, decode_documents, load_documents

__all__ = ["FILE", "load_slos", "read_slos", "slos_of", "thresholds_of", "thresholds_s"]

FILE: Final = "slo.yaml"
PREFIX: Final = "slipway.dev/"
ANNOTATIONS: Final = (
    *("owner", "category", "severity", "alerting", "low-traffic", "deploy-window", "retraining"),
    "business-metric",
)
NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
LONGEST_NAME: Final = 63
SHORTEST_WINDOW_S: Final = 7 * 86_400
LONGEST_WINDOW_S: Final = 90 * 86_400
CATEGORIES: Final[Mapping[str, Category]] = {
    name: name for name in ("availability", "latency", "freshness", "drift", "quality")
}
SEVERITIES: Final[Mapping[str, Severity]] = {name: name for name in ("page", "ticket")}


def load_slos(path: Path, *, known: Known | None = None, name: str | None = None) -> ServiceSlos:
    """The objectives in the file `path`.

    Args:
        path: An `slo.yaml`.
        known: Which series exist; by default those of `slipway_signals.metrics`.
        name: What messages call the file; by default its path.

    Raises:
        FileError: The file cannot be read.
        SloError: It is not what is expected; the message begins with file:line:column.
    """
    return read_slos(load_documents(path, name), known=known)


def thresholds_s(folder: Path) -> tuple[float, ...]:
    """Latency thresholds of the service in `folder`, ascending, seconds; none when it has no `slo.yaml`.

    They are what `ServiceMetrics(thresholds_s=…)` needs, so that each objective finds its bucket.

    Raises:
        FileError, SloError: As `load_slos`.
    """
    path = folder / FILE
    return load_slos(path).thresholds_s if path.exists() else ()


def thresholds_of(data: bytes, name: str = FILE) -> tuple[float, ...]:
    """The same of an `slo.yaml` as a bundle carries it; `name` is what messages call it.

    Raises:
        SloError: As `load_slos`.
    """
    return slos_of(data, name).thresholds_s


def slos_of(data: bytes, name: str = FILE) -> ServiceSlos:
    """The objectives in an `slo.yaml` as a bundle carries it; as `thresholds_of`."""
    return read_slos(decode_documents(data, name))


def read_slos(documents: Sequence[Value], *, known: Known | None = None) -> ServiceSlos:
    """The objectives of a service, in the order of its file; raises SloError."""
    known = known or Known()
    slos: list[Slo] = []
    windows: list[DeployWindow] = []
    retraining: str | None = None
    business: Business | None = None
    for document in documents:
        slo, notes = _slo(document, known)
        if "deploy-window" in notes and (window := _deploy_window(notes["deploy-window"])) not in windows:
            windows.append(window)
        if "retraining" in notes:
            retraining = _retraining(notes["retraining"], retraining)
        if "business-metric" in notes:
            found = read_business(notes["business-metric"], slo.service, known)
            if business not in {None, found}:
                notes["business-metric"].expect("the same as before: a service has one business metric")
            business = found
        if twin := next((other for other in slos if other.name == slo.name), None):
            document.fail(f"{slo.name!r} stands twice, first at {twin.source}", expected="a name of its own")
        if slos and slo.service != slos[0].service:
            document.fail(f"spec.service is {slo.service!r}, but {slos[0].source} is of {slos[0].service!r}")
        slos.append(slo)
    if not slos:
        from slipway_signals.slo.errors import SloError

        raise SloError("an `slo.yaml` holds no objective", hint="docs/slo.md shows one")
    of_requests = {
        slo.indicator.threshold_s
        for slo in slos
        if isinstance(slo.indicator, Counters)
        and slo.indicator.threshold_s is not None
        and slo.indicator.part.metric == f"{REQUEST_DURATION.name}_bucket"
    }
    return ServiceSlos(
        service=slos[0].service,
        owner=slos[0].owner,
        slos=tuple(slos),
        deploy_windows=tuple(windows),
        retraining=retraining,
        business=business,
        thresholds_s=tuple(sorted(of_requests)),
    )


def _slo(document: Value, known: Known) -> tuple[Slo, dict[str, Value]]:
    top = document.mapping(("apiVersion", "kind", "metadata", "spec"))
    top["apiVersion"].one_of("openslo/v1")
    top["kind"].one_of("SLO")
    metadata = top["metadata"].mapping(("name", "annotations"), ("displayName", "labels"))
    notes = _annotations(metadata["annotations"])
    spec = top["spec"].mapping(
        ("service", "indicator", "timeWindow", "budgetingMethod", "objectives"), ("description", "alertPolicies")
    )
    service = _name(spec["service"])
    name = _name(metadata["name"])
    if not name.startswith(f"{service}-"):
        metadata["name"].expect(f"a name that begins with {service + '-'!r}")
    if "alertPolicies" in spec and spec["alertPolicies"].items():
        spec["alertPolicies"].expect("an empty list", hint="alerts come with the objective; one policy cannot say them")
    objective, target = _objective(spec["objectives"])
    method = spec["budgetingMethod"].one_of("Occurrences", "Timeslices")
    slices = read_slices(method, objective, spec["objectives"].items()[0], spec["budgetingMethod"])
    indicator = read_indicator(spec["indicator"], objective, service, known, is_sliced=slices is not None)
    has_threshold = isinstance(indicator, Counters) and indicator.threshold_s is not None
    category: Category = "latency" if has_threshold else "availability"
    slo = Slo(
        name=name,
        service=service,
        title=_line(objective["displayName"]) if "displayName" in objective else name,
        owner=_line(notes["owner"]) if "owner" in notes else top["metadata"].fail(f"'{PREFIX}owner' is missing"),
        category=CATEGORIES[notes["category"].one_of(*CATEGORIES)] if "category" in notes else category,
        severity=SEVERITIES[notes["severity"].one_of(*SEVERITIES)] if "severity" in notes else "page",
        target=target,
        window_s=_window(spec["timeWindow"]),
        indicator=indicator,
        slices=slices,
        is_guarded=notes["low-traffic"].one_of("poisson-lcb", "none") == "poisson-lcb"
        if "low-traffic" in notes
        else True,
        source=f"{document.file}:{document.line}",
    )
    if problem := burn.problem_of(slo.target, slo.window_s):
        objective.get("target", objective.get("targetPercent", document)).fail(problem)
    return slo, notes


def _annotations(value: Value) -> dict[str, Value]:
    """Ours by their short names; those of other tools are theirs."""
    found = {}
    for key, note in value.entries().items():
        short = key.removeprefix(PREFIX)
        if short == key:
            continue
        if short not in ANNOTATIONS:
            known = ", ".join(PREFIX + name for name in ANNOTATIONS)
            note.refuse_key(key, f"is not an annotation that slipway knows, expected one of {known}")
        found[short] = note
    if "alerting" in found:
        found["alerting"].one_of("mwmb-30d")
    return found


def _objective(objectives: Value) -> tuple[dict[str, Value], Decimal]:
    listed = objectives.items()
    if len(listed) != 1:
        objectives.expect("one objective", hint="write a document for each: they have budgets of their own")
    optional = ("displayName", "target", "targetPercent", "op", "value", "timeSliceTarget", "timeSliceWindow")
    found = listed[0].mapping((), optional)
    if ("target" in found) == ("targetPercent" in found):
        listed[0].expect("either target or targetPercent")
    value = found.get("target") or found["targetPercent"]
    target = value.number() / (1 if "target" in found else 100)
    if not 0 < target < 1:
        value.expect("a target between 0 and 1" if "target" in found else "a target between 0 and 100 percent")
    return found, target.normalize()


def _window(value: Value) -> int:
    windows = value.items()
    if len(windows) != 1:
        value.expect("exactly one time window")
    window = windows[0].mapping(("duration", "isRolling"))
    if not window["isRolling"].boolean():
        window["isRolling"].expect("true", hint="calendar windows forget an incident at midnight of the first")
    seconds = parse_duration(window["duration"].text())
    if seconds is None or not SHORTEST_WINDOW_S <= seconds <= LONGEST_WINDOW_S:
        window["duration"].expect("a duration from 7d to 90d", hint="for example 30d or 4w")
    return seconds


def _deploy_window(value: Value) -> DeployWindow:
    day = "|".join(DAYS)
    clock = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
    found = re.fullmatch(rf"((?:{day})(?::(?:{day}))?) ({clock})-({clock}|24:00) UTC", value.text())
    if found is None or found[2] == found[3]:
        value.expect("a time of the week", hint="for example `monday:thursday 09:00-10:30 UTC`; a day is 00:00-24:00")
    first, _, last = found[1].partition(":")
    if last and DAYS.index(first) > DAYS.index(last):
        value.expect("days in the order of a week that begins on Monday")
    return DeployWindow(days=found[1], start=found[2], end=found[3])


def _retraining(value: Value, before: str | None) -> str:
    url = value.text()
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url):
        value.expect(
            "an http or https URL", hint="for example `http://drift-hook:9098/alerts`; no secret: it is committed"
        )
    if before not in {None, url}:
        value.expect(f"{before!r}, as before: a service has one retraining hook")
    return url


def _line(value: Value) -> str:
    """Words that stand in labels and annotations, where Prometheus would run a template."""
    text = value.text()
    if "{{" in text or not text.isprintable():
        value.expect("one line of text without '{{'")
    return text


def _name(value: Value) -> str:
    name = value.text()
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        value.expect(f"at most {LONGEST_NAME} lower-case letters and digits, words joined by '-' or '_'")
    return name
