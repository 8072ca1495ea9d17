-- Admissions have keys of another kind from here on (OTHER_KEYS_BEFORE in __init__.py): what the lake says of them itself.
COMMENT ON COLUMN clinical.admissions.admission_key IS
    'Keyed MD5 of what makes two admissions of a source the same one, its bytes reversed; see docs/privacy.md';
COMMENT ON COLUMN clinical.admissions.patient_key IS
    'First half of a keyed SHA-256 of what makes two patients the same one; see docs/privacy.md';
