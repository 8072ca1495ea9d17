"""When a message waits: what lies in the outbox is sent. The half-hourly refresh wakes it again for what failed."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from medisync.reports.bulletins import utc_now
from medisync.reports.sending import NotAllSentError, Sendings, send_waiting
from medisync.settings import load_settings


@task(
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=60),
    retry_jitter_factor=0.3,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def send_due() -> Sendings:
    """Send what is due; what failed fails the task, so that it is tried again."""
    done = send_waiting(load_settings(), utc_now())
    get_run_logger().info(done.sentence())
    if done.failed:
        raise NotAllSentError(done.sentence(), hint="The outbox keeps them; see the log for the reason.")
    return done


@flow(name="send")
def send() -> dict[str, Any]:
    """Send what is due; what fails waits for its next try and holds nothing else up."""
    done = send_due()
    return {"sent": done.sent, "given_up": done.given_up}
