"""What people and CI read of evidence that the gate itself made: page, Markdown, JUnit."""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from gate_evidence import REFUSED, evidence_of
from gate_windows import DIGESTS, Arms, gate_plan
from msgspec.structs import replace

from slipway_bundle.errors import FileError
from slipway_signals.gate.evidence import Evidence, EvidenceError, encode_evidence
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.plan import Override
from slipway_signals.gate.report.junit import render_junit
from slipway_signals.gate.report.markup import el, html_of
from slipway_signals.gate.report.page import render_page
from slipway_signals.gate.report.plots import Line, interval, linear_axis, log_axis, nines_axis, plot
from slipway_signals.gate.report.summary import render_summary
from slipway_signals.gate.report.words import duration_text, latency_text, short_digest
from slipway_signals.gate.report.writing import write_reports
from slipway_signals.gate.verdict import Finding

PAGE_BYTES = 300_000
HEADLINES = {
    "good": "Pass: the candidate is no worse than stable",
    "slow": "Fail: the candidate is worse than stable",
    "drifted": "Fail: the candidate is worse than stable",
    "starved": "Inconclusive: the evidence is not enough",
    "short": "Inconclusive: the evidence is not enough",
    "broken": "Fail: the candidate crossed an absolute line",
    "refused": "Fail: the candidate may not take this traffic",
    "empty": "Inconclusive: the evidence is not enough",
}
HOSTILE = '<script>alert(1)</script>"&|`*\n@all \x00'


@cache
def evidence(kind: str) -> Evidence:
    """A run of each kind, from a fixed seed."""
    match kind:
        case "slow":
            return evidence_of(Arms(2, slower=1.3).windows(40))
        case "drifted":
            return evidence_of(Arms(3, drift=0.2).windows(40))
        case "starved":
            return evidence_of(Arms(4, rate=20).windows(12))
        case "short":
            return evidence_of(Arms(1).windows(16))
        case "broken":
            return evidence_of(Arms(5, failing=0.3).windows(20))
        case "refused":
            return evidence_of(checks=(REFUSED,))
        case "empty":
            return evidence_of()
    return evidence_of(Arms(1).windows(80))


