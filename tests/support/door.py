"""The API door's gate in this process, asked over HTTP without a network, and a clock that can be set."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Annotated, Any, Self

import httpx
from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

from medisync.access import gate
from medisync.access.permissions import Permission
from medisync.access.principal import Principal
from medisync.access.service import Access
from medisync.errors import MediSyncError

Analyst = Annotated[Principal, Depends(gate.require(Permission.TRIGGER))]


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = dt.datetime.fromisoformat("2026-03-01T12:00:00")

    def __call__(self) -> dt.datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += dt.timedelta(**by)


def application(access: Access) -> FastAPI:
    """The gate with its own routes, and two routes of our own that ask for a permission."""
    app = FastAPI(openapi_url=None)
    gate.install(app, access)

    @app.get("/runs")
    async def look(principal: Analyst) -> str:
        return principal.name

    @app.post("/runs")
    async def start(principal: Analyst) -> str:
        return principal.name

    @app.exception_handler(MediSyncError)
    async def tell(_: Request, error: MediSyncError) -> JSONResponse:
        told = {"code": error.code, "message": str(error)}
        return JSONResponse(told, status_code=error.http_status, headers=gate.error_headers(error))

    return app


class Door:
    """A client of :func:`application`; it keeps cookies as a browser does."""

    def __init__(self, access: Access, address: str = "10.1.2.3") -> None:
        self.access = access
        self._runner = asyncio.Runner()
        base = access.settings.api_url.rstrip("/")
        transport = httpx.ASGITransport(application(access), client=(address, 40_000))
        self._client = httpx.AsyncClient(transport=transport, base_url=base)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    @property
    def cookies(self) -> httpx.Cookies:
        return self._client.cookies

    @property
    def csrf(self) -> str:
        """The CSRF cookie as a script of ours would read it."""
        return str(self.cookies[gate.csrf_cookie(self.access.settings)])

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.post(path, **options))

    def log_in(self, name: str, password: str, **fields: str) -> httpx.Response:
        """Open the form and send it."""
        self.get("/login")
        return self.post("/login", data={"username": name, "password": password, "csrf": self.csrf, **fields})

    def tokens(self, name: str, password: str) -> dict[str, Any]:
        answer = self.post("/api/auth/token", json={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
