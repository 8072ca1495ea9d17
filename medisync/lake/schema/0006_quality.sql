-- Under how many keys pseudonyms are made, and by which: see medisync.intake.rekeying. One row for each generation.
CREATE TABLE clinical.key_generations (
    generation  INTEGER NOT NULL,     -- 1 is the first key
    fingerprint VARCHAR NOT NULL,     -- tells the keys of this and all earlier generations, and nothing about them
    since       TIMESTAMP NOT NULL
);

-- What was measured of each delivery; no patient's value among it.
CREATE TABLE clinical.quality (
    delivery_id VARCHAR NOT NULL,
    part        VARCHAR,
    column_name VARCHAR,              -- NULL for the whole part or delivery
    measure     VARCHAR NOT NULL,     -- rows, missing_share, median, faults, duplicate_share, delay_days
    value       DOUBLE,
    expected    DOUBLE,               -- from the source's deliveries before; NULL without enough of them
    lowest      DOUBLE,
    highest     DOUBLE,
    reason      VARCHAR               -- reason code, docs/checks.md; NULL for nothing to tell
);

-- Rows of the quarantine that were taken again: the delivery that loaded them.
ALTER TABLE clinical.quarantine ADD COLUMN resolved_by VARCHAR;
-- The delivery whose rows this one took again.
ALTER TABLE clinical.deliveries ADD COLUMN requeue_of VARCHAR;