class Reader(HTMLParser):
    """Tags, attributes and words of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize(("kind", "headline"), HEADLINES.items())
def test_every_report_begins_with_the_verdict(kind: str, headline: str) -> None:
    page, summary, junit = render_page(evidence(kind)), render_summary(evidence(kind)), render_junit(evidence(kind))

    first = next(words for words in Reader(page.partition("<h1>")[2]).words if len(words) > 1)
    assert first == headline
    assert summary.splitlines()[0][5:] == headline
    wrong = {case.get("message") for case in _xml(junit).iter() if case.tag in {"failure", "error"}}
    assert (headline in wrong) == (kind != "good")
    assert all(" ".join(reason.split()) in " ".join(page.split()) for reason in _escaped(evidence(kind)))


@pytest.mark.parametrize("kind", HEADLINES)
def test_a_page_is_one_small_file_that_asks_nobody(kind: str) -> None:
    page = render_page(evidence(kind), digest="sha256:" + "e" * 64)

    read = Reader(page)
    assert len(page.encode()) < PAGE_BYTES
    assert not {"script", "iframe", "img", "object", "base", "form"} & {tag for tag, _ in read.tags}
    loads = [value for _, attributes in read.tags for name, value in attributes.items() if name in {"href", "src"}]
    assert loads == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]


def test_the_same_evidence_gives_the_same_page() -> None:
    assert render_page(evidence("slow")) == render_page(evidence("slow"))


def test_every_metric_is_there_with_its_interval_and_margin() -> None:
    run = evidence("slow")
    rows = _rows(render_page(run))

    assert set(rows) == {one.metric for one in run.criteria}
    assert "+10 %" in rows["latency.p95"]
    first = next(iter(rows))
    assert first.startswith("latency")  # what fails comes first
    assert "fail" in rows[first]


def test_who_answered_is_said_also_when_the_plan_names_nobody() -> None:
    run = evidence_of(Arms(4, rate=20).windows(12), gate_plan())

    page, summary = render_page(run), render_summary(run)

    for digest in DIGESTS.values():
        assert f'title="{digest}">{short_digest(digest)}<' in page
        assert short_digest(digest) in summary


def test_words_from_a_run_stay_words() -> None:
    """Names of rollouts, fields and findings come from elsewhere; none of them becomes markup, anywhere."""
    run = evidence("starved")
    subject = replace(run.subject, rollout=HOSTILE, stage=HOSTILE) if run.subject else None
    criteria = tuple(replace(one, title=HOSTILE, reason=HOSTILE, origin="plan") for one in run.criteria)
    decision = replace(
        run.decision, reasons=(HOSTILE,), findings=(Finding(code=HOSTILE, text=HOSTILE, arm="candidate"),)
    )
    told = replace(run, subject=subject, criteria=criteria, decision=decision, versions={HOSTILE: HOSTILE})

    page, summary, junit = render_page(told, digest=HOSTILE, signer=HOSTILE), render_summary(told), render_junit(told)

    assert "script" not in {tag for tag, _ in Reader(page).tags}
    assert "\x00" not in page + summary
    cases = _xml(junit)
    assert any(HOSTILE.splitlines()[0] in (case.get("message") or "") for case in cases.iter("error"))
    assert not re.search(r"(?<!\\)<script", summary)
    assert not re.search(r"(?<!\\)@all", summary)
    tables = [line for line in summary.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {6}


def test_a_margin_that_somebody_set_is_marked_and_explained() -> None:
    plan = gate_plan(
        digests=dict(DIGESTS), margins={"latency.p99": Override(margin=1.4, reason="a second model is asked")}
    )
    run = evidence_of(Arms(4, rate=20).windows(12), plan)

    page, summary = render_page(run), render_summary(run)

    assert "+40 %*" in page
    assert "a second model is asked" in page
    assert r"\* latency.p99: a second model is asked" in summary


@pytest.mark.parametrize("kind", HEADLINES)
def test_ci_lets_nothing_but_a_pass_through(kind: str) -> None:
    suite = _xml(render_junit(evidence(kind))).find("testsuite")

    assert suite is not None
    wrong = sum(int(suite.get(name, "0")) for name in ("failures", "errors"))
    assert (wrong == 0) == (kind == "good")
    assert int(suite.get("tests", "0")) == len(suite.findall("testcase"))
    assert sum(case.find("failure") is not None or case.find("error") is not None for case in suite) == wrong
    assert suite.find("testcase[@name='verdict']") is not None
    is_error = suite.find("testcase[@name='verdict']/error") is not None
    assert is_error == (evidence(kind).decision.verdict == "inconclusive")


@pytest.mark.parametrize(
    ("neutral", "margin", "bounds", "is_left"),
    [
        (1.0, 1.1, (0.97, 1.02, 1.07), True),
        (1.0, 1.1, (0.97, 1.05, 1.13), False),
        (0.0, 0.0005, (-0.0001, 0.0, 0.0004), True),
        (0.0, 0.0005, (0.0002, 0.0004, 0.0009), False),
        (0.0, 0.05, (None, 0.01, None), False),
    ],
)
def test_an_interval_is_left_of_its_margin_when_it_passes(
    neutral: float, margin: float, bounds: tuple[float | None, float, float | None], is_left: bool
) -> None:
    drawn = interval("latency", "pass", neutral, margin, bounds)

    lines = {str(line.get("class")).split()[0]: line for line in drawn.iter("line")}
    reach, edge = lines["reach"], float(lines["margin"].get("x1", "nan"))
    assert (float(reach.get("x2", "nan")) < edge) == is_left
    assert float(reach.get("x1", "nan")) <= float(lines["point"].get("x1", "nan")) <= float(reach.get("x2", "nan"))
    assert float(lines["neutral"].get("x1", "nan")) < edge
    if bounds[0] is None:  # nothing is known: from end to end
        assert (reach.get("x1"), reach.get("x2")) == ("0", "1000")


def test_an_interval_far_beyond_its_margin_points_to_where_it_is() -> None:
    drawn = interval("latency", "fail", 1.0, 1.1, (2.0, 2.5, 3.0))

    assert [one.get("class") for one in drawn.iter("polygon")] == ["further fail"]


def test_an_axis_of_nines_gives_the_tail_as_much_room_as_the_rest() -> None:
    axis = nines_axis(0.99995)

    places = [axis.place(share) for share in (0.0, 0.9, 0.99, 0.999, 0.9999)]
    assert places == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert [text for _, text in axis.ticks][-2:] == ["99.99 %", "99.999 %"]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 17.0), (0.0, 0.004), (5.0, 5.0), (1e6, 3e6), (0.0, 59.0)])
def test_an_axis_has_some_round_ticks_inside(low: float, high: float) -> None:
    axis = linear_axis(low, high)

    assert 2 <= len(axis.ticks) <= 7
    assert all(axis.low - 1e-9 <= value <= axis.high * (1 + 1e-9) for value, _ in axis.ticks)
    assert len({text for _, text in axis.ticks}) == len(axis.ticks)


def test_an_axis_of_powers_has_few_ticks_over_any_span() -> None:
    for high in (200.0, 2e3, 1e5, 1e9):
        ticks = log_axis(100.0, high, latency_text).ticks
        assert 1 <= len(ticks) <= 10, ticks


def test_a_distribution_is_drawn_where_its_values_are() -> None:
    """A step of one value lies on its tick; more points than a screen has are not drawn."""
    x, y = linear_axis(0.0, 10.0), linear_axis(0.0, 1.0)
    many = tuple((at / 1_000, at / 10_000) for at in range(10_001))

    step = plot("one value", x, y, [Line(style="stable", points=((5.0, 0.0), (5.0, 1.0)), is_steps=True)])
    smooth = plot("many", x, y, [Line(style="stable", points=many)])

    assert _path(step).startswith("M500.0 1000.0")
    assert _path(step).endswith("L500.0 0.0")
    assert 100 < _path(smooth).count("L") < 1_000
    assert _path(smooth).endswith("L1000.0 0.0")


def test_latencies_on_the_page_are_those_of_the_windows_without_the_warm_up() -> None:
    run = evidence("slow")
    pooled = Histogram()
    for window in run.windows:
        if not window.is_warm_up:
            pooled.merge(window.arms["candidate"].latency_us)

    page = render_page(run)

    assert f"<td>{latency_text(pooled.quantile(0.95))}</td>" in page
    assert f"{pooled.count:,} of candidate." in page


def test_text_is_text_in_every_place_of_an_element() -> None:
    made = el("p", "a<b", [el("b", "c&d"), "e", None, ["f", el("i", "g")]], class_="x>y", title='"', data_n=1.5)

    assert html_of(made) == ('<p class="x&gt;y" title="&quot;" data-n="1.5">a&lt;b<b>c&amp;d</b>ef<i>g</i></p>')


def test_numbers_are_written_as_people_read_them() -> None:
    assert [latency_text(one) for one in (0, 430, 12_340, 999_600, 1_250_000)] == [
        "0 µs",
        "430 µs",
        "12.3 ms",
        "1 s",
        "1.25 s",
    ]
    assert [duration_text(one) for one in (0.5, 3, 42.4, 210, 7_200)] == ["0.5 s", "3 s", "42 s", "3.5 min", "2.0 h"]
    assert short_digest(f"sha256:{'ab' * 32}") == "sha256:abababababab"
    assert short_digest("1.4.2") == "1.4.2"


def test_reports_are_written_side_by_side(tmp_path: Path) -> None:
    run = evidence("slow")

    written = write_reports(
        encode_evidence(run),
        html=tmp_path / "a.html",
        markdown=tmp_path / "a.text",
        junit=tmp_path / "a.xml",
        link="https://ci/1",
    )

    assert [Path(path).name for path in written.paths] == ["a.html", "a.text", "a.xml"]
    assert (tmp_path / "a.html").read_text() == render_page(run, digest=written.digest)
    assert "[report](https://ci/1)" in (tmp_path / "a.text").read_text()
    assert _xml((tmp_path / "a.xml").read_bytes()).tag == "testsuites"
    assert written.verdict == "fail"


def test_what_is_no_evidence_leaves_the_last_report_alone(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text("the last one")

    with pytest.raises(EvidenceError):
        write_reports(b"{}", html=page)
    with pytest.raises(FileError, match="nowhere"):
        write_reports(encode_evidence(evidence("empty")), html=tmp_path / "nowhere" / "a.html")

    assert page.read_text() == "the last one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def _xml(text: bytes) -> Element:
    return fromstring(text)  # noqa: S314  # ours


def _rows(page: str) -> dict[str, str]:
    """Metric → the words of its row."""
    table = page.partition('<table class="metrics">')[2].partition("</table>")[0]
    found = [" ".join(Reader(row).words) for row in table.split("<tr>")[2:]]
    metrics = re.findall(r'<span class="quiet">([a-z]+(?:\.[\w.]+)?)(?:, guard)?</span></th>', table)
    return dict(zip(metrics, found, strict=True))


def _path(drawn: Element) -> str:
    return next(str(one.get("d")) for one in drawn.iter("path"))


def _escaped(run: Evidence) -> list[str]:
    return [html_of(el("p", reason))[3:-4] for reason in run.decision.reasons]
