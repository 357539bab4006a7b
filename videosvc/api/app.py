"""The application: routes, errors, and what runs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

from videosvc import __version__
from videosvc.api import catalog, content, events, health, page, quotes, usage, videos
from videosvc.api.body import Room
from videosvc.api.errors import add_error_handlers
from videosvc.api.metrics import CountRequests
from videosvc.api.query import known_query
from videosvc.api.services import Services
from videosvc.api.stopping import before_stopping
from videosvc_queue.fanout import Fanout

ROUTERS = (videos.router, content.router, events.router, quotes.router, catalog.router, usage.router)
EXPOSED = ("ETag", "Content-Range", "openai-poll-after-ms", "Retry-After", "Idempotent-Replayed", "X-RateLimit-Limit",
           "X-RateLimit-Remaining", "X-RateLimit-Reset")  # fmt: skip
FEW = 2  # large bodies, and pictures, that are worked on at a time


def create_app(services: Services, tickers: Sequence[AbstractContextManager[object]] = ()) -> FastAPI:
    """`tickers` run while the app serves: they ring, reconcile, sweep and send."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.fanout = await stack.enter_async_context(Fanout(services.redis_url))
            stack.enter_context(before_stopping(app.state.fanout.stop))
            for ticker in tickers:
                stack.enter_context(ticker)
            yield

    app = FastAPIOffline(  # /docs from files of its own, not from a network's
        title="videosvc",
        version=__version__,
        summary="Text to video you host yourself, made so that every second of output is cheap",
        description="The OpenAI Videos API, and beside it quotes, caps, receipts and events.",
        lifespan=lifespan,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.services = services
    app.state.few = asyncio.Semaphore(FEW)
    app.state.room = Room()
    app.state.unready = ""
    for router in ROUTERS:
        app.include_router(router, dependencies=[Depends(known_query)])
    app.include_router(health.router)  # load balancers add parameters of their own
    page.add_page(app)
    add_error_handlers(app)
    app.add_middleware(CountRequests, metrics=services.metrics)
    if services.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=services.settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),  # the openai package for JavaScript adds a dozen of its own
            expose_headers=EXPOSED,
        )
    return app
