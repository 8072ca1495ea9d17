"""Sources: what is known of where files come from, in ``data/sources/<name>.toml``.

A source needs no file: known layouts are recognised by their content. A file says what content cannot: whose site and
time zone it is, which way its dates run, what absent rows mean, or how a table of an unknown layout maps to the lake.
``docs/sources.md`` describes every key.
"""

from __future__ import annotations

import datetime as dt
import tomllib
import zoneinfo
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from medisync.errors import UserError
from medisync.intake.arrival import SOURCE_NAME
from medisync.intake.merging import DeliveryMode
from medisync.settings import Settings

ENDING = ".toml"


class SourceError(UserError):
    """A source's file cannot be used; the message names file and key."""

    code = "bad-source"
    exit_code = 25
    http_status = 422


class DateOrder(StrEnum):
    """Which number of a date such as 03.04.2024 comes first."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Name = Annotated[str, Field(min_length=1, max_length=500)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed)]


class Columns(_Part):
    """Which column of a table says what. A key may be several columns together."""

    patient: Names = ()
    admission: Names = ()
    practitioner: Names = ()
    admitted_at: Name | None = None
    discharged_at: Name | None = None
    age_years: Name | None = None
    birth_date: Name | None = None
    birth_year: Name | None = None
    gender: Name | None = None
    blood_type: Name | None = None
    site: Name | None = None
    admission_type: Name | None = None
    insurer: Name | None = None
    billing_amount: Name | None = None
    room: Name | None = None
    test_result: Name | None = None
    condition: Name | None = None
    condition_code: Name | None = None
    recorded_at: Name | None = None
    medication: Name | None = None
    medication_code: Name | None = None
    prescribed_at: Name | None = None

    @model_validator(mode="after")
    def _is_of_use(self) -> Self:
        if not self.patient and not self.admission:
            raise ValueError("name the column of the patient or of the admission")
        if self.admitted_at and not self.patient:
            raise ValueError("an admission needs the column of its patient")
        if not self.admitted_at and not self.admission and (self.condition or self.medication):
            raise ValueError("conditions and medications need the column of their admission")
        return self

    def used(self) -> dict[str, tuple[str, ...]]:
        """Field -> the columns it is read from, for the fields that are mapped."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: _listed(value) for name, value in values.items() if value}

    def names(self) -> tuple[str, ...]:
        """Every column named here, once."""
        return tuple(dict.fromkeys(name for names in self.used().values() for name in names))


class DeleteMarker(_Part):
    """The column, and the values in it, by which a row says that its record no longer exists."""

    column: Name
    values: Names


class Thresholds(_Part):
    """Limits of this source, where they differ from the workspace's settings."""

    quarantine_share: float | None = Field(default=None, ge=0, le=1)
    full_extract_share: float | None = Field(default=None, gt=0, le=1)
    volume_share: float | None = Field(default=None, ge=0, le=1)
    volume: Literal["tell", "refuse", "off"] = "tell"
    units: Literal["tell", "refuse", "off"] = "tell"
    missing_rise: float | None = Field(default=None, gt=0, le=1)
    duplicate_share: float | None = Field(default=None, ge=0, le=1)
    references: Literal["tell", "refuse"] = "tell"
    unknown_admission_share: float = Field(default=0.0, ge=0, le=1)
    longest_stay_days: int | None = Field(default=None, ge=1)
    oldest_age_years: int | None = Field(default=None, ge=1, le=150)


class Reporting(_Part):
    """When deliveries are expected, in the source's local time."""

    every: Literal["hour", "day", "week", "month"] | None = None
    weekdays: tuple[Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], ...] = ()
    holidays: tuple[dt.date, ...] = ()


CODED_FIELDS = (
    "gender",
    "blood_type",
    "site",
    "admission_type",
    "insurer",
    "test_result",
    "condition",
    "medication",
)
"""Fields whose values a code list may translate."""


class Source(_Part):
    """One source. All fields but the name may be left out."""

    name: str
    layout: str | None = None
    columns: Columns | None = None
    tables: tuple[Columns, ...] = ()

    mode: DeliveryMode = DeliveryMode.AUTO
    deleted: DeleteMarker | None = None
    site: str | None = Field(default=None, min_length=1, max_length=200)
    time_zone: str | None = None
    patient_system: str | None = Field(default=None, min_length=1, max_length=200)
    condition_system: str | None = None
    medication_system: str | None = None

    encoding: Literal["utf-8", "utf-16", "windows-1252", "latin-1"] | None = None
    delimiter: Literal[",", ";", "\t", "|"] | None = None
    sheet: str | None = None
    decimal: Literal[".", ","] | None = None
    date_order: DateOrder | None = None
    date_formats: Names = ()
    missing: Names = ()

    codes: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    thresholds: Thresholds = Thresholds()
    reporting: Reporting = Reporting()

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not SOURCE_NAME.fullmatch(name):
            raise ValueError("a source's name has lower case letters, digits, '-' and '_'")
        return name

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, zone: str | None) -> str | None:
        if zone is not None and zone not in zoneinfo.available_timezones():
            raise ValueError("no such time zone; use a name such as Europe/Berlin")
        return zone

    @field_validator("date_formats")
    @classmethod
    def _are_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for one in formats:
            if "%" not in one:
                raise ValueError("a date format looks like %d.%m.%Y")
        return formats

    @field_validator("codes")
    @classmethod
    def _are_codes(cls, codes: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
        for unknown in sorted(set(codes) - set(CODED_FIELDS)):
            raise ValueError(f"{unknown} has no code list; known: {', '.join(CODED_FIELDS)}")
        return codes

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.columns and self.tables:
            raise ValueError("give [columns] for one table or [[tables]] for several, not both")
        if self.layout and self.mapped:
            raise ValueError("give a known layout or columns, not both")
        if self.deleted and not self.mapped:
            raise ValueError("a delete marker needs mapped columns")
        return self

    @property
    def mapped(self) -> tuple[Columns, ...]:
        """The tables this source maps itself; none when it is of a known layout."""
        return (self.columns,) if self.columns else self.tables


def load_source(settings: Settings, name: str) -> Source:
    """The source ``name``: what its file says, or the defaults when it has none. Raises SourceError."""
    path = settings.sources / f"{name}{ENDING}"
    if not path.exists():
        return Source(name=name)
    return read_source(path)


def read_source(path: Path) -> Source:
    """The source that ``path`` describes; raises SourceError naming file and key."""
    where = f"Source file {path.name}"
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise SourceError(f"{where} cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8 text"
        raise SourceError(f"{where} is no TOML: {reason}.") from None
    if "name" in values:
        raise SourceError(f"{where}, key name: a source is called as its file is; leave the key out.")
    try:
        return Source(name=path.stem, **values)
    except ValidationError as error:
        wrong = "; ".join(
            f"key {_key(one['loc'])}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_url=False)
        )
        raise SourceError(f"{where}, {wrong}.", hint="docs/sources.md lists the keys.") from None


def known_sources(settings: Settings) -> list[str]:
    """Names of the sources that have a file, in order."""
    return sorted(path.stem for path in settings.sources.glob(f"*{ENDING}"))


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(the whole file)"
