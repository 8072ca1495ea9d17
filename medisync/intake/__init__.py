"""Intake: a file becomes checked, de-identified rows of the lake, or is refused with a reason."""

from medisync.intake.delivery import deliver, ingest
from medisync.intake.report import DeliveryReport, DeliveryStatus

__all__ = ["DeliveryReport", "DeliveryStatus", "deliver", "ingest"]
