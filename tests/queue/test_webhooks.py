from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from clock import Clock
from eventually import eventually
from videosvc_queue.deliveries import Webhook
from videosvc_queue.job import Job, NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.webhooks import PER_TENANT, RETRIES_S, WebhookSender
from webhook_receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def store(migrated_sqlite_url: str, clock: Clock) -> Iterator[Store]:
    with Store(migrated_sqlite_url, clock=clock) as store:
        yield store


def describe(message: Webhook, job: Job) -> dict[str, Any]:
    return {"type": f"job.{message.event}", "data": {"id": job.id, "note": "ünïcode"}}


@pytest.fixture
def sender(store: Store, clock: Clock) -> WebhookSender:
    return WebhookSender(store, describe, allow_private=True, clock=clock)


@pytest.fixture
def end_job(store: Store, new_job: Callable[..., NewJob]) -> Callable[..., str]:
    def end_job(url: str, tenant: str = "ann") -> str:
        job, _ = store.submit(new_job(webhook_url=url, tenant=tenant), TenantLimits())
        claim = store.claim(["toy"], "worker")
        assert claim is not None
        store.finish(job.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal(0))
        return job.id

    return end_job


def secret(store: Store) -> str:
    tenant = store.tenant("ann")
    assert tenant is not None
    return tenant.webhook_secret


def attempts_left(sender: WebhookSender, store: Store, clock: Clock) -> int:
    """How often the message is tried again, until nobody tries any more."""
    count = 0
    while True:
        clock.now += 200_000
        due = store.due_webhooks(hold_s=0)
        if not due:
            return count
        count += 1
        sender.tick()


def test_a_message_is_signed_and_sent_once(
    migrated_sqlite_url: str, receiver: Receiver, new_job: Callable[..., NewJob]
) -> None:
    with Store(migrated_sqlite_url) as store:  # by the real clock: the verifier looks at the time
        job, _ = store.submit(new_job(webhook_url=receiver.url), TenantLimits())
        store.cancel(job.id, "ann")
        sender = WebhookSender(store, describe, allow_private=True)
        sender.tick()
        sender.tick()
        ((path, headers, body),) = receiver.got
        verifier = Verifier(secret(store))
        assert verifier.verify(body, headers) == {"type": "job.cancelled", "data": {"id": job.id, "note": "ünïcode"}}
        with pytest.raises(WebhookVerificationError):
            verifier.verify(body + b" ", headers)
    assert path == "/hook"
    assert headers["content-type"] == "application/json"


def test_its_thread_delivers(
    store: Store, receiver: Receiver, clock: Clock, end_job: Callable[[str], str]
) -> None:
    with WebhookSender(store, describe, allow_private=True, every_s=0.01, clock=clock):
        end_job(receiver.url)
        eventually(lambda: receiver.got)


def test_a_server_that_never_answers_holds_up_nobody_else(
    store: Store, receiver: Receiver, clock: Clock, end_job: Callable[..., str]
) -> None:
    receiver.hold = threading.Event()
    sender = WebhookSender(store, describe, allow_private=True, every_s=0.01, timeout_s=60, clock=clock)
    with receiving() as other, sender:
        for _ in range(PER_TENANT + 3):
            end_job(receiver.url)
        eventually(lambda: len(receiver.got) == PER_TENANT)
        for _ in range(3 * PER_TENANT):
            end_job(other.url, "bob")
        eventually(lambda: len(other.got) == 3 * PER_TENANT)
        assert len(receiver.got) == PER_TENANT
        receiver.hold.set()
        eventually(lambda: len(receiver.got) == PER_TENANT + 3)


def test_a_failed_delivery_is_tried_again_under_the_same_id(
    sender: WebhookSender, receiver: Receiver, clock: Clock, end_job: Callable[[str], str]
) -> None:
    receiver.status = 500
    end_job(receiver.url)
    sender.tick()
    sender.tick()
    assert len(receiver.got) == 1  # not at once
    clock.now += RETRIES_S[0] * 1.3
    receiver.status = 200
    sender.tick()
    clock.now += 1e6
    sender.tick()
    first, second = ({name.lower(): value for name, value in headers.items()} for _, headers, _ in receiver.got)
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) > int(first["webhook-timestamp"])
    assert receiver.got[0][2] == receiver.got[1][2]


