"""Which arm a key or a draw goes to, as numbers; and what `split.toml` may not say."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from slipway_bundle import ConfigError
from slipway_serve.split.assignment import assign, draw
from slipway_serve.split.config import StickyConfig, load_split
from slipway_serve.split.request import Request, Sticky

ARMS = ("stable", "candidate", "third")
WEIGHTS = st.dictionaries(st.sampled_from(ARMS), st.floats(0.01, 100), min_size=2)


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0}, {"a": 90.0, "b": 10.0}, {"a": 5.0, "b": 3.0, "c": 2.0}])
def test_each_arm_has_its_weights_share_of_the_keys(weights: dict[str, float]) -> None:
    counts = Counter(assign(b"user-%d" % number, weights, b"salt") for number in range(20_000))
    expected = [20_000 * weight / sum(weights.values()) for weight in weights.values()]

    assert stats.chisquare([counts[arm] for arm in weights], expected).pvalue > 0.001


@given(key=st.binary(max_size=30), weights=WEIGHTS, factor=st.floats(1.0, 100), data=st.data())
def test_raising_a_weight_moves_keys_only_to_that_arm(
    key: bytes, weights: dict[str, float], factor: float, data: st.DataObject
) -> None:
    raised = data.draw(st.sampled_from(sorted(weights)))

    before = assign(key, weights)
    after = assign(key, {**weights, raised: weights[raised] * factor})

    assert after in {before, raised}


@given(key=st.binary(max_size=30), weights=WEIGHTS)
def test_an_arm_that_is_added_or_emptied_moves_nobody_else(key: bytes, weights: dict[str, float]) -> None:
    before = assign(key, weights)

    assert assign(key, {**weights, "fourth": 1.0}) in {before, "fourth"}
    assert assign(key, {**weights, "fourth": 0.0}) == before


def test_another_salt_assigns_everybody_anew() -> None:
    weights = {"stable": 1.0, "candidate": 1.0}

    moved = sum(assign(b"%d" % n, weights, b"1") != assign(b"%d" % n, weights, b"2") for n in range(4_000))

    assert stats.binomtest(moved, 4_000, 0.5).pvalue > 0.001


@given(chance=st.floats(0, 1, exclude_max=True))
def test_a_draw_falls_into_the_arms_part_of_the_line(chance: float) -> None:
    weights = {"nothing": 0.0, "stable": 3.0, "candidate": 1.0}

    assert draw(chance, weights) == ("stable" if chance < 0.75 else "candidate")


@pytest.mark.parametrize(
    ("sticky", "headers", "body", "key"),
    [
        ({"header": "X-User"}, [(b"x-user", b"u1")], b"", b"u1"),
        ({"header": "X-User"}, [(b"x-user", b"")], b"", None),
        ({"cookie": "sid"}, [(b"cookie", b"theme=dark; sid=abc=; x=1")], b"", b"abc="),
        ({"cookie": "sid"}, [(b"cookie", b"xsid=1")], b"", None),
        ({"field": "customer_id"}, [], b'{"a":1,"customer_id":"c-1"}', b"c-1"),
        ({"field": "customer_id"}, [], b'{"customer_id":17}', b"17"),
        ({"field": "customer_id"}, [], b'{"customer_id":null}', None),
        ({"field": "customer_id"}, [], b'{"customer_id":{"a":1}}', None),
        ({"field": "customer_id"}, [], b"[1, 2", None),
    ],
)
def test_the_key_of_a_request_is_where_the_file_says(
    sticky: dict[str, str], headers: list[tuple[bytes, bytes]], body: bytes, key: bytes | None
) -> None:
    request = Request("POST", "/predict", b"/predict", headers, body, "")

    assert Sticky(StickyConfig(**sticky)).key(request) == key


BOTH = '[arms.stable]\nurl = "http://a:1"\nweight = 1\n[arms.candidate]\nurl = "http://b:1"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[arms]", "length >= 1"),
        ('[arms.a]\nurl = "http://a:1"\nweight = 1', "expected `stable` among them"),
        ('[arms.stable]\nurl = "http://a:1/path"\nweight = 1', "$.arms[...].url"),
        ('[arms.stable]\nurl = "http://a:1"', "all arms have the weight 0"),
        (BOTH + '[sticky]\nheader = "X"\ncookie = "y"', "expected one of header, cookie, field"),
        (BOTH + "[shadow]", "`repeatable` is empty"),
        ('repeatable = ["/p"]\n' + BOTH + '[shadow]\narm = "stable"', "`shadow.arm` is 'stable'"),
        ('repeatable = ["/p"]\n' + BOTH + "weight = 1\n[shadow]", "the arm would be asked and copied to at once"),
        ('repeatable = ["p*q"]\n' + BOTH, "'p*q' is no path"),
        (BOTH + "[thompson]\ngood_ms = 50", "for 1 arms with a weight above 0"),
        (BOTH + "[wndows]", "unknown key `wndows`"),
        ('[arms.stable]\nurl = "http://a:1"\nweight = 1\n[windows]\nfile = "w"', "`windows` compares"),
    ],
)
def test_a_file_that_cannot_be_followed_says_which_key_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "split.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as raised:
        load_split(path)

    assert said in raised.value.message
    assert str(path) in raised.value.message
