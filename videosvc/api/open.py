"""Makes everything the API stands on from the settings, and stops it again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from videosvc.api.app import create_app
from videosvc.api.auth import Auth, is_loopback
from videosvc.api.limits import RateLimiter
from videosvc.api.metrics import Metrics
from videosvc.api.planners import Planners
from videosvc.api.services import Services
from videosvc.api.shared_reads import SharedReads
from videosvc.api.unsure import Unsure
from videosvc.api.webhook_body import describe
from videosvc.artifacts.retention import Sweeper
from videosvc.artifacts.scratch import tidy_scratch
from videosvc.artifacts.store import ArtifactStore
from videosvc.config.reload import live_config
from videosvc.config.settings import Settings
from videosvc.errors import UserError
from videosvc.migrate import migrate
from videosvc_queue.celery_app import make_celery
from videosvc_queue.dispatcher import Dispatcher
from videosvc_queue.events import EventBus
from videosvc_queue.reconciler import Reconciler
from videosvc_queue.store import Store
from videosvc_queue.ticker import Ticker
from videosvc_queue.webhooks import WebhookSender

log = logging.getLogger(__name__)

TIDY_S = 3600.0


@contextmanager
def open_app(settings: Settings, folder: Path, redis_url: str) -> Iterator[FastAPI]:
    """`folder`: configuration.

    Raises ConfigError if it is broken, UserError if nobody may call what would listen on `settings.host`, or the
    database is of a later version.
    """
    settings.make_data_dir()
    tidy_scratch()
    with ExitStack() as stack:
        config = stack.enter_context(live_config(folder))
        store = stack.enter_context(Store(settings.database_url))
        migrate(store)
        auth = _auth(settings, store)
        bus = stack.enter_context(closing(EventBus(redis_url)))
        rates = stack.enter_context(closing(RateLimiter(redis_url)))
        artifacts = ArtifactStore(settings.artifact_url)
        celery = stack.enter_context(make_celery(redis_url))
        dispatcher = Dispatcher(store, celery, bus)
        services = Services(
            settings=settings,
            config=config,
            redis_url=redis_url,
            store=store,
            reads=SharedReads(store),
            bus=bus,
            artifacts=artifacts,
            auth=auth,
            rates=rates,
            planners=Planners(config, settings, store),
            unsure=Unsure(),
            metrics=Metrics(store),
            submitted=dispatcher.submitted,
        )
        tickers = (
            dispatcher,
            Reconciler(store, celery, bus, lease_s=settings.lease_s),
            Sweeper(store, artifacts, settings.retention_s),
            WebhookSender(store, describe, allow_private=settings.webhook_allow_private),
            Ticker("tidy", partial(store.tidy, settings.history_s), TIDY_S),
        )
        yield create_app(services, tickers)


def _auth(settings: Settings, store: Store) -> Auth:
    loopback = is_loopback(settings.host)
    if not store.has_keys():
        if not loopback and not settings.insecure:
            message = (
                f"host: {settings.host} can be reached from other machines, and there are no API keys: make one with "
                "`videosvc keys create --tenant NAME`, or add --insecure to serve whoever can reach it"
            )
            raise UserError(message, param="host")
        who = "programs of this machine" if loopback else "everybody who can reach this machine"
        log.warning("open mode: there are no API keys, so %s may use the service", who)
    return Auth(
        store,
        open_allowed=loopback or settings.insecure,
        loopback_only=loopback and not settings.insecure,
        origins=settings.cors_origins,
    )
