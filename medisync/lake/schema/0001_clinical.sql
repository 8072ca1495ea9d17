-- What the hospital knows, de-identified. Only intake writes here.
CREATE SCHEMA clinical;

CREATE TABLE clinical.patients (
    source      VARCHAR NOT NULL,
    patient_key UUID NOT NULL,      -- keyed pseudonym, see docs/privacy.md
    gender      VARCHAR,            -- female, male, other, unknown
    birth_year  SMALLINT,
    blood_type  VARCHAR,
    delivery_id VARCHAR NOT NULL    -- the delivery that last changed the row
);

CREATE TABLE clinical.admissions (
    source           VARCHAR NOT NULL,
    admission_key    UUID NOT NULL,
    patient_key      UUID NOT NULL,
    site             VARCHAR,
    admission_type   VARCHAR,
    admitted_at      TIMESTAMP NOT NULL,
    discharged_at    TIMESTAMP,
    age_years        SMALLINT,
    insurer          VARCHAR,
    billing_amount   DECIMAL(14, 2),
    practitioner_key UUID,
    room             VARCHAR,
    test_result      VARCHAR,
    delivery_id      VARCHAR NOT NULL
);

CREATE TABLE clinical.conditions (
    source        VARCHAR NOT NULL,
    admission_key UUID NOT NULL,
    patient_key   UUID NOT NULL,
    condition     VARCHAR NOT NULL,
    code          VARCHAR,
    code_system   VARCHAR,
    recorded_at   TIMESTAMP,
    delivery_id   VARCHAR NOT NULL
);

CREATE TABLE clinical.prescriptions (
    source        VARCHAR NOT NULL,
    admission_key UUID NOT NULL,
    patient_key   UUID NOT NULL,
    medication    VARCHAR NOT NULL,
    code          VARCHAR,
    code_system   VARCHAR,
    prescribed_at TIMESTAMP,
    delivery_id   VARCHAR NOT NULL
);

-- One row per file that arrived, also for repeats and refusals.
CREATE TABLE clinical.deliveries (
    delivery_id            VARCHAR NOT NULL,
    source                 VARCHAR NOT NULL,
    file_label             VARCHAR,      -- the file's name, unless it could name a patient
    content_hash           VARCHAR,      -- SHA-256 of the file
    layout                 VARCHAR,
    mode                   VARCHAR,      -- upsert, snapshot, append
    status                 VARCHAR NOT NULL, -- loaded, repeat, refused
    reason                 VARCHAR,      -- reason code of a refusal; the first delivery's id of a repeat
    message                VARCHAR,
    rows_read              BIGINT,
    created                BIGINT,
    updated                BIGINT,
    deleted                BIGINT,
    unchanged              BIGINT,
    duplicates_exact       BIGINT,
    duplicates_conflicting BIGINT,
    quarantined            BIGINT,
    admitted_from          DATE,
    admitted_until         DATE,
    received_at            TIMESTAMP,
    finished_at            TIMESTAMP,
    code_version           VARCHAR
);

CREATE TABLE clinical.quarantine (
    delivery_id VARCHAR NOT NULL,
    row_number  BIGINT NOT NULL,         -- line of the file's data, the first one after the header is 1
    column_name VARCHAR,
    reason      VARCHAR NOT NULL         -- reason code, docs/checks.md
);

-- Which delivery last changed each table: the fingerprint by which an analysis knows that its inputs are as before.
CREATE TABLE clinical.table_versions (
    table_name  VARCHAR NOT NULL,
    version     BIGINT NOT NULL,
    delivery_id VARCHAR NOT NULL,
    changed_at  TIMESTAMP NOT NULL
);
