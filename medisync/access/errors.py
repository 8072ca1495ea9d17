"""What the gate says to those it does not let in."""

from __future__ import annotations

from medisync.errors import MediSyncError, UserError


class NotAuthenticatedError(UserError):
    """No valid session or token came with the request."""

    code = "not-authenticated"
    exit_code = 40
    http_status = 401


class LoginRefusedError(UserError):
    """Name or password is wrong, or the account is disabled; which of them is not told."""

    code = "login-refused"
    exit_code = 41
    http_status = 401


class TooManyAttemptsError(UserError):
    """Too many failed logins; ``retry_after_seconds`` says how long to wait."""

    code = "too-many-attempts"
    exit_code = 42
    http_status = 429

    def __init__(self, message: str, *, retry_after_seconds: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class ForbiddenError(UserError):
    """The role does not grant it."""

    code = "forbidden"
    exit_code = 43
    http_status = 403


class PasswordMustChangeError(UserError):
    """The one-time password must be replaced before anything else."""

    code = "password-must-change"
    exit_code = 44
    http_status = 403


class CrossSiteError(UserError):
    """A write with the login cookie that does not come from a page of ours."""

    code = "cross-site"
    exit_code = 45
    http_status = 403


class WeakPasswordError(UserError):
    """The new password breaks the rules."""

    code = "weak-password"
    exit_code = 46
    http_status = 422


class UnknownUserError(UserError):
    """No account has this name."""

    code = "unknown-user"
    exit_code = 47
    http_status = 404


class UserExistsError(UserError):
    """An account of this name is there already."""

    code = "user-exists"
    exit_code = 48
    http_status = 409


class LastAdminError(UserError):
    """The change would leave the workspace without an administrator."""

    code = "last-admin"
    exit_code = 49
    http_status = 409


class LedgerAwayError(MediSyncError):
    """The ledger cannot be read or written, so nobody can be let in and nothing can be recorded."""

    code = "ledger-away"
    exit_code = 50
    http_status = 503


class IssuerAwayError(MediSyncError):
    """The external issuer's keys cannot be fetched and none are known yet."""

    code = "issuer-away"
    exit_code = 51
    http_status = 503


class AuditBrokenError(UserError):
    """The audit log was changed, or rows are missing."""

    code = "audit-broken"
    exit_code = 52
    http_status = 503
