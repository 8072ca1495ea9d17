"""A source's file is read strictly, and every error names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from medisync.intake.merging import DeliveryMode
from medisync.intake.sources import SourceError, known_sources, load_source, read_source
from tests.support.running import trial_settings


def described(folder: Path, text: str, name: str = "st-marys") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


class TestReading:
    def test_a_source_without_a_file_has_the_defaults(self, tmp_path: Path) -> None:
        settings = trial_settings(tmp_path)
        settings.make_folders()
        source = load_source(settings, "default")
        assert source.name == "default"
        assert source.mode is DeliveryMode.AUTO
        assert source.mapped == ()
        assert known_sources(settings) == []

    def test_all_that_a_file_may_say(self, tmp_path: Path) -> None:
        source = read_source(
            described(
                tmp_path,
                """
                mode = "snapshot"
                site = "St Mary's"
                time_zone = "Europe/Berlin"
                decimal = ","
                date_order = "day"
                date_formats = "%d.%m.%Y"
                patient_system = "mrn.example.org"
                deleted = { column = "Status", values = ["D"] }
                [columns]
                patient = "MRN"
                admission = ["MRN", "Case"]
                admitted_at = "Admitted"
                condition = "Diagnosis"
                [codes.gender]
                W = "female"
                [thresholds]
                quarantine_share = 0.1
                [reporting]
                every = "day"
                weekdays = ["monday"]
                holidays = ["2024-12-25", 2024-12-26]
                """,
            )
        )
        assert source.mode is DeliveryMode.SNAPSHOT
        (columns,) = source.mapped
        assert columns.used() == {
            "patient": ("MRN",),
            "admission": ("MRN", "Case"),
            "admitted_at": ("Admitted",),
            "condition": ("Diagnosis",),
        }
        assert columns.names() == ("MRN", "Case", "Admitted", "Diagnosis")
        assert [day.isoformat() for day in source.reporting.holidays] == ["2024-12-25", "2024-12-26"]

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ('mode = "sometimes"', "key mode"),
            ("colour = 1", "key colour"),
            ('time_zone = "Mars/Olympus"', "key time_zone"),
            ('name = "other"', "key name"),
            ("mode = ", "is no TOML"),
            ("[columns]\nsite = 'Ward'", "key columns"),
            ("[columns]\npatient = 'A'\ncolour = 'B'", "key columns.colour"),
            ("[columns]\nadmission = 'A'\nadmitted_at = 'B'", "key columns"),
            ("[codes.colour]\na = 'b'", "key codes"),
            ("layout = 'synthea_csv'\n[columns]\npatient = 'A'\nadmitted_at = 'B'", "a known layout or columns"),
            ("date_formats = ['dd.mm.yyyy']", "key date_formats"),
            ("[thresholds]\nquarantine_share = 2", "key thresholds.quarantine_share"),
            ("[reporting]\nholidays = ['someday']", "key reporting.holidays.0"),
        ],
    )
    def test_a_wrong_file_is_named_with_its_key(self, tmp_path: Path, text: str, named: str) -> None:
        with pytest.raises(SourceError, match=r"Source file st-marys\.toml") as caught:
            read_source(described(tmp_path, text))
        assert named in str(caught.value)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "st-marys.toml"
        path.write_bytes(b"site = '\xff'")
        with pytest.raises(SourceError, match="not UTF-8"):
            read_source(path)

    def test_a_file_that_is_called_what_no_source_may_be(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="key name"):
            read_source(described(tmp_path, "", name="St Mary's"))
