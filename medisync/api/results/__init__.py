"""What each analysis publishes, as typed models: one module an analysis, a version each.

The shapes are those the analyses really publish; a test runs every analysis and holds its result against its model,
and another one fails when a shape changes and its version does not.
"""

from medisync.api.results.catalogue import MODELS, VERSIONS, as_data, schema_name
from medisync.api.results.parts import AnyResult, ReleasedResult

__all__ = ["MODELS", "VERSIONS", "AnyResult", "ReleasedResult", "as_data", "schema_name"]
