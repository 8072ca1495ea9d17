"""The lake: every table MediSync keeps, as snapshots that can be opened again."""

from medisync.lake.lake import Lake, Snapshot

__all__ = ["Lake", "Snapshot"]
