"""``/api/health`` and ``/metrics``."""

from __future__ import annotations

import hmac
import ipaddress

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from medisync.access.auth_routes import OPEN
from medisync.access.errors import ForbiddenError
from medisync.access.gate import authenticate
from medisync.access.permissions import Permission
from medisync.api import metrics
from medisync.api.envelope import Answer, failures
from medisync.api.health import Health, Overall
from medisync.api.house import house_of
from medisync.errors import MediSyncError

router = APIRouter()

PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip")


async def scraper(request: Request) -> None:
    """Lets in a program on this machine (not through a proxy), one with the metrics token, and roles that may."""
    if _is_local(request):
        return
    given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if given and hmac.compare_digest(given.encode(), metrics.token(house_of(request).settings).encode()):
        return
    principal = await authenticate(request)
    if not principal.may(Permission.READ_METRICS):
        raise ForbiddenError(f"The role {principal.role.value} does not allow {Permission.READ_METRICS.value}.")


scraper.permission = "metrics token"  # type: ignore[attr-defined]


@router.get(
    "/api/health",
    dependencies=OPEN,
    tags=["service"],
    responses={503: {"model": Answer[Health], "description": "No result can be served"}, **failures(504)},
)
async def health(request: Request, response: Response) -> Answer[Health]:
    """How the service is; for those who are signed in, how each part is and since when."""
    report = house_of(request).monitor.report(details=await _is_signed_in(request))
    if report.status is Overall.DOWN:
        response.status_code = 503
    return Answer(message=SAYS[report.status], data=report)


@router.get("/metrics", include_in_schema=False, dependencies=[Depends(scraper)])
async def figures() -> Response:
    """Figures about the service, for Prometheus."""
    body, media_type = metrics.text()
    return Response(body, headers={"Content-Type": media_type})


SAYS = {
    Overall.OK: "Everything is up.",
    Overall.DEGRADED: "Something is away; results are served.",
    Overall.DOWN: "No result can be served.",
}


async def _is_signed_in(request: Request) -> bool:
    if "authorization" not in request.headers and "cookie" not in request.headers:
        return False
    try:
        return (await authenticate(request)).may(Permission.READ_RESULTS)
    except MediSyncError:
        return False


def _is_local(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in PROXY_HEADERS):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
