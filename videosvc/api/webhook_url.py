"""Webhook URLs that nothing could ever be delivered to: refused with the request, not found out after the job."""

from __future__ import annotations

import socket

import httpx

from videosvc.api.errors import invalid
from videosvc_queue.public_address import is_public

PARAM = "webhook_url"
PORTS = range(1, 65536)


def check_webhook_url(url: str, allow_private: bool) -> None:
    """A host's name may lead elsewhere by then: it is looked up at each delivery, and not here. Raises ApiError 400."""
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")
    except (httpx.InvalidURL, ValueError) as error:
        raise invalid(PARAM, f"is no URL: {error}") from error
    if not parsed.host or parsed.userinfo or not (parsed.port is None or parsed.port in PORTS):
        raise invalid(PARAM, "must have a host, a port from 1 to 65535 if any, and no user or password")
    if not allow_private and not _may_be_public(parsed.host):
        raise invalid(PARAM, f"{parsed.host} is not a public address")


def _may_be_public(host: str) -> bool:
    if host == "localhost":
        return False
    try:  # as the resolver does, to which 0x7f.1 is an address too
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return ":" not in host  # a name; what has colons is an address of one cable
    return is_public(str(found[0][4][0]))
