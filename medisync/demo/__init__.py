"""Made-up deliveries whose truth is known: what was planted can be looked for."""

from medisync.demo.delivery import write_demo_data
from medisync.demo.truth import DemoTruth

__all__ = ["DemoTruth", "write_demo_data"]
