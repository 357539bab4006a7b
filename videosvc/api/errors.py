"""Errors as the contract has them: {"error": {"code", "message", "param", "type"}} under a fitting status."""

from __future__ import annotations

import logging
import math
import reprlib
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from redis import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ExceptionHandler

from videosvc.api.schemas import VideoRequest
from videosvc.engine.picture import PARAM
from videosvc.errors import CapTooLow, ConfigError, ModelAway, UnknownModel, UnknownPreset, UserError
from videosvc_queue.errors import IdempotencyConflict, QueueFull, QuotaExceeded
from videosvc_queue.submit import JobDeleted

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5  # of a 503: a restarted database or Redis is back by then

TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
         409: "conflict_error", 422: "invalid_request_error", 429: "rate_limit_error"}  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PLAIN_CODES = {401: "invalid_api_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


class ApiError(Exception):
    """An answer other than success. `extra` stands beside code and message, such as cheapest_usd."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        *,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))

    def response(self) -> JSONResponse:
        return JSONResponse({"error": self.as_dict()}, self.status, self.headers)

    def as_dict(self) -> dict[str, Any]:
        """The `error` object of the contract."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"code": self.code, "message": self.message, "param": self.param, "type": kind, **self.extra}


def invalid(param: str | None, problem: str) -> ApiError:
    """400 `invalid_request`; `problem` says what is allowed."""
    return ApiError(400, "invalid_request", f"{param}: {problem}" if param else problem, param)


def not_found(video_id: str) -> ApiError:
    return ApiError(404, "not_found", f"there is no video {reprlib.repr(video_id)}", "id")


def unavailable(message: str) -> ApiError:
    return ApiError(503, "unavailable", message, retry_after_s=RETRY_AFTER_S)


def invalid_value(error: ValidationError) -> ApiError:
    """The first mistake in a VideoRequest's fields."""
    problem = error.errors(include_url=False)[0]
    param = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted([*VideoRequest.model_fields, PARAM])
        return invalid(param, f"unknown field; known are {', '.join(known)}")
    if problem["type"] == "missing":
        return invalid(param, "is missing")
    reason = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return invalid(param, f"{reprlib.repr(problem['input'])}: {reason}")


def as_api_error(error: Exception) -> ApiError:
    """What the other rooms raise, in the contract's terms."""
    match error:
        case ApiError():
            return error
        case CapTooLow():
            extra = {"cheapest_usd": float(error.cheapest_usd)}
            return ApiError(422, error.code, error.message, error.param, extra=extra)
        case ModelAway():
            return unavailable(error.message)
        case UnknownModel():
            return ApiError(400, "unknown_model", error.message, "model")
        case UnknownPreset():
            return ApiError(400, "unknown_preset", error.message, "preset")
        case ConfigError() if error.param != "preset":
            return unavailable("the service is not set up right; its log says where")
        case UserError():
            code = "unsupported_size" if error.param == "size" else "invalid_request"
            return ApiError(400, code, error.message, error.param)
        case QueueFull():
            return ApiError(429, "queue_full", str(error), retry_after_s=error.retry_after_s)
        case QuotaExceeded():
            return ApiError(429, "quota_exceeded", str(error), retry_after_s=error.retry_after_s)
        case IdempotencyConflict():
            return ApiError(422, "idempotency_conflict", str(error), "Idempotency-Key")
        case JobDeleted():
            return ApiError(404, "not_found", f"{error}; a new video takes a new key", "Idempotency-Key")
        case DBAPIError() | PoolTimeout():
            return unavailable("the database does not answer; try again")
        case RedisError():
            return unavailable("Redis does not answer; try again")
        case RequestValidationError():
            return _invalid_parameter(error)
        case HTTPException():
            code = PLAIN_CODES.get(error.status_code, "invalid_request")
            return ApiError(error.status_code, code, str(error.detail), headers=error.headers)
    return ApiError(500, "internal_error", "this is a bug in videosvc; its log has the details")


def _invalid_parameter(error: RequestValidationError) -> ApiError:
    """Of the query and the headers; bodies are checked in body.py."""
    problem = error.errors()[0]
    param = str(problem["loc"][-1])
    if problem["loc"][0] == "header":
        param = param.title()  # as the contract writes Idempotency-Key
    reason = problem["msg"].replace("Input should be", "must be")
    if problem["type"] == "string_pattern_mismatch":
        reason = "must be ASCII characters without spaces"
    return invalid(param, f"{reprlib.repr(problem.get('input'))}: {reason}")


HANDLED = (ApiError, UserError, QueueFull, QuotaExceeded, IdempotencyConflict, JobDeleted, DBAPIError, PoolTimeout,
           RedisError, RequestValidationError, HTTPException, Exception)  # fmt: skip


def _methods(request: Request) -> list[str]:
    """What may be done with the path of a request."""
    routes = request.app.routes
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    return [method for method in METHODS if any(route.matches(scopes[method])[0] is Match.FULL for route in routes)]


def add_error_handlers(app: FastAPI) -> None:
    async def respond(request: Request, error: Exception) -> JSONResponse:
        answer = as_api_error(error)
        if answer.status == 405:  # the framework tells the methods of one route only
            answer.headers["Allow"] = ", ".join(_methods(request))
        if answer.status >= 500 and answer.code != "internal_error":  # uvicorn logs a bug with its traceback
            log.error("%s %s: %s", request.method, request.url.path, error)
        return answer.response()

    handler: ExceptionHandler = respond
    for kind in HANDLED:
        app.add_exception_handler(kind, handler)
