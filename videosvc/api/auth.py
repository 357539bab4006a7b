"""Who asks. With API keys made: the key's tenant. Without any: open mode, one tenant, where that is allowed."""

from __future__ import annotations

import hashlib
import ipaddress
import reprlib
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from fastapi import Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from videosvc.api.errors import ApiError
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits

OPEN_TENANT = "default"
KNOWN_FOR_S = 5.0  # a revoked key works for so long still; status polls cost no query for it
MAX_KNOWN = 10_000  # keys; guesses are kept too, so that they cost no query either

bearer = HTTPBearer(auto_error=False, description="an API key of `videosvc keys create`; none is needed in open mode")


@dataclass(frozen=True, slots=True)
class Caller:
    tenant: str
    limits: TenantLimits
    open_mode: bool = False  # anybody, since there are no keys


class Auth:
    """Callers by the hash of their key, as of a few seconds ago. Threads may share it."""

    def __init__(self, store: Store, open_allowed: bool, loopback_only: bool, origins: tuple[str, ...]) -> None:
        """`open_allowed`: without any keys everybody is the one tenant. `loopback_only`: everybody on this machine,
        their browsers' other pages excepted; `origins` are the pages that may."""
        self._store = store
        self._open_allowed = open_allowed
        self._loopback_only = loopback_only
        self._origins = origins
        self._known: dict[bytes, tuple[float, Caller | None]] = {}

    async def caller(self, request: Request, secret: str | None) -> Caller:
        """Raises ApiError 401 or 403."""
        # The hash of the key, not the key, so that a memory dump shows none.
        digest = hashlib.sha256((secret or "").encode()).digest()
        checked_at, caller = self._known.get(digest, (float("-inf"), None))
        if time.monotonic() - checked_at > KNOWN_FOR_S:
            caller = await run_in_threadpool(self._look_up, secret)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[digest] = (time.monotonic(), caller)
        if caller is None:
            problem = "no API key" if not secret else "this API key is unknown or revoked"
            message = f"{problem}: send Authorization: Bearer KEY, with a key of `videosvc keys create`"
            raise ApiError(401, "invalid_api_key", message, "Authorization", headers={"WWW-Authenticate": "Bearer"})
        if caller.open_mode and self._loopback_only:
            self._check_origin(request)
        return caller

    def _look_up(self, secret: str | None) -> Caller | None:
        if self._open_allowed and not self._store.has_keys():
            known = self._store.tenant(OPEN_TENANT) or self._store.upsert_tenant(OPEN_TENANT, TenantLimits())
            return Caller(known.name, known.limits, open_mode=True)
        tenant = self._store.find_key(secret) if secret else None
        return None if tenant is None else Caller(tenant.name, tenant.limits)

    def _check_origin(self, request: Request) -> None:
        """A page of somebody else in the user's browser must not spend the user's compute, neither from its own
        origin nor under a name of its own that leads here."""
        host = request.headers.get("host", "")
        # With a port or without; an IPv6 address in brackets.
        if not any(is_loopback(name.strip("[]")) for name in (host, host.rpartition(":")[0])):
            message = f"without API keys the service goes by localhost or a loopback address, not {reprlib.repr(host)}"
            raise ApiError(403, "forbidden", message, "Host")
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", *self._origins):
            raise ApiError(403, "forbidden", f"{reprlib.repr(origin)} is none of cors_origins", "Origin")


@lru_cache(maxsize=64)  # each request's Host
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def authorize(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> Caller:
    """Dependency of every route that belongs to a tenant."""
    auth: Auth = request.app.state.services.auth
    return await auth.caller(request, None if credentials is None else credentials.credentials)
