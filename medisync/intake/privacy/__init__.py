"""Looking for people: what identifies them in a delivered file, and whether any of it stands where it must not."""

from medisync.intake.privacy.identifiers import IdentifierKind, Identifiers
from medisync.intake.privacy.people import identifiers_of
from medisync.intake.privacy.scan import Finding, ScanReport, scan

__all__ = ["Finding", "IdentifierKind", "Identifiers", "ScanReport", "identifiers_of", "scan"]
