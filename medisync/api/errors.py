"""What the API says when it cannot answer; everything else it answers with the errors of the floors below."""

from __future__ import annotations

from medisync.errors import MediSyncError, UserError


class BadRequestError(UserError):
    """A request's path, query or body does not fit the documentation."""

    code = "bad-request"
    exit_code = 70
    http_status = 422


class UnknownRunError(UserError):
    """No run has this id."""

    code = "unknown-run"
    exit_code = 71
    http_status = 404


class UnknownTaskError(UserError):
    """No task has this id."""

    code = "unknown-task"
    exit_code = 72
    http_status = 404


class NoResultError(UserError):
    """The analysis has no good result yet."""

    code = "no-result"
    exit_code = 73
    http_status = 404


class WithheldError(UserError):
    """The result exists, but not in the form this role may see."""

    code = "withheld"
    exit_code = 74
    http_status = 404


class NoReportError(UserError):
    """The run's report is not kept."""

    code = "no-report"
    exit_code = 75
    http_status = 404


class NoSuchAddressError(UserError):
    """Nothing is served at this address."""

    code = "no-such-address"
    exit_code = 76
    http_status = 404


class MethodNotAllowedError(UserError):
    """The address does not take this method."""

    code = "method-not-allowed"
    exit_code = 77
    http_status = 405


class TooLargeError(UserError):
    """The body is larger than any request of ours."""

    code = "too-large"
    exit_code = 78
    http_status = 413


class OrchestratorAwayError(MediSyncError):
    """The Prefect server does not answer; what is published can still be read."""

    code = "orchestrator-away"
    exit_code = 79
    http_status = 503


class LakeUnreadableError(MediSyncError):
    """The lake cannot be opened or read now."""

    code = "lake-unreadable"
    exit_code = 80
    http_status = 503


class TooManyStreamsError(MediSyncError):
    """This process serves as many open streams as it may."""

    code = "too-many-streams"
    exit_code = 81
    http_status = 503


class TooSlowError(MediSyncError):
    """The answer, or the request's body, was not complete in time."""

    code = "too-slow"
    exit_code = 82
    http_status = 504
