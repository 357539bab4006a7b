"""Doorbells: Celery messages that wake a worker. The truth is in SQL; a bell lost or rung twice does no harm."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery

from videosvc_queue.tiers import Tier

RING = "videosvc.ring"  # the one task: "a job of this queue waits"; its argument only helps to read a log

# How a publisher meets a Redis that is away: one try more, for a connection that a restart closed. Whoever rings
# comes again a second later anyway. Workers have broker_connection_max_retries instead.
PUBLISH_RETRY = {"max_retries": 1, "interval_start": 0}


def make_celery(redis_url: str) -> Celery:
    """`redis_url` as redis-py takes it: redis://, rediss:// or unix://. Becomes nobody's current or default app."""
    app = Celery("videosvc", broker=broker_url(redis_url), set_as_current=False)
    app.conf.update(
        # The SQL lease redelivers. Late acks would have Redis do so too, after visibility_timeout, and a task that
        # runs longer than that was seen to run three and four times.
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        # A bell belongs to a worker that is free: one that waits behind a running job keeps others from that job.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # Redis going away must not stop a job that computes.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_ignore_result=True,  # results are in SQL
        accept_content=["json"],  # whoever can write to Redis must not be able to run code
        # A worker waits for its Redis as long as it takes, at the start too.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        # Loading a large model takes minutes, and Celery kills a process that is not up after 4 s.
        worker_proc_alive_timeout=3600,
        worker_hijack_root_logger=False,  # logging is the service's to set up
        task_default_queue="videosvc",
        broker_transport_options={
            "visibility_timeout": 86400,  # a bell that a killed worker had taken; the reconciler rings long before
            "socket_timeout": 5,          # a half-open connection would hang for ever
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "priority_steps": list(range(10)),  # one Redis list each; 0 goes first
            **PUBLISH_RETRY,
        },
    )
    return app


def broker_url(redis_url: str) -> str:
    """The same server in Celery's words."""
    if redis_url.startswith("unix://"):
        return "redis+socket://" + redis_url.removeprefix("unix://").replace("?db=", "?virtual_host=")
    return redis_url


def queue_name(route: str) -> str:
    return f"videosvc.{route}"


def ring(app: Celery, job_id: str, route: str, tier: Tier) -> None:
    """Raises kombu.exceptions.OperationalError if Redis does not answer."""
    app.send_task(RING, [job_id], queue=queue_name(route), priority=tier.priority, retry=False, ignore_result=True)


def silent_routes(app: Celery, routes: Sequence[str]) -> list[str]:
    """Those of `routes` where no bell waits for a worker. Raises kombu.exceptions.OperationalError."""
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        return [route for route in routes if channel.queue_declare(queue_name(route)).message_count == 0]