def test_it_is_given_up_after_days(
    sender: WebhookSender, receiver: Receiver, clock: Clock, end_job: Callable[[str], str]
) -> None:
    receiver.status = 503
    end_job(receiver.url)
    sender.tick()
    started = clock.now
    for wait_s in RETRIES_S:
        before = len(receiver.got)
        clock.now += wait_s * 0.79
        sender.tick()
        assert len(receiver.got) == before  # too early, whatever the jitter
        clock.now += wait_s * 0.42
        sender.tick()
        assert len(receiver.got) == before + 1
    assert clock.now - started > 3 * 86400
    clock.now += 1e7
    sender.tick()
    assert len(receiver.got) == 1 + len(RETRIES_S)


def test_gone_disables_the_address(
    sender: WebhookSender, store: Store, receiver: Receiver, clock: Clock, end_job: Callable[[str], str],
    new_job: Callable[..., NewJob],
) -> None:  # fmt: skip
    running, _ = store.submit(new_job(webhook_url=receiver.url), TenantLimits())
    claim = store.claim(["toy"], "worker")
    assert claim is not None
    receiver.status = 410
    end_job(receiver.url)
    sender.tick()
    store.finish(running.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal(0))
    clock.now += 1e7
    sender.tick()
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(
    sender: WebhookSender, receiver: Receiver, end_job: Callable[[str], str], status: int
) -> None:
    with receiving() as other:
        receiver.status, receiver.headers = status, {"location": other.url, "content-length": "0"}
        end_job(receiver.url)
        sender.tick()
        assert len(receiver.got) == 1
        assert other.got == []


