"""What the API stands on: everything of it that outlives a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from videosvc.api.auth import Auth
from videosvc.api.limits import RateLimiter
from videosvc.api.metrics import Metrics
from videosvc.api.planners import Planners
from videosvc.api.shared_reads import SharedReads
from videosvc.api.unsure import Unsure
from videosvc.artifacts.store import ArtifactStore
from videosvc.config.reload import LiveConfig
from videosvc.config.settings import Settings
from videosvc_queue.events import EventBus
from videosvc_queue.job import Job
from videosvc_queue.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    config: LiveConfig
    redis_url: str
    store: Store
    reads: SharedReads
    bus: EventBus
    artifacts: ArtifactStore
    auth: Auth
    rates: RateLimiter
    planners: Planners
    unsure: Unsure
    metrics: Metrics
    submitted: Callable[[Job], None]  # called after a job was committed: a worker should hear of it


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Here = Annotated[Services, Depends(_services)]
