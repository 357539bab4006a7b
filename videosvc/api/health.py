"""For load balancers and Prometheus: no key is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from videosvc.api.errors import unavailable
from videosvc.api.schemas import Health
from videosvc.api.services import Here, Services
from videosvc.errors import UserError

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=None, responses={200: {"model": Health}})
async def healthz() -> Response:
    """The process lives and answers."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=None, responses={200: {"model": Health}, 503: {"model": Health}})
def readyz(services: Here) -> Response:
    """Whether jobs would run now: each part is "ok", or says what is wrong with it."""
    checks: dict[str, Callable[[Services], None]] = {
        "database": _database,
        "redis": _redis,
        "worker": _worker,
        "configuration": _configuration,
    }
    states = {name: _state(check, services) for name, check in checks.items()}
    # Where an edit broke a file the one before goes on serving: that is told, but takes nobody out of service.
    bad = [f"{name}: {state}" for name, state in states.items() if state != "ok" and name != "configuration"]
    answer: dict[str, Any] = {"status": "unavailable" if bad else "ok", "checks": states}
    if not bad:
        return JSONResponse(answer)
    error = unavailable("; ".join(bad))
    return JSONResponse(answer | {"error": error.as_dict()}, error.status, error.headers)


@router.get("/metrics", response_model=None, responses={200: {"content": {"text/plain": {}}}})
def metrics(services: Here) -> Response:
    """Prometheus' text format."""
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _state(check: Callable[[Services], None], services: Services) -> str:
    try:
        check(services)
    except SQLAlchemyError:
        return "does not answer"
    except RedisError as error:
        return f"does not answer: {error}"
    except UserError as error:
        return error.message
    return "ok"


def _database(services: Services) -> None:
    services.store.ping()


def _redis(services: Services) -> None:
    services.bus.ping()


def _worker(services: Services) -> None:
    if not services.store.live_workers():
        raise UserError("none was heard of in the last 30 seconds")


def _configuration(services: Services) -> None:
    broken = services.config.refresh()
    if broken:
        raise UserError("; ".join(broken.values()))
