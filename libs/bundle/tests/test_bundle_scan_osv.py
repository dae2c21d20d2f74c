"""Which versions an OSV record means, and what it says about them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from scan_samples import CRITICAL, MEDIUM, record

from slipway_bundle.scan.osv import OsvRecord, match
from slipway_bundle.scan.vulnerability import Vulnerability, merge, rating, severity_of


def found(item: dict[str, object], installed: str = "2.0.1", name: str = "numpy") -> list[Vulnerability]:
    return match(msgspec.convert(item, OsvRecord), {name: (installed,)})


@pytest.mark.parametrize(
    ("events", "version", "is_affected"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], "1.9", True),
        ([{"introduced": "0"}, {"fixed": "2.0"}], "2.0", False),
        ([{"introduced": "0"}, {"fixed": "2.0"}], "2.0rc1", True),
        ([{"introduced": "0"}], "99", True),
        ([{"introduced": "1.5"}, {"fixed": "2.0"}], "1.4.9", False),
        ([{"introduced": "1.5"}, {"fixed": "2.0"}], "1.5", True),
        ([{"introduced": "1.5"}, {"last_affected": "2.0"}], "2.0", True),
        ([{"introduced": "1.5"}, {"last_affected": "2.0"}], "2.0.1", False),
        ([{"introduced": "1.0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"fixed": "2.3"}], "1.5", False),
        ([{"introduced": "1.0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"fixed": "2.3"}], "2.2", True),
        ([{"fixed": "2.3"}, {"introduced": "2.0"}, {"fixed": "1.2"}, {"introduced": "1.0"}], "2.2", True),
        ([{"introduced": "0"}, {"limit": "2.0"}], "1.0", True),
        ([{"introduced": "0"}, {"limit": "2.0"}], "2.0", False),
        ([{"introduced": "0"}, {"limit": "*"}], "2.0", True),
        ([{"fixed": "2.0"}], "1.0", True),
        ([{"introduced": "0"}, {"fixed": "2.0"}], "1!0.1", False),
    ],
)
def test_a_version_is_in_a_range_as_the_specification_evaluates_it(
    events: list[dict[str, str]], version: str, is_affected: bool
) -> None:
    assert bool(found(record(events=events), version)) is is_affected


VERSIONS = st.builds("{}.{}{}".format, st.integers(0, 4), st.integers(0, 4), st.sampled_from(["", "", "rc1", ".post1"]))


@given(
    ends=st.lists(VERSIONS, min_size=2, max_size=6, unique_by=Version).map(lambda each: sorted(each, key=Version)),
    version=VERSIONS,
    order=st.randoms(),
)
def test_ranges_agree_with_another_evaluation_of_versions(ends: list[str], version: str, order: object) -> None:
    """`packaging`'s comparison operators are the witness, one specifier for each pair of events."""
    pairs = list(zip(ends[::2], ends[1::2], strict=False))
    events = [{"introduced": low} for low, _ in pairs] + [{"fixed": high} for _, high in pairs]
    order.shuffle(events)  # type: ignore[attr-defined]  # hypothesis gives a random.Random

    expected = any(Version(low) <= Version(version) < Version(high) for low, high in pairs)

    assert bool(found(record(events=events), version)) is expected


def test_a_list_of_versions_counts_beside_the_ranges() -> None:
    item = record(ranges=[], versions=["2.0.1", "2.0.2"])

    assert found(item, "2.0.1")
    assert found(item, "2.0.1.0")
    assert not found(item, "2.0.3")


def test_a_local_version_is_the_version_that_the_database_knows() -> None:
    """`2.0+cpu` sorts after 2.0 and would slip out of `last_affected`."""
    assert found(record(events=[{"introduced": "0"}, {"last_affected": "2.0"}]), "2.0+cpu")
    assert not found(record(events=[{"introduced": "0"}, {"fixed": "2.0"}]), "2.0+cpu")
    assert found(record(ranges=[], versions=["2.0"]), "2.0+cpu")


def test_what_cannot_be_compared_counts_as_affected() -> None:
    strange = [{"introduced": "0"}, {"fixed": "r2031-stable"}]

    assert found(record(events=strange), "2.0.1")
    assert found(record(), "unknown-version")


