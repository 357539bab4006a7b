"""Telling tenants' servers of the end of their jobs: Standard Webhooks, from rows in SQL, for days if need be."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks import Webhook as Signer

from videosvc_queue.deliveries import Webhook
from videosvc_queue.job import Job
from videosvc_queue.public_address import resolve
from videosvc_queue.store import Store
from videosvc_queue.ticker import Ticker

log = logging.getLogger(__name__)

TICK_S = 1.0
AT_ONCE = 100  # deliveries on their way
PER_TENANT = 4  # of them: a server that never answers delays its tenant's other messages, and nobody else's
TIMEOUT_S = 15.0  # for all of one delivery, the name's resolution included
# Seconds until the next attempt: 9 of them, over 3 days. Spread by JITTER, so that a receiver that comes back is not
# met by all at once.
RETRIES_S = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
JITTER = 0.2
GONE = 410

Describe = Callable[[Webhook, Job], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """One delivery, ready to be sent."""

    url: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int | None   # of HTTP; None: there was none
    error: str | None    # None: delivered


class WebhookSender(Ticker):
    """Any number may run at once."""

    def __init__(
        self,
        store: Store,
        describe: Describe,
        *,
        allow_private: bool = False,
        every_s: float = TICK_S,
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`describe`: a message's JSON; the same for the same message. `allow_private`: also to addresses that are
        not public, where all tenants are trusted. `tls`: None trusts the usual authorities. `clock`: Unix seconds."""
        super().__init__("webhooks", self.tick, every_s)
        self._store = store
        self._describe = describe
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._tls = tls or ssl.create_default_context()
        self._clock = clock

    def tick(self) -> None:
        """Delivers what is due. Raises sqlalchemy.exc.SQLAlchemyError; whatever a receiver does is in its row."""
        if messages := self._due([]):
            asyncio.run(self._deliver(messages))

    def _due(self, sending: Collection[Webhook]) -> list[Webhook]:
        """What may be sent beside what is on its way."""
        room = AT_ONCE - len(sending)
        if self.stopping or room == 0:
            return []
        busy = Counter(message.tenant for message in sending)
        return self._store.due_webhooks(room, 4 * self._timeout_s, PER_TENANT, busy)

    async def _deliver(self, messages: list[Webhook]) -> None:
        """These and what becomes due meanwhile. None waits for the slowest: where one has its answer the next goes."""
        sending: dict[asyncio.Task[Answer], Webhook] = {}
        # No proxies from the environment: they would resolve the name themselves.
        async with httpx.AsyncClient(verify=self._tls, timeout=None, trust_env=False) as client:
            while messages or sending:
                for message in messages:
                    request = await asyncio.to_thread(self._prepare, message)
                    if request is not None:
                        sending[asyncio.create_task(self._post(client, request))] = message
                if sending:
                    # Not for long: other messages may be due by then.
                    answered, _ = await asyncio.wait(sending, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
                    for task in answered:
                        await asyncio.to_thread(self._note, sending.pop(task), task.result())
                messages = await asyncio.to_thread(self._due, sending.values())

    def _prepare(self, message: Webhook) -> Request | None:
        """None: there is nothing to send, and its row says why. Raises SQLAlchemyError."""
        try:
            return self._request(message)
        except Exception as error:  # a job of a later version, say. It may hold up no other message either
            log.exception("webhook %s of job %s cannot be written", message.id, message.job_id)
            self._note(message, Answer(None, f"cannot be written: {type(error).__name__}"))
            return None

    def _request(self, message: Webhook) -> Request | None:
        job = self._store.get(message.job_id)
        tenant = self._store.tenant(message.tenant)
        if job is None or tenant is None:
            self._store.webhook_failed(message.id, "the job was deleted", None)
            return None
        body = json.dumps(self._describe(message, job))
        now = datetime.fromtimestamp(self._clock(), UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": "videosvc-webhooks",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Signer(tenant.webhook_secret).sign(message.id, now, body),
        }
        return Request(message.url, body.encode(), headers)

    async def _post(self, client: httpx.AsyncClient, request: Request) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                url = httpx.URL(request.url)
                if url.scheme not in ("http", "https") or not url.host or url.userinfo:
                    return Answer(None, "the URL must be http or https, with a host, without a password")
                port = url.port or {"http": 80, "https": 443}[url.scheme]
                address = await resolve(url.host, port, self._allow_private)
                # To that very address; the name stays in the Host header and in the certificate's check. Of the
                # answer the status line and headers are read and no more: httpx bounds those, the timeout the rest.
                async with client.stream(
                    "POST",
                    url.copy_with(host=address),
                    content=request.body,
                    headers=request.headers | {"host": url.netloc.decode()},
                    extensions={"sni_hostname": url.host},
                    follow_redirects=False,
                ) as response:
                    delivered = response.is_success
                    return Answer(response.status_code, None if delivered else f"answered {response.status_code}")
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout_s:g} s")
        except Exception as error:  # RefusedAddress, HTTPError, and what odd URLs bring forth: port 99999 does an
            return Answer(None, str(error) or type(error).__name__)  # ExceptionGroup. None may hold up other messages.

    def _note(self, message: Webhook, answer: Answer) -> None:
        if answer.error is None:
            self._store.webhook_delivered(message.id)
            return
        log.info("webhook %s of job %s, attempt %d: %s", message.id, message.job_id, message.attempts, answer.error)
        if answer.status == GONE:
            self._store.webhook_failed(message.id, answer.error, None)
            self._store.disable_webhook(message.tenant, message.url)
        else:
            self._store.webhook_failed(message.id, answer.error, self._retry_at(message.attempts))

    def _retry_at(self, attempts: int) -> float | None:
        if attempts > len(RETRIES_S):
            return None
        return self._clock() + RETRIES_S[attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)
