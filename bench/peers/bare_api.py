"""The peer of ``bench.api``: one bare FastAPI route that returns the same bytes, under the same uvicorn settings."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
BODY = Path(os.environ["BENCH_BODY"]).read_bytes() if "BENCH_BODY" in os.environ else b"{}"


@app.get("/api/analytics/")
async def latest() -> Response:
    return Response(BODY, media_type="application/json")
