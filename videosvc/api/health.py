"""For load balancers and Prometheus: no key is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from videosvc.api.errors import unavailable
from videosvc.api.schemas import Health
from videosvc.api.services import Here, Services
from videosvc.config.devices import load_devices
from videosvc.errors import ConfigError, UserError

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=None, responses={200: {"model": Health}})
async def healthz() -> Response:
    """The process lives and answers."""
    return JSONResponse({"status": "ok"})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=None, responses={200: {"model": Health}, 503: {"model": Health}})
def readyz(request: Request, services: Here) -> Response:
    """Whether jobs would run now: each part is "ok" or "not ok". What is wrong with it is in the log."""
    checks: dict[str, Callable[[Services], None]] = {
        "database": _database,
        "redis": _redis,
        "worker": _worker,
        "configuration": _configuration,
    }
    problems = {name: _problem(check, services) for name, check in checks.items()}
    _tell(request, "; ".join(f"{name}: {problem}" for name, problem in problems.items() if problem))
    # Where an edit broke a file the one before goes on serving: that is told, but takes nobody out of service.
    bad = [name for name, problem in problems.items() if problem and name != "configuration"]
    states = {name: "not ok" if problem else "ok" for name, problem in problems.items()}
    answer: dict[str, Any] = {"status": "unavailable" if bad else "ok", "checks": states}
    if not bad:
        return JSONResponse(answer)
    error = unavailable(f"not ok: {', '.join(bad)}")
    return JSONResponse(answer | {"error": error.as_dict()}, error.status, error.headers)


@router.get("/metrics", response_model=None, responses={200: {"content": {"text/plain": {}}}})
def metrics(services: Here) -> Response:
    """Prometheus' text format."""
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _tell(request: Request, problems: str) -> None:
    """Once for each change, however often balancers ask."""
    if problems != request.app.state.unready:
        request.app.state.unready = problems
        log.warning("readyz: %s", problems or "all is ok again")


def _problem(check: Callable[[Services], None], services: Services) -> str | None:
    try:
        check(services)
    except SQLAlchemyError:
        return "does not answer"
    except RedisError as error:
        return f"does not answer: {error}"
    except UserError as error:
        return error.message
    return None


def _database(services: Services) -> None:
    services.store.ping()


def _redis(services: Services) -> None:
    services.bus.ping()


def _worker(services: Services) -> None:
    if not services.store.live_workers():
        raise UserError("none was heard of in the last 30 seconds")


def _configuration(services: Services) -> None:
    problems = [*services.config.refresh().values(), *_without_price(services)]
    if problems:
        raise UserError("; ".join(problems))


def _without_price(services: Services) -> Iterator[str]:
    """Of each device that workers have and nothing can be quoted for, what is to be done."""
    rates = load_devices(services.config.folder)
    with suppress(SQLAlchemyError):  # which the database's own check tells
        for device in sorted({worker.device for worker in services.store.live_workers()}):
            try:
                rates.rate_of(device)
            except ConfigError as error:
                yield error.message
