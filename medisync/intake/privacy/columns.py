"""What a column's name says about people. Names are compared without case, spaces and signs."""

from __future__ import annotations

import re

_TEXT = """
name: patientname fullname patientfullname doctor physician practitioner practitionername providername attending
name: attendingphysician doctorname physicianname surgeon nurse nextofkin contactname arzt
first: first firstname given givenname forename vorname prenom
last: last lastname surname family familyname nachname nom
number: ssn socialsecuritynumber drivers driverslicense passport nationalid nhsnumber insurancenumber insuranceid
number: policynumber memberid mrn medicalrecordnumber patientid personid subjectid patientnumber patid
number: personsourcevalue encounter encounterid visitid admissionid casenumber visitoccurrenceid hadmid
number: fallnummer patientennummer versichertennummer
either: patient subject person
phone: phone telephone tel mobile phonenumber mobilenumber fax cell cellphone telefon
email: email emailaddress mail
address: address street streetaddress addressline addressline1 line1 strasse anschrift homeaddress
place: lat lon latitude longitude
birth: birthdate dob dateofbirth birthdatetime birthday geburtsdatum
unused: maiden middle suffix prefix
person-hint: birthdate dob dateofbirth birthdatetime birthday geburtsdatum gender sex age blood bloodtype ssn
person-hint: speciality specialty race
private-hint: birthdate dob dateofbirth birthdatetime birthday geburtsdatum first firstname given givenname forename
private-hint: vorname prenom ssn age race maritalstatus marital
"""


def _read() -> dict[str, frozenset[str]]:
    kinds: dict[str, set[str]] = {}
    for line in _TEXT.strip().splitlines():
        kind, names = line.split(":")
        kinds.setdefault(kind, set()).update(names.split())
    return {kind: frozenset(names) for kind, names in kinds.items()}


KINDS = _read()
"""``name`` whole names, ``either`` a name or a number. A column called Name is a person's beside a ``person-hint``; an
address is a patient's beside a ``private-hint``, else a hospital's."""


def plain_name(column: object) -> str:
    return re.sub(r"[\W_]+", "", str(column).casefold())


def kinds_of(columns: list[str]) -> list[str]:
    """For each column what it holds: a key of KINDS, or ``plain``."""
    names = [plain_name(column) for column in columns]
    known = set(names)
    is_of_persons, is_private = bool(known & KINDS["person-hint"]), bool(known & KINDS["private-hint"])
    is_encounter = "id" in known and bool(known & {"patient", "encounter"})

    def kind(name: str) -> str:
        if name == "name":
            return "name" if is_of_persons else "plain"
        if name == "id":
            return "number" if is_of_persons or is_encounter else "plain"
        for one in ("name", "number", "either", "birth", "email", "first", "last", "unused"):
            if name in KINDS[one]:
                return one
        for one in ("phone", "address", "place"):
            if name in KINDS[one] and is_private:
                return one
        return "plain"

    return [kind(name) for name in names]
