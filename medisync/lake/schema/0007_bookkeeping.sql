-- Deliveries and quarantine once more, with all their columns from the beginning: so their rows may stay in the catalog
-- until clean-up (BOOKKEEPING in __init__.py). Added columns kept them out of it, which made a file of each delivery's
-- row, and of a thousand deliveries a thousand files to read for every list of the last ones. They are spelled out again
-- since DuckLake cannot say NOT NULL of a copy.
ALTER TABLE clinical.deliveries RENAME TO former_deliveries;

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
    code_version           VARCHAR,
    requeue_of             VARCHAR       -- the delivery whose rows this one took again
);

INSERT INTO clinical.deliveries BY NAME FROM clinical.former_deliveries;
DROP TABLE clinical.former_deliveries;

ALTER TABLE clinical.quarantine RENAME TO former_quarantine;

CREATE TABLE clinical.quarantine (
    delivery_id VARCHAR NOT NULL,
    row_number  BIGINT NOT NULL,         -- line of the part's data, the first one after the header is 1
    column_name VARCHAR,
    reason      VARCHAR NOT NULL,        -- reason code, docs/checks.md
    part        VARCHAR,                 -- the file or sheet, where a delivery consists of several
    resolved_by VARCHAR                  -- the delivery that loaded the row, once it was taken again
);

INSERT INTO clinical.quarantine BY NAME FROM clinical.former_quarantine;
DROP TABLE clinical.former_quarantine;
