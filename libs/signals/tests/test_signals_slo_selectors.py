import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_signals.slo.selectors import Matcher, Selector, SelectorProblem, bound_text, parse_selector
from slipway_signals.slo.series import selectors_of
from slipway_signals.slo.witnesses import problem_of_events, witness

labels = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
matchers = st.builds(Matcher, labels, st.sampled_from(["=", "!="]), st.text(max_size=12))


@given(
    st.from_regex(r"[a-z_:][a-z0-9_:]{0,20}", fullmatch=True),
    st.lists(matchers, max_size=4, unique_by=lambda matcher: matcher.label),
)
def test_what_is_written_is_read_again(metric: str, found: list[Matcher]) -> None:
    selector = Selector(metric=metric, matchers=tuple(found))

    assert parse_selector(selector.text) == selector


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("", 0),
        ("1x", 0),
        ("x{", 2),
        ("x{a}", 3),
        ("x{a=b}", 4),
        ('x{a="b"', 7),
        ('x{a="b" c="d"}', 8),
        ('x{a="\\q"}', 4),
        ('x{a="1",a="2"}', 13),
        ('x{a="b"}[5m]', 8),
        ("x offset 5m", 2),
        ("sum(x)", 3),
        ("x + y", 2),
    ],
)
def test_what_is_no_selector_is_told_with_its_place(text: str, offset: int) -> None:
    with pytest.raises(SelectorProblem) as caught:
        parse_selector(text)

    assert caught.value.offset == offset


def test_bounds_are_written_as_they_are_scraped() -> None:
    assert [bound_text(bound) for bound in (1, 0.05, 0.25, 10, float("inf"))] == ["1.0", "0.05", "0.25", "10.0", "+Inf"]


def test_the_selectors_of_a_rule_are_found() -> None:
    expr = (
        'sum by (model, le) (rate(a_total{service="x",b=~"1|2{2}"}[5m])) / on (pod) group_left (node) '
        'c:d:rate5m > 1e-4\nand e offset 1w or label_replace(f, "week", "1", "", "") unless vector(1) > bool 2'
    )

    assert [selector.metric for selector in selectors_of(expr)] == ["a_total", "c:d:rate5m", "e", "f"]


def test_a_good_and_a_bad_event_are_found_or_the_reason_why_not() -> None:
    total = parse_selector('x{route=~"/a|/b"}')
    bad = parse_selector('x{route=~"/a|/b",code=~"5..|429"}')

    assert witness([bad, total]) == {"route": "/a", "code": "500"}
    assert witness([total], [bad]) == {"route": "/a", "code": "200"}
    assert problem_of_events(bad, total, "bad") is None
    assert "no event" in (problem_of_events(parse_selector('x{route="/c"}'), total, "bad") or "")
    assert "does not count" in (problem_of_events(parse_selector('x{code="500"}'), total, "bad") or "")
