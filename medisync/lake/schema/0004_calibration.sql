-- What the weekly recalibration found: the orders arrivals forecast with, and how every method did over a long past.
-- Only medisync.runs.calibration writes here. clinical.table_versions counts calibrations as table sarima_orders.
CREATE TABLE analytics.sarima_orders (
    calibration_id VARCHAR NOT NULL,
    unique_id      VARCHAR NOT NULL,     -- a site, or all sites
    frequency      VARCHAR NOT NULL,     -- daily, weekly, monthly
    specification  JSON NOT NULL,        -- order, seasonal order, season, harmonics, drift, parameters
    aicc           DOUBLE NOT NULL,
    models_tried   INTEGER NOT NULL,
    periods_known  INTEGER NOT NULL,     -- observations the search saw
    first_period   DATE NOT NULL,
    last_period    DATE NOT NULL,
    snapshot_id    BIGINT NOT NULL,      -- the snapshot it read
    code_version   VARCHAR NOT NULL,
    calibrated_at  TIMESTAMP NOT NULL
);

CREATE TABLE analytics.backtests (
    calibration_id       VARCHAR NOT NULL,
    unique_id            VARCHAR NOT NULL,
    frequency            VARCHAR NOT NULL,
    method               VARCHAR NOT NULL,
    horizon              INTEGER NOT NULL,
    origins              INTEGER NOT NULL,
    is_best              BOOLEAN NOT NULL,
    mean_absolute_error  DOUBLE,
    mase                 DOUBLE,
    skill_mean_percent   DOUBLE,
    p_value              DOUBLE,          -- against the mean
    coverage_80_percent  DOUBLE,          -- of the best method
    snapshot_id          BIGINT NOT NULL,
    calibrated_at        TIMESTAMP NOT NULL
);
