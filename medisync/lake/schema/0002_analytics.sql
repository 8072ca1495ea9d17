-- What the analyses found. Only flows write here, through medisync.runs.
CREATE SCHEMA analytics;

CREATE TABLE analytics.runs (
    run_id         VARCHAR NOT NULL,
    analysis       VARCHAR NOT NULL,
    status         VARCHAR NOT NULL,     -- completed, failed
    run_key        VARCHAR NOT NULL,     -- hash of everything a result depends on
    snapshot_id    BIGINT NOT NULL,      -- the snapshot it read
    parameters     JSON NOT NULL,
    parameters_hash VARCHAR NOT NULL,
    notebook_hash  VARCHAR NOT NULL,
    code_version   VARCHAR NOT NULL,
    headline       VARCHAR,
    error_code     VARCHAR,
    error_message  VARCHAR,
    started_at     TIMESTAMP NOT NULL,
    finished_at    TIMESTAMP NOT NULL,
    seconds        DOUBLE NOT NULL,
    record         JSON NOT NULL         -- the whole run record
);

CREATE TABLE analytics.results (
    run_id   VARCHAR NOT NULL,
    analysis VARCHAR NOT NULL,
    audience VARCHAR NOT NULL,           -- full, released
    document JSON NOT NULL
);

-- Typed rows, so that yesterday's forecast can be scored against today's truth.
CREATE TABLE analytics.forecasts (
    run_id     VARCHAR NOT NULL,
    unique_id  VARCHAR NOT NULL,
    frequency  VARCHAR NOT NULL,
    method     VARCHAR NOT NULL,
    origin     DATE NOT NULL,            -- last period the forecast knew
    ds         DATE NOT NULL,            -- first day of the period forecast
    quantile   DOUBLE NOT NULL,
    value      DOUBLE NOT NULL
);

CREATE TABLE analytics.surges (
    run_id           VARCHAR NOT NULL,
    unique_id        VARCHAR NOT NULL,
    ds               DATE NOT NULL,
    observed         DOUBLE,
    expected         DOUBLE,
    threshold        DOUBLE,
    p_value          DOUBLE,
    adjusted_p_value DOUBLE,
    state            VARCHAR NOT NULL
);
