"""Recalibration: the slow search for SARIMA orders and long backtests, weekly, so that arrivals need neither.

For all sites together and each large site, by frequency, the series that ``patient_volume_prediction`` forecasts are
read from one pinned snapshot; what follows needs no lake, so that it may happen anywhere. The long backtest searches an
order of its own on what was known before its first origin, so that its scores have not seen their future; the order
that is stored is searched on everything. Orders and scores go into the lake in one transaction; when an order has
changed, ``clinical.table_versions`` counts it as a new version of the table ``sarima_orders``, and the analyses that
read it run again.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medisync import __version__
from medisync.errors import NoDataError
from medisync.lake import Lake, Snapshot

if TYPE_CHECKING:
    import duckdb

    from medisync.stats.forecasting import Forecast
    from medisync.stats.sarima import SarimaOrder
    from medisync.stats.series import Frequency, Panel

FREQUENCIES: tuple[Frequency, ...] = ("weekly", "monthly", "daily")
HORIZON = {"daily": 28, "weekly": 8, "monthly": 6}
"""Periods ahead that are scored."""
LONG_ORIGINS = {"daily": 182, "weekly": 104, "monthly": 48}
"""Origins of a long backtest, twice those of an arrival or more."""
SITE_ADMISSIONS_A_WEEK = 20.0
MOST_SITES = 8
VERSIONED_AS = "sarima_orders"


@dataclass(frozen=True)
class UncalibratedSeries:
    """One series as it was read, and how many models its search may try: all that :func:`calibrated` needs."""

    panel: Panel
    most_models: int


@dataclass(frozen=True)
class CalibratedSeries:
    """One series: the order found (None: too short, or no model converged) and how each method did."""

    unique_id: str
    frequency: str
    first_period: dt.date
    last_period: dt.date
    periods_known: int
    order: SarimaOrder | None
    best_method: str
    origins: int
    scores: tuple[dict[str, Any], ...]

    def sentence(self) -> str:
        """What was found, in one line."""
        model = "no model" if self.order is None else f"SARIMA {self.order.order}{self.order.seasonal}"
        by_method = {one["method"]: one["mase"] for one in self.scores}
        best, mean = by_method.get(self.best_method), by_method.get("mean")
        errors = "" if best is None or mean is None else f" (MASE {best:.3f}, the mean's {mean:.3f})"
        return (
            f"{self.unique_id}, {self.frequency}: {model}; best of {len(self.scores)} methods from {self.origins} past "
            f"origins: {self.best_method}{errors}"
        )


OnEach = Callable[[Sequence[UncalibratedSeries]], Iterable[CalibratedSeries]]
"""Calibrates each of the series, here or elsewhere, and gives them back in their order."""


@dataclass(frozen=True)
class CalibrationReport:
    """What a recalibration did. ``changed``: whether an order differs from the one stored before."""

    calibration_id: str
    snapshot_id: int
    series: tuple[CalibratedSeries, ...]
    changed: bool

    def sentence(self) -> str:
        found = sum(one.order is not None for one in self.series)
        news = "changed: analyses that use them run again" if self.changed else "as before"
        return f"{found} orders found for {len(self.series)} series; they are {news}."

    def as_json(self) -> dict[str, Any]:
        return {
            "calibration_id": self.calibration_id,
            "snapshot": self.snapshot_id,
            "changed": self.changed,
            "series": [
                {
                    "series": one.unique_id,
                    "frequency": one.frequency,
                    "order": None if one.order is None else [*one.order.order, *one.order.seasonal],
                    "season": None if one.order is None else one.order.season,
                    "best_method": one.best_method,
                    "origins": one.origins,
                }
                for one in self.series
            ],
        }


def recalibrate(
    lake: Lake,
    *,
    frequencies: Sequence[Frequency] = FREQUENCIES,
    most_sites: int = MOST_SITES,
    most_models: int | None = None,
    calibration_id: str | None = None,
    on_each: OnEach | None = None,
    on_series: Callable[[CalibratedSeries], None] | None = None,
) -> CalibrationReport:
    """Search orders and backtest long, then store both; with a ``calibration_id`` that is stored, only report.

    ``on_each`` applies :func:`calibrated` to every series, by default one after the other in this process.

    Raises ParameterError for an unknown frequency, and NoDataError before the first delivery or while no series has a
    complete period; nothing is written then.
    """
    from medisync.stats.series import checked_frequency

    wanted = [checked_frequency(one) for one in frequencies]
    own_id = calibration_id or f"c{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    snapshot_id = lake.last_snapshot_id()
    if snapshot_id is None or not lake.query("SELECT 1 FROM clinical.admissions LIMIT 1"):
        raise NoDataError("There is no data yet.", hint="Drop a file into data/inbox/ or run: medisync ingest FILE")
    if lake.query("SELECT 1 FROM analytics.backtests WHERE calibration_id = ? LIMIT 1", [own_id]):
        return CalibrationReport(own_id, snapshot_id, (), changed=False)
    series = _read(lake, snapshot_id, wanted, most_sites, most_models)
    if not series:
        raise NoDataError("Not one complete period has been delivered.")
    found: list[CalibratedSeries] = []
    for one in on_each(series) if on_each else map(calibrated, series):
        found.append(one)
        if on_series is not None:
            on_series(one)
    changed = _store(lake, own_id, snapshot_id, found)
    return CalibrationReport(own_id, snapshot_id, tuple(found), changed)


def calibrated(series: UncalibratedSeries) -> CalibratedSeries:
    """Search the order of one series and try every method at many past origins. Pure, and takes minutes."""
    from medisync.stats.sarima import search_orders

    panel = series.panel
    long = _long_backtest(panel, HORIZON[panel.frequency], series.most_models)
    order = search_orders(panel, most_models=series.most_models).get(panel.ids[0])
    return CalibratedSeries(
        unique_id=panel.ids[0],
        frequency=panel.frequency,
        first_period=panel.periods[0].date(),
        last_period=panel.periods[-1].date(),
        periods_known=int((panel.values == panel.values).sum()),
        order=order,
        best_method=long.method,
        origins=len(long.past.origins),
        scores=tuple(_scores(long)),
    )


def _read(
    lake: Lake, snapshot_id: int, wanted: Sequence[Frequency], most_sites: int, most_models: int | None
) -> list[UncalibratedSeries]:
    """The series of all sites together and of each large site; those without a complete period are left out."""
    from medisync.analyses import patient_volume_prediction as volume
    from medisync.stats.sarima import MOST_MODELS

    models = MOST_MODELS if most_models is None else most_models
    read = []
    with Snapshot(lake.settings, snapshot_id) as snapshot:
        for every in wanted:
            for site in [None, *large_sites(snapshot, most_sites)]:
                params = volume.Params.checked({"frequency": every, "horizon": HORIZON[every], "site": site})
                with suppress(NoDataError):
                    panel = volume.volume_panel(volume.load(snapshot, params), params)
                    read.append(UncalibratedSeries(panel, models))
    return read


def large_sites(snapshot: Snapshot, most: int) -> list[str]:
    """The ``most`` largest of the sites with SITE_ADMISSIONS_A_WEEK or more, the largest first."""
    rows = snapshot.query(
        "SELECT site FROM clinical.admissions WHERE site IS NOT NULL GROUP BY site "
        "HAVING count(*) >= ? * (SELECT greatest(date_diff('day', min(admitted_at), max(admitted_at)) / 7, 1) "
        "FROM clinical.admissions) ORDER BY count(*) DESC, site LIMIT ?",
        [SITE_ADMISSIONS_A_WEEK, most],
    )
    return [str(site) for site in rows["site"]]


def _long_backtest(panel: Panel, horizon: int, most_models: int) -> Forecast:
    """All methods from many past origins; the order for it is searched on what was known before the first of them."""
    from medisync.stats.backtest import past_origins
    from medisync.stats.forecasting import forecast_panel
    from medisync.stats.sarima import search_orders

    origins = LONG_ORIGINS[panel.frequency]
    at = past_origins(panel.values.shape[1], panel.season, origins=origins)
    orders = search_orders(panel.until(int(at[0])), most_models=most_models) if len(at) else {}
    return forecast_panel(panel, horizon, origins=origins, step=1, orders=orders)


def _scores(long: Forecast) -> list[dict[str, Any]]:
    def number(value: float) -> float | None:
        return float(value) if value == value else None

    return [
        {
            "method": one.method,
            "is_best": one.method == long.method,
            "mean_absolute_error": number(one.mae[0]),
            "mase": number(one.mase[0]),
            "skill_mean_percent": number(one.skill_mean_percent[0]),
            "p_value": number(one.test.p_value[0]),
            "coverage_80_percent": number(long.accuracy.coverage[80]) if one.method == long.method else None,
        }
        for one in long.accuracies.values()
    ]


def _store(lake: Lake, calibration_id: str, snapshot_id: int, found: list[CalibratedSeries]) -> bool:
    """One transaction; True when an order is another one than before."""
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    code = _code_version()
    with lake.transaction(f"recalibration {calibration_id}", extra={"calibration_id": calibration_id}) as transaction:
        before = _stored(transaction)
        changed = False
        for one in found:
            shared = {"calibration_id": calibration_id, "unique_id": one.unique_id, "frequency": one.frequency}
            made = {"snapshot_id": snapshot_id, "calibrated_at": now}
            if one.order is not None:
                text = json.dumps(asdict(one.order), sort_keys=True)
                changed |= before.get((one.unique_id, one.frequency)) != text
                order = {
                    "specification": text,
                    "aicc": one.order.aicc,
                    "models_tried": one.order.models,
                    "periods_known": one.periods_known,
                    "first_period": one.first_period,
                    "last_period": one.last_period,
                    "code_version": code,
                }
                _insert(transaction, "sarima_orders", {**shared, **order, **made})
            for score in one.scores:
                spans = {"horizon": HORIZON[one.frequency], "origins": one.origins}
                _insert(transaction, "backtests", {**shared, **spans, **score, **made})
        if changed:
            _count_version(transaction, calibration_id, now)
    return changed


def _stored(transaction: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], str]:
    rows = transaction.execute(
        "SELECT unique_id, frequency, specification::VARCHAR FROM lake.analytics.sarima_orders QUALIFY row_number() "
        "OVER (PARTITION BY unique_id, frequency ORDER BY calibrated_at DESC, calibration_id DESC) = 1"
    ).fetchall()
    return {(unique_id, frequency): text for unique_id, frequency, text in rows}


def _insert(transaction: duckdb.DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" for _ in row)
    transaction.execute(f"INSERT INTO lake.analytics.{table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def _count_version(transaction: duckdb.DuckDBPyConnection, calibration_id: str, now: dt.datetime) -> None:
    row = transaction.execute(
        "SELECT max(version) FROM lake.clinical.table_versions WHERE table_name = ?", [VERSIONED_AS]
    ).fetchone()
    version = int(row[0]) + 1 if row and row[0] is not None else 1
    transaction.execute("DELETE FROM lake.clinical.table_versions WHERE table_name = ?", [VERSIONED_AS])
    transaction.execute(
        "INSERT INTO lake.clinical.table_versions VALUES (?, ?, ?, ?)", [VERSIONED_AS, version, calibration_id, now]
    )


def _code_version() -> str:
    from medisync.runs.identity import git_version

    commit = git_version().get("commit")
    return f"{__version__} {commit}" if commit else __version__
