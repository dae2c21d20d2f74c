"""The errors of scanning; the rest of the tree is in `slipway_bundle.errors`.

UsageError
└── ReportSubjectError     report_subject     the report is about another image
IntegrityError
├── ReportInvalidError     report_invalid     a report or a record that cannot be read, or is of no known kind
└── OsvDataError           osv_data_invalid   OSV data that is damaged, or that holds nothing about Python packages
HostError
└── FeedError              feed_unreachable   a feed that did not answer, or answered something else
"""

from slipway_bundle.errors import HostError, IntegrityError, UsageError

__all__ = ["FeedError", "OsvDataError", "ReportInvalidError", "ReportSubjectError"]


class ReportSubjectError(UsageError):
    """The report names the image that was scanned, and it is not this bundle."""

    code = "report_subject"


class ReportInvalidError(IntegrityError):
    """A scanner's report is too long, no strict JSON, of no known kind, or without what a verdict needs."""

    code = "report_invalid"


class OsvDataError(IntegrityError):
    """OSV data that cannot be read, or that says nothing about Python packages: not the same as no vulnerability."""

    code = "osv_data_invalid"


class FeedError(HostError):
    """A feed did not answer, or with something else than an export."""

    code = "feed_unreachable"
