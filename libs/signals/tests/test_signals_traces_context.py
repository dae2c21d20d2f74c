import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway_signals.traces_context import format_traceparent, join_repeated, parse_context, parse_tracestate
from slipway_signals.traces_record import RequestTrace, headers_out

TRACE = b"0af7651916cd43dd8448eb211c80319c"
SPAN = b"b7ad6b7169203331"
GOOD = b"00-" + TRACE + b"-" + SPAN + b"-01"


def test_what_the_standard_shows_is_read() -> None:
    context = parse_context(GOOD, b"congo=t61rcWkgMzE")

    assert context is not None
    assert (context.trace_id, context.span_id, context.is_sampled) == (int(TRACE, 16), int(SPAN, 16), True)
    assert parse_tracestate(context.state) == (("congo", "t61rcWkgMzE"),)


@pytest.mark.parametrize(("flags", "expected"), [(b"00", False), (b"01", True), (b"02", False), (b"ff", True)])
def test_of_the_flags_only_the_lowest_says_sampled(flags: bytes, expected: bool) -> None:
    context = parse_context(GOOD[:-2] + flags)

    assert context is not None
    assert context.is_sampled is expected


@pytest.mark.parametrize("header", [b"cc" + GOOD[2:], b"01" + GOOD[2:] + b"-what-the-future-will-be-like"])
def test_a_newer_version_is_read_as_far_as_it_is_known(header: bytes) -> None:
    assert parse_context(header) == parse_context(GOOD)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"-01",
        GOOD + b"\n",
        b" " + GOOD,
        b"ff" + GOOD[2:],
        b"01" + GOOD[2:] + b"x",
        GOOD.upper(),
        GOOD.replace(TRACE, TRACE.upper()),
        GOOD.replace(b"-", b"_"),
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"00-" + TRACE[:-1] + b"g-" + SPAN + b"-01",
        b"0x" + GOOD[2:],
        b"01" + GOOD[2:] + b"-" + b"a" * 100_000,
        "００".encode() + GOOD[2:],
    ],
)
def test_what_is_not_exactly_the_standard_is_not_there(header: bytes) -> None:
    assert parse_context(header) is None


@given(st.builds(lambda at, data: GOOD[:at] + data + GOOD[at + len(data) :], st.integers(0, 55), st.binary(max_size=4)))
@example(GOOD)
@example(b"\xff" * 55)
def test_no_header_raises_and_what_is_read_is_written_again(header: bytes) -> None:
    context = parse_context(header, header)

    if context is not None:
        written = format_traceparent(context.trace_id, context.span_id, is_sampled=context.is_sampled).encode()
        assert parse_context(written) is not None
        assert written[3:53] == header[3:53]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a=1,b=2", (("a", "1"), ("b", "2"))),
        (b" a=1 ,\tb=2 , ,", (("a", "1"), ("b", "2"))),
        (b"fw529a3039@dt=FfwAAA,tenant@sys=x y", (("fw529a3039@dt", "FfwAAA"), ("tenant@sys", "x y"))),
        (None, ()),
        (b"", ()),
        (b"a=1,a=2", ()),
        (b"A=1", ()),
        (b"a", ()),
        (b"a=", ()),
        (b"a=1\r\nset-cookie: x", ()),
        (b"a=\xff", ()),
        ("a=é".encode(), ()),
        (b"a=1,B=2", ()),
        (b",".join(b"k%d=%s" % (number, b"v" * 60) for number in range(9)), ()),
        (b"a=" + b"x" * 600, ()),
        (b",".join(b"k%d=v" % number for number in range(33)), ()),
    ],
)
def test_a_tracestate_is_taken_whole_or_not_at_all(raw: bytes | None, expected: tuple[tuple[str, str], ...]) -> None:
    assert parse_tracestate(raw) == expected


@given(st.binary(max_size=600))
def test_no_tracestate_raises(raw: bytes) -> None:
    for key, value in parse_tracestate(raw):
        assert (key + value).isprintable()


def test_the_next_server_gets_our_span_as_parent_and_the_callers_trace_and_state() -> None:
    trace = RequestTrace("/predict", "POST", "/predict", 1.0, parse_context(GOOD, b"a=1,b=2"), True)

    headers = headers_out(trace)

    context = parse_context(headers["traceparent"].encode())
    assert context is not None
    assert (context.trace, context.is_sampled) == (TRACE, True)
    assert context.span != SPAN
    assert context.span_id == trace.own_span
    assert headers["tracestate"] == "a=1,b=2"


def test_the_next_server_is_told_that_a_request_is_not_sampled_and_hears_no_broken_state() -> None:
    trace = RequestTrace("/predict", "POST", "/predict", 1.0, parse_context(GOOD[:-1] + b"0", b"a=1\r\nb: 2"), False)

    headers = headers_out(trace)

    assert headers["traceparent"].endswith("-00")
    assert list(headers) == ["traceparent"]
    assert headers_out(None) == {}


def test_ids_are_drawn_once_and_never_zero() -> None:
    traces = [RequestTrace("/p", "POST", "/p", 1.0, None, False) for _ in range(1_000)]

    ids = {trace.ids() for trace in traces}

    assert ids == {trace.ids() for trace in traces}
    assert len({trace for trace, _ in ids}) == len({span for _, span in ids}) == 1_000
    assert all(0 < trace < 2**128 and 0 < span < 2**64 for trace, span in ids)


def test_a_second_traceparent_makes_both_none_and_a_second_tracestate_goes_on() -> None:
    again = GOOD.replace(SPAN, b"1" * 16)
    pairs = [(b"traceparent", GOOD), (b"tracestate", b"a=1"), (b"accept", b"*/*"), (b"tracestate", b"b=2,c=3")]
    once, twice = dict(pairs), dict([*pairs, (b"traceparent", again)])

    join_repeated(once, pairs)
    join_repeated(twice, [*pairs, (b"traceparent", again)])

    assert once == {b"traceparent": GOOD, b"tracestate": b"a=1,b=2,c=3", b"accept": b"*/*"}
    assert b"traceparent" not in twice
