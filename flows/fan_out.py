"""Where the tasks of a flow run: in threads of its own process, or on the workers of a Dask cluster.

The tasks are the same either way, and so are the numbers. A cluster that is away, or that loses its workers, costs
time and nothing else: what it did not finish is done here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from prefect import Task, get_run_logger

from medisync.runs import dask_cluster
from medisync.runs.same_code import require_same_code, this_code
from medisync.settings import Settings, load_settings

R = TypeVar("R")

CONNECT_SECONDS = 30


def run_each(task: Task[..., R], arguments: Sequence[dict[str, Any]]) -> list[R]:
    """The results of ``task`` for each of the keyword ``arguments``, in their order; several at once.

    Raises what a task raised.
    """
    settings = load_settings()
    if settings.dask_address and arguments:
        return _on_cluster(settings, task, arguments)
    return _here(task, arguments)


def _here(task: Task[..., R], arguments: Sequence[dict[str, Any]]) -> list[R]:
    return [future.result() for future in [task.submit(**one) for one in arguments]]


def _on_cluster(settings: Settings, task: Task[..., R], arguments: Sequence[dict[str, Any]]) -> list[R]:
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker, NoWorkerError
    from prefect_dask import DaskTaskRunner

    options = {"timeout": CONNECT_SECONDS, "security": dask_cluster.security(settings)}
    with DaskTaskRunner(address=settings.dask_address, client_kwargs=options) as cluster:
        if not _has_workers(cluster):
            return _here(task, arguments)
        done: dict[int, R] = {}
        for number, future in enumerate([cluster.submit(task, one) for one in arguments]):
            try:
                done[number] = cast("R", future.result())
            except (FutureCancelledError, KilledWorker, NoWorkerError) as lost:
                get_run_logger().warning("The cluster lost a task (%s); it is done here.", type(lost).__name__)
        left = [number for number in range(len(arguments)) if number not in done]
        done |= zip(left, _here(task, [arguments[number] for number in left]), strict=True)
    return [done[number] for number in range(len(arguments))]


def _has_workers(cluster: Any) -> bool:
    """Whether the cluster answers and has workers that run this very code; others are sent away."""
    logger = get_run_logger()
    try:
        told: dict[str, str] = cluster.client.run(_code)
    except OSError as error:  # a TimeoutError is one
        logger.warning("The cluster at %s does not answer (%s); all is done here.", cluster.address, error)
        return False
    others = []
    for worker, code in told.items():
        try:
            require_same_code(code)
        except Exception as error:
            logger.warning("The worker %s is sent away. %s", worker, error)
            others.append(worker)
    if others:
        cluster.client.retire_workers(others, close_workers=True, remove=True)
    if len(others) == len(told):
        logger.warning("The cluster at %s has no workers; all is done here.", cluster.address)
    return len(others) < len(told)


def _code() -> str:
    return str(this_code())
