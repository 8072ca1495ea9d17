"""Readmissions."""

from __future__ import annotations

from medisync.api.results.parts import Count, Number, Part, ResultOf, TableOf, Text

VERSION = 1


class ReadmissionsMetrics(Part):
    """The numbers of the headline and around it."""

    stays_count: Count = None
    index_stays_count: Count = None
    readmitted_count: Count = None
    no_discharge_count: Count = None
    transfers_count: Count = None
    too_recent_count: Count = None
    rate_percent: Number = None
    low_percent: Number = None
    high_percent: Number = None


class ReadmissionsRow(Part):
    """Stays that could be followed, those followed by another, and whether the rate is beyond chance."""

    unit: Text
    index_stays: Count
    readmitted: Count
    rate_percent: Number
    low_percent: Number
    high_percent: Number
    z: Number
    p_adjusted: Number
    verdict: Text


class ReadmissionsTables(Part):
    """The data behind headline and figures."""

    sites: TableOf[ReadmissionsRow] | None = None
    conditions: TableOf[ReadmissionsRow] | None = None


class ReadmissionsResult(ResultOf[ReadmissionsMetrics, ReadmissionsTables]):
    """Readmissions, version 1."""
