"""The number that a service is for, as its `slo.yaml` says it, and the series that is recorded of it.

It is for people who ask what a service is worth; no alert asks it, and nothing judges it. The invariant: the query's
metrics exist and are those of the service.
"""

from collections.abc import Iterator

from slipway_signals.slo.model import Business, ServiceSlos
from slipway_signals.slo.promrules import Record
from slipway_signals.slo.selectors import SelectorProblem
from slipway_signals.slo.series import EXTERNAL, Known, selectors_of
from slipway_signals.slo.yamltext import Value

__all__ = ["business_records", "read_business"]

SERIES = "slipway:business:value"
EXAMPLE = 'customers scored an hour = 3600 * sum(rate(slipway_inferences_total{service="churn"}[1h]))'


def read_business(value: Value, service: str, known: Known) -> Business:
    """The annotation: what is counted, ` = `, and the query of one number; raises SloError."""
    title, separator, query = (part.strip() for part in value.text().partition(" = "))
    if not (title and separator and query) or "{{" in title or not title.isprintable():
        value.expect("what is counted, ' = ' and a query", hint=f"for example {EXAMPLE!r}")
    query = " ".join(query.split())
    try:
        selectors = list(selectors_of(query))
    except SelectorProblem as problem:
        value.fail(f"its query: {problem}")
    if not selectors:
        value.fail("its query asks for no metric")
    for selector in selectors:
        if wrong := known.problem_of(selector):
            value.fail(f"its query: {wrong}")
        if selector.value_of("service") != service and not selector.metric.startswith(EXTERNAL):
            value.fail(f"its query: {selector.metric} without service={service!r} would count other services, too")
    return Business(title=title, query=query)


def business_records(service: ServiceSlos) -> Iterator[Record]:
    """One series with the title as its label `metric`; none where nothing is declared."""
    if service.business is not None:
        labels = {"service": service.service, "metric": service.business.title}
        yield Record(name=SERIES, expr=f"sum({service.business.query})", labels=labels)
