"""Tokens for programs: ``/api/auth/token``, ``/refresh``, ``/logout``, ``/password`` and who one is, ``/me``."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from medisync.access.gate import access_of, authenticate, require_own_page, where
from medisync.access.permissions import GRANTS, Permission, Role
from medisync.access.principal import Audience, Method, Principal
from medisync.access.service import TokenPair

auth_router = APIRouter(prefix="/api/auth", tags=["auth"])


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Credentials(_Strict):
    """A name and a password."""

    username: str = Field(min_length=1, max_length=256)
    password: str = Field(min_length=1, max_length=256)


class RefreshRequest(_Strict):
    refresh_token: str = Field(min_length=1, max_length=256)


class PasswordChange(_Strict):
    old_password: str = Field(min_length=1, max_length=256)
    new_password: str = Field(min_length=1, max_length=256)


class TokenData(BaseModel):
    """``refresh_token`` works once, for the next pair; one that comes a second time ends the session."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the kind, no secret
    expires_in_seconds: int
    username: str
    role: Role
    must_change_password: bool


class Visitor(BaseModel):
    """Who the caller is, and what the caller may do."""

    username: str
    role: Role
    method: Method
    audience: Audience
    must_change_password: bool
    permissions: list[Permission]


class Nothing(BaseModel):
    """No data."""


class TokenAnswer(BaseModel):
    success: Literal[True] = True
    message: str
    data: TokenData


class VisitorAnswer(BaseModel):
    success: Literal[True] = True
    message: str
    data: Visitor


class DoneAnswer(BaseModel):
    success: Literal[True] = True
    message: str
    data: Nothing = Nothing()


async def somebody(request: Request) -> Principal:
    """Anybody who is logged in, also before the one-time password is changed; writes with a cookie need the token."""
    principal = await authenticate(request)
    if principal.method == "cookie" and request.method not in ("GET", "HEAD"):
        require_own_page(request, principal)
    return principal


somebody.permission = "logged in"  # type: ignore[attr-defined]


def nobody() -> None:
    """For routes that are there to log in: open to everybody on purpose."""


nobody.permission = "open"  # type: ignore[attr-defined]

Anybody = Annotated[Principal, Depends(somebody)]
OPEN = [Depends(nobody)]


@auth_router.post("/token", dependencies=OPEN)
@auth_router.post("/token/", dependencies=OPEN, include_in_schema=False)
def token(request: Request, credentials: Credentials) -> TokenAnswer:
    """Log in with name and password; wrong ones are slowed down with a growing delay (429)."""
    pair = access_of(request).log_in_program(credentials.username, credentials.password, where=where(request))
    return TokenAnswer(message="Logged in.", data=_token_data(pair))


@auth_router.post("/refresh", dependencies=OPEN)
@auth_router.post("/refresh/", dependencies=OPEN, include_in_schema=False)
def refresh(request: Request, body: RefreshRequest) -> TokenAnswer:
    """Exchange the refresh token for the next pair."""
    pair = access_of(request).refresh(body.refresh_token, where=where(request))
    return TokenAnswer(message="Refreshed.", data=_token_data(pair))


@auth_router.post("/logout")
@auth_router.post("/logout/", include_in_schema=False)
def logout(request: Request, principal: Anybody) -> DoneAnswer:
    """End the session; its access and refresh tokens, and its cookie, are worth nothing from now on."""
    access_of(request).log_out(principal, where=where(request))
    return DoneAnswer(message="Logged out.")


@auth_router.post("/password")
@auth_router.post("/password/", include_in_schema=False)
def password(request: Request, principal: Anybody, body: PasswordChange) -> DoneAnswer:
    """Change one's own password; all other sessions of the account end."""
    access_of(request).change_password(principal, body.old_password, body.new_password, where=where(request))
    return DoneAnswer(message="The password is changed; other sessions of this account have ended.")


@auth_router.get("/me")
@auth_router.get("/me/", include_in_schema=False)
def me(principal: Anybody) -> VisitorAnswer:
    """Who is asking."""
    visitor = Visitor(
        username=principal.name,
        role=principal.role,
        method=principal.method,
        audience=principal.audience,
        must_change_password=principal.must_change_password,
        permissions=sorted(one for one in GRANTS[principal.role] if principal.may(one)),
    )
    return VisitorAnswer(message=f"{principal.name}, {principal.role.value}.", data=visitor)


def _token_data(pair: TokenPair) -> TokenData:
    return TokenData(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        expires_in_seconds=pair.expires_in_seconds,
        username=pair.principal.name,
        role=pair.principal.role,
        must_change_password=pair.principal.must_change_password,
    )
