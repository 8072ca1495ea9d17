"""Every route against every role and every fault a token can have, made from the application's own routes."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from medisync.access.permissions import GRANTS, Permission, Role
from medisync.api import analytics, comparisons, documentation, packs, runs, service
from medisync.api.application import create
from medisync.api.envelope import leaves
from medisync.settings import Settings
from tests.unit.api.conftest import Door

OWN_RULES = {"open", "logged in", "metrics token"}
"""What a route may ask for in place of a permission; each is decided in one dependency."""

OPEN = {"/api/health", "/api/auth/token", "/api/auth/refresh", "/", "/login", "/logout", "/password"}
"""The addresses that answer visitors who are not logged in. A new one belongs here only after thought."""

ROUTERS = (analytics.router, packs.router, runs.router, comparisons.router, service.router, documentation.router)
IDS = {
    "run_id": "r20240507T101500-1f3a9c",
    "task_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "name": "docs.js",
    "kind": "run",
    "pack": "20240507T101500-0123456789ab",
    "form": "pdf",
}
STREAM = "/api/analytics/stream"


def routes() -> list[APIRoute]:
    return [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def permissions(dependant: Dependant) -> Iterator[str]:
    for one in dependant.dependencies:
        found = getattr(one.call, "permission", None)
        if found is not None:
            yield str(found)
        yield from permissions(one)


def asked_of(route: APIRoute) -> set[str]:
    return set(permissions(route.dependant))


def cases() -> list[tuple[str, str, Permission]]:
    """Method, address and permission of every route that asks for one and answers with data."""
    found = []
    for route in routes():
        for asked in asked_of(route) - OWN_RULES:
            if route.path != "/api/docs":  # a page: it leads to the login
                path = route.path.format(**IDS)
                found += [(method, path, Permission(asked)) for method in sorted(route.methods)]
    return found


CASES = cases()


def test_every_route_of_the_application_asks_for_exactly_one_permission(door: Door) -> None:
    """Of the whole application, with what the gate adds. Whoever adds a route must say who may use it."""
    found = [route for route in leaves(door.served.app.routes) if isinstance(route, APIRoute)]
    assert {route.path for route in routes()} <= {route.path for route in found}
    assert len(CASES) >= 11
    asked = {(route.path, *sorted(route.methods)): asked_of(route) for route in found}
    assert {where: rules for where, rules in asked.items() if len(rules) != 1} == {}
    known = OWN_RULES | {str(one) for one in Permission}
    assert {where: rules for where, rules in asked.items() if not rules <= known} == {}
    assert {route.path.rstrip("/") or "/" for route in found if asked_of(route) == {"open"}} <= OPEN


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("method", "path", "permission"), CASES)
def test_each_route_lets_in_whom_the_table_says(
    door: Door, role: Role, method: str, path: str, permission: Permission
) -> None:
    with door.client.stream(method, path, headers=door.headers(role)) as answer:
        assert (answer.status_code == 403) == (permission not in GRANTS[role])
        assert answer.status_code != 401
        if answer.status_code == 403:
            assert json.loads(answer.read())["error"]["code"] == "forbidden"


@pytest.fixture(scope="module")
def faulty(door: Door) -> dict[str, str]:
    """Tokens that were made from a good one of an administrator, each with one fault."""
    good = door.tokens[Role.ADMIN]
    claims = jwt.decode(good, options={"verify_signature": False})
    head = jwt.get_unverified_header(good)
    own_head = {name: value for name, value in head.items() if name not in ("alg", "typ")}
    past = int((dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).timestamp())

    _, right = door.house.access.keys.signing()

    def signed(key: Ed25519PrivateKey = right, **changes: object) -> str:
        return jwt.encode({**claims, **changes}, key, algorithm="EdDSA", headers=own_head)

    assert door.client.get("/api/deliveries", headers={"Authorization": f"Bearer {signed()}"}).status_code == 200

    none = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({**head, "alg": "none"}, claims)
    )
    body, signature = good.rsplit(".", 1)
    return {
        "another key": signed(Ed25519PrivateKey.generate()),
        "expired": signed(exp=past),
        "wrong audience": signed(aud="elsewhere"),
        "alg none": f"{none}.",
        "changed": f"{body[:-2]}{'AA' if body[-2:] != 'AA' else 'BB'}.{signature}",
        "no signature": f"{body}.",
        "not a token": "Sekretwert",
    }


@pytest.mark.parametrize(
    "fault",
    ["another key", "expired", "wrong audience", "alg none", "changed", "no signature", "not a token", "none"],
)
def test_no_route_lets_in_a_token_with_a_fault(door: Door, faulty: dict[str, str], fault: str) -> None:
    headers = {} if fault == "none" else {"Authorization": f"Bearer {faulty[fault]}"}
    for method, path, _ in CASES:
        answer = door.client.request(method, path, headers=headers)
        assert (method, path, answer.status_code) == (method, path, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["error"]["code"] == "not-authenticated"
        assert "Sekretwert" not in answer.text


def test_the_documentation_page_leads_to_the_login(door: Door) -> None:
    answer = door.client.get("/api/docs", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/api/docs")
    assert door.get("/api/docs/assets/swagger-ui-bundle.js", Role.VIEWER).status_code == 200
    assert door.get("/api/docs/assets/..%2fserver.py", Role.VIEWER).status_code == 404


def test_nothing_in_the_documentation_comes_from_elsewhere(door: Door) -> None:
    page = door.get("/api/docs/", Role.VIEWER)
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_the_quick_way_and_the_usual_one_answer_the_same(door: Door) -> None:
    path = "/api/analytics?type=patient_demographics"
    door.get(path)
    quick = door.get(path)
    usual = door.client.get(path + "&figures=false", headers=door.headers(Role.ANALYST))
    names = set(quick.headers) | set(usual.headers)
    differing = {name for name in names if quick.headers.get(name) != usual.headers.get(name)}
    assert differing <= {"date", "x-request-id"}
    assert quick.content == usual.content
    assert door.client.get(path, headers={"Authorization": "Basic x"}).status_code == 401


def test_every_address_is_documented_with_what_it_can_answer(tmp_path: object) -> None:
    app = create(Settings(data=tmp_path / "data", reports=tmp_path / "reports"))  # type: ignore[operator]
    document = app.openapi()
    assert document["openapi"].startswith("3.0")
    documented = {route.path for route in routes() if route.include_in_schema}
    assert documented <= set(document["paths"])
    for operations in document["paths"].values():
        for operation in operations.values():
            assert {"401", "413", "422", "503", "504"} <= set(operation["responses"])
    for name in ("PatientDemographicsResult", "IllnessSurgePredictionResult", "ReleasedResult"):
        assert name in document["components"]["schemas"]
    app.state.house.reader.close()