def test_a_list_of_versions_decides_where_a_range_cannot_be_compared() -> None:
    strange = [{"introduced": "0"}, {"fixed": "r2031-stable"}]

    assert not found(record(events=strange, versions=["1.0"]), "2.0.1")


def test_names_are_compared_as_an_installer_does() -> None:
    assert found(record(name="Num_Py"), name="num-py")
    assert not found(record(name="numpy-extra"))


def test_other_ecosystems_and_commits_are_passed_over() -> None:
    other = record()
    other["affected"][0]["package"]["ecosystem"] = "npm"
    commits = record(ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}])

    assert not found(other)
    assert not found(commits)


def test_a_withdrawn_record_says_nothing() -> None:
    assert not found(record(withdrawn="2031-05-18T00:00:00Z"))


def test_the_fixed_version_is_the_lowest_later_one() -> None:
    events = [{"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"fixed": "2.3"}, {"introduced": "3.0"}]

    assert found(record(events=[*events, {"fixed": "3.1"}]), "2.1")[0].fixed == "2.3"
    assert found(record(events=[{"introduced": "0"}]), "2.1")[0].fixed is None


def test_severity_is_the_highest_vector_of_the_newest_kind() -> None:
    assert severity_of([MEDIUM, CRITICAL]) == ("critical", 9.8)
    assert severity_of(["AV:N/AC:L/Au:N/C:C/I:C/A:C", MEDIUM]) == ("medium", 6.1)
    assert severity_of(["AV:N/AC:L/Au:N/C:C/I:C/A:C"]) == ("critical", 10.0)
    assert severity_of(["CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"])[0] == "critical"


def test_the_databases_word_counts_where_there_is_no_vector() -> None:
    assert severity_of([], "MODERATE") == ("medium", None)
    assert severity_of(["no vector"], "High") == ("high", None)
    assert found(record(vector=None, database_specific={"severity": "LOW"}))[0].severity == "low"


def test_an_unknown_severity_stays_unknown() -> None:
    assert severity_of([], None) == ("unknown", None)
    assert severity_of(["nan", "1e999"], "dreadful") == ("unknown", None)
    assert found(record(vector=None))[0].severity == "unknown"


def test_ratings_change_at_their_limits() -> None:
    assert [rating(score) for score in (0.0, 0.1, 3.9, 4.0, 6.9, 7.0, 8.9, 9.0, 10.0)] == [
        "none", "low", "low", "medium", "medium", "high", "high", "critical", "critical",
    ]  # fmt: skip


def test_a_malicious_package_is_critical_without_a_vector() -> None:
    assert found(record("MAL-2031-77", vector=None, aliases=[]))[0].severity == "critical"


def test_names_of_one_vulnerability_become_one_entry() -> None:
    """Two databases that do not name each other meet in the third."""
    items = [
        *found(record("GHSA-wxyz-2345-6789", aliases=[], vector=MEDIUM)),
        *found(record("PYSEC-2031-5", aliases=[], vector=None, events=[{"introduced": "0"}, {"fixed": "9.1"}])),
        *found(record("CVE-2031-1001", aliases=["PYSEC-2031-5", "GHSA-wxyz-2345-6789"], vector=CRITICAL)),
    ]

    (one,) = merge(items)

    assert one.id == "CVE-2031-1001"
    assert one.aliases == ("GHSA-wxyz-2345-6789", "PYSEC-2031-5")
    assert (one.severity, one.score, one.fixed) == ("critical", 9.8, "9.1")


def test_one_vulnerability_of_two_packages_stays_two_entries() -> None:
    both = [*found(record()), *found(record(name="scipy"), name="scipy")]

    assert [item.package for item in merge(both)] == ["numpy", "scipy"]


@given(order=st.permutations(range(6)))
def test_merging_does_not_depend_on_the_order(order: list[int]) -> None:
    pairs = [("A-1", "A-2"), ("A-2", "A-3"), ("A-4", "A-5"), ("A-5", "A-1"), ("B-1", "B-2"), ("B-3", "B-2")]
    items = [found(record(one, aliases=[other]))[0] for one, other in pairs]

    merged = merge(items[place] for place in order)

    assert [sorted(item.names) for item in merged] == [["A-1", "A-2", "A-3", "A-4", "A-5"], ["B-1", "B-2", "B-3"]]
