"""The errors MediSync raises, each with a stable code.

Every error a user can cause derives from :class:`UserError`; it is shown without a traceback and never carries a
patient's value. ``code`` is stable and has a section in ``docs/errors.md``; ``exit_code`` is what the command line
returns and ``http_status`` what the API answers.
"""

from __future__ import annotations


class MediSyncError(Exception):
    """Base of all errors raised on purpose by this package."""

    code: str = "internal"
    exit_code: int = 1
    http_status: int = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UserError(MediSyncError):
    """Something the person in front of the screen can mend."""

    code = "user-error"
    exit_code = 2
    http_status = 400


class SettingsError(UserError):
    """A setting has a value that cannot be used."""

    code = "settings"
    exit_code = 3


class UnknownAnalysisError(UserError):
    """No notebook declares an analysis of this name."""

    code = "unknown-analysis"
    exit_code = 4
    http_status = 404


class ParameterError(UserError):
    """A parameter is unknown or its value is out of range."""

    code = "bad-parameter"
    exit_code = 5
    http_status = 422


class SeriesError(UserError):
    """A time series breaks the column contract of :mod:`medisync.stats`."""

    code = "bad-series"
    exit_code = 6
    http_status = 422


class NoDataError(UserError):
    """There is nothing to analyse yet."""

    code = "no-data"
    exit_code = 7
    http_status = 404


class DeliveryRefusedError(UserError):
    """A delivered file was refused whole; ``reason`` is the reason code of the check that refused it."""

    code = "delivery-refused"
    exit_code = 8
    http_status = 422

    def __init__(self, message: str, *, reason: str, column: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.column = column


class LakeVersionError(UserError):
    """The lake was written by a newer MediSync."""

    code = "lake-too-new"
    exit_code = 9
    http_status = 503


class LakeTooOldError(UserError):
    """The lake holds what this MediSync cannot go on with."""

    code = "lake-too-old"
    exit_code = 20
    http_status = 503


class LockBusyError(MediSyncError):
    """A lock was not free in time."""

    code = "lock-busy"
    exit_code = 90
    http_status = 503


class LakeBusyError(LockBusyError):
    """The write lock was not free in time."""

    code = "lake-busy"
    exit_code = 10
    http_status = 503


class RunFailedError(MediSyncError):
    """A notebook failed; ``run_id`` names the run whose record says why."""

    code = "run-failed"
    exit_code = 11

    def __init__(self, message: str, *, run_id: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.run_id = run_id


class PortTakenError(UserError):
    """Another program listens on a port this workspace needs."""

    code = "port-taken"
    exit_code = 12


class NotRunningError(UserError):
    """The workspace, or the part of it that was asked, is not running."""

    code = "not-running"
    exit_code = 13
    http_status = 503


class AlreadyRunningError(UserError):
    """This workspace is running already."""

    code = "already-running"
    exit_code = 14


class DatabaseAwayError(MediSyncError):
    """The server profile's database cannot be reached, or a connection to it broke."""

    code = "database-away"
    exit_code = 91
    http_status = 503


class WrongProfileError(UserError):
    """The workspace's data lie in the other kind of database than the settings say."""

    code = "wrong-profile"
    exit_code = 92
    http_status = 409
