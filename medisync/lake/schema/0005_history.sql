-- Conditions and prescriptions whose admission has not come yet; the delivery that brings it moves them into place.
CREATE TABLE clinical.waiting (
    kind          VARCHAR NOT NULL,     -- conditions, prescriptions
    source        VARCHAR NOT NULL,
    admission_key UUID NOT NULL,
    patient_key   UUID,
    description   VARCHAR NOT NULL,     -- the condition or the medication
    code          VARCHAR,
    code_system   VARCHAR,
    occurred_at   TIMESTAMP,
    delivery_id   VARCHAR NOT NULL
);

-- Versions of rows that a later delivery changed or deleted: what was known before. A row, here and in the table
-- itself, became known with its delivery_id and, here, ceased to be with superseded_by; clinical.deliveries has the
-- times. Expiry of old snapshots leaves these.
CREATE TABLE clinical.superseded_patients (
    source VARCHAR NOT NULL, patient_key UUID NOT NULL, gender VARCHAR, birth_year SMALLINT, blood_type VARCHAR,
    delivery_id VARCHAR NOT NULL, superseded_by VARCHAR NOT NULL
);

CREATE TABLE clinical.superseded_admissions (
    source VARCHAR NOT NULL, admission_key UUID NOT NULL, patient_key UUID NOT NULL, site VARCHAR,
    admission_type VARCHAR, admitted_at TIMESTAMP NOT NULL, discharged_at TIMESTAMP, age_years SMALLINT,
    insurer VARCHAR, billing_amount DECIMAL(14, 2), practitioner_key UUID, room VARCHAR, test_result VARCHAR,
    delivery_id VARCHAR NOT NULL, superseded_by VARCHAR NOT NULL
);

CREATE TABLE clinical.superseded_conditions (
    source VARCHAR NOT NULL, admission_key UUID NOT NULL, patient_key UUID NOT NULL, condition VARCHAR NOT NULL,
    code VARCHAR, code_system VARCHAR, recorded_at TIMESTAMP, delivery_id VARCHAR NOT NULL,
    superseded_by VARCHAR NOT NULL
);

CREATE TABLE clinical.superseded_prescriptions (
    source VARCHAR NOT NULL, admission_key UUID NOT NULL, patient_key UUID NOT NULL, medication VARCHAR NOT NULL,
    code VARCHAR, code_system VARCHAR, prescribed_at TIMESTAMP, delivery_id VARCHAR NOT NULL,
    superseded_by VARCHAR NOT NULL
);