PRIVATE = [
    "http://127.0.0.1:{port}/hook",
    "http://localhost:{port}/hook",  # a name
    "http://2130706433:{port}/hook",  # 127.0.0.1 as a number
    "http://0x7f.1:{port}/hook",
    "http://0.0.0.0:{port}/hook",
    "http://[::ffff:127.0.0.1]:{port}/hook",
    "http://[::ffff:7f00:1]:{port}/hook",
    "http://[64:ff9b::7f00:1]:{port}/hook",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused(
    store: Store, receiver: Receiver, clock: Clock, end_job: Callable[[str], str], url: str
) -> None:
    sender = WebhookSender(store, describe, clock=clock)
    end_job(url.format(port=receiver.url.split(":")[2].split("/")[0]))
    sender.tick()
    assert receiver.got == []


def test_ipv6_loopback_is_refused_and_reached_if_allowed(
    store: Store, sender: WebhookSender, clock: Clock, end_job: Callable[[str], str]
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with receiving("::1") as receiver:
        end_job(receiver.url)
        WebhookSender(store, describe, clock=clock).tick()
        assert receiver.got == []
        clock.now += RETRIES_S[0] * 2
        sender.tick()
        assert len(receiver.got) == 1


def test_the_name_is_asked_for_once_and_kept_in_the_request(
    sender: WebhookSender, receiver: Receiver, end_job: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a second answer, another than the one that was looked at, could lead inside."""
    asked: list[object] = []

    def resolve(host: object, port: object, *args: object, **kwargs: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = receiver.url.split(":")[2].split("/")[0]
    end_job(f"http://hooks.example.com:{port}/hook?a=b")
    sender.tick()
    ((path, headers, _),) = receiver.got
    assert path == "/hook?a=b"
    assert {name.lower(): value for name, value in headers.items()}["host"] == f"hooks.example.com:{port}"
    assert asked == ["hooks.example.com"]


def test_one_private_address_among_public_ones_is_refused(
    store: Store, receiver: Receiver, clock: Clock, end_job: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
    end_job("http://hooks.example.com/")
    with caplog.at_level("INFO"):
        WebhookSender(store, describe, clock=clock).tick()
    assert "hooks.example.com leads to 10.0.0.1, which is not a public address" in caplog.text


def test_proxies_of_the_environment_are_not_used(
    sender: WebhookSender, receiver: Receiver, end_job: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        end_job(receiver.url)
        sender.tick()
        assert (len(receiver.got), len(proxy.got)) == (1, 0)


def test_an_endless_answer_is_not_read(
    sender: WebhookSender, store: Store, receiver: Receiver, clock: Clock, end_job: Callable[[str], str]
) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 2**30:
            sent += 2**16
            yield b"x" * 2**16

    receiver.status, receiver.body = 200, endless()
    end_job(receiver.url)
    sender.tick()
    assert sent < 2**26  # what fits into the sockets' buffers
    assert attempts_left(sender, store, clock) == 0  # 200 is 200


def test_a_receiver_that_does_not_answer_is_tried_later(
    store: Store, sender: WebhookSender, receiver: Receiver, clock: Clock, end_job: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    receiver.hold = threading.Event()
    end_job(receiver.url)
    with caplog.at_level("INFO"):
        WebhookSender(store, describe, allow_private=True, timeout_s=0.5, clock=clock).tick()
    assert "no answer within 0.5 s" in caplog.text
    receiver.hold.set()
    clock.now += RETRIES_S[0] * 2
    sender.tick()
    assert attempts_left(sender, store, clock) == 0


def test_a_slow_receiver_does_not_hold_up_others(
    sender: WebhookSender, receiver: Receiver, end_job: Callable[[str], str]
) -> None:
    with receiving() as slow:
        slow.hold = threading.Event()
        for _ in range(3):
            end_job(slow.url)
        end_job(receiver.url)
        thread = threading.Thread(target=sender.tick)
        thread.start()
        eventually(lambda: receiver.got)
        slow.hold.set()
        thread.join()


@pytest.mark.parametrize(
    "url",
    ["ftp://1.1.1.1/", "http://user:pw@1.1.1.1/", "http:///x", "http://[::1", "nonsense", "http://no.invalid/",
     "http://" + "a" * 70 + ".com/", "http://1.1.1.1:99999/"],
)  # fmt: skip
def test_an_address_that_cannot_be_breaks_nothing(
    store: Store, sender: WebhookSender, receiver: Receiver, end_job: Callable[[str], str], url: str
) -> None:
    end_job(url)
    end_job(receiver.url)
    sender.tick()
    assert len(receiver.got) == 1


def test_a_message_that_cannot_be_written_holds_up_no_other_and_is_tried_later(
    store: Store, receiver: Receiver, clock: Clock, end_job: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    odd = end_job(receiver.url)
    readable = False

    def picky(message: Webhook, job: Job) -> dict[str, Any]:
        if job.id == odd and not readable:
            raise TypeError("unknown field")
        return describe(message, job)

    sender = WebhookSender(store, picky, allow_private=True, clock=clock)
    plain = end_job(receiver.url, "bob")
    sender.tick()
    assert [json.loads(body)["data"]["id"] for _, _, body in receiver.got] == [plain]
    assert f"of job {odd} cannot be written" in caplog.text
    clock.now += RETRIES_S[0] * 0.7
    assert store.due_webhooks() == []
    clock.now += RETRIES_S[0]
    readable = True
    sender.tick()
    assert [json.loads(body)["data"]["id"] for _, _, body in receiver.got] == [plain, odd]


def test_a_message_that_can_never_be_written_is_given_up(
    store: Store, receiver: Receiver, clock: Clock, end_job: Callable[[str], str]
) -> None:
    def broken(message: Webhook, job: Job) -> dict[str, Any]:
        raise TypeError("unknown field")

    sender = WebhookSender(store, broken, allow_private=True, clock=clock)
    end_job(receiver.url)
    sender.tick()
    clock.now += 1e6
    for _ in RETRIES_S:
        sender.tick()
        clock.now += 1e6
    assert store.due_webhooks() == []
    assert receiver.got == []


def test_a_deleted_jobs_message_is_dropped(
    sender: WebhookSender, store: Store, receiver: Receiver, clock: Clock, end_job: Callable[[str], str]
) -> None:
    store.delete(end_job(receiver.url), "ann")
    sender.tick()
    assert attempts_left(sender, store, clock) == 0
    assert receiver.got == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """For hooks.example.com, signed by itself; key and certificate in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "cert.pem"
    subject = ["-subj", "/CN=hooks.example.com", "-addext", "subjectAltName=DNS:hooks.example.com"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         *subject, "-keyout", str(path), "-out", str(tmp_path / "public.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + (tmp_path / "public.pem").read_text())
    return path


@pytest.mark.parametrize(("name", "delivered"), [("hooks.example.com", True), ("other.example.com", False)])
def test_the_certificate_must_be_of_the_name(
    store: Store, clock: Clock, end_job: Callable[[str], str], certificate: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, delivered: bool,
) -> None:  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    sender = WebhookSender(store, describe, allow_private=True, tls=trusting, clock=clock)
    with receiving(tls=server) as receiver:
        port = int(receiver.url.split(":")[2].split("/")[0])
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answer)
        end_job(f"https://{name}:{port}/hook")
        sender.tick()
        assert len(receiver.got) == delivered
