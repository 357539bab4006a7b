from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from clock import Clock
from videosvc_queue.job import NewJob, Status
from videosvc_queue.store import Store
from videosvc_queue.tenants import TenantLimits
from videosvc_queue.tiers import Tier

NewJobs = Callable[..., NewJob]
LIMITS = TenantLimits(max_concurrent=100)


def test_a_doorbell_for_each_time_a_job_is_queued(store: Store, new_job: NewJobs) -> None:
    new = new_job(tier=Tier.BATCH)
    store.submit(new, LIMITS)
    (ring,) = store.due_outbox()
    assert (ring.job_id, ring.route, ring.tier) == (new.id, "toy", Tier.BATCH)
    assert store.due_outbox() == []  # taken
    store.mark_published([ring.id])
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.give_back(new.id, claim.fence)
    (again,) = store.due_outbox()
    assert again.job_id == new.id
    assert again.id > ring.id


def test_a_doorbell_taken_but_not_rung_is_due_again(
    database_url: str, clock: Clock, new_job: NewJobs
) -> None:
    with Store(database_url, clock) as store:
        for _ in range(3):
            store.submit(new_job(), LIMITS)
        taken = store.due_outbox(limit=2)
        assert len(taken) == 2
        store.mark_published([taken[0].id])
        clock.now += 5
        assert {ring.job_id for ring in store.due_outbox()} == {"job_0001", "job_0002"}


def test_rings_needed_says_where_jobs_wait(store: Store, new_job: NewJobs) -> None:
    assert store.rings_needed() == []
    store.submit(new_job(tier=Tier.BATCH), LIMITS)
    store.submit(new_job(route="wan"), LIMITS)
    for _ in range(2):
        store.submit(new_job(tier=Tier.BATCH), LIMITS)
    found = [(waiting.route, waiting.tier, waiting.jobs) for waiting in store.rings_needed()]
    assert found == [("wan", Tier.INTERACTIVE, 1), ("toy", Tier.BATCH, 3)]
    assert [waiting.route for waiting in store.rings_needed(["toy"])] == ["toy"]


def test_webhooks_are_written_with_the_end(store: Store, new_job: NewJobs) -> None:
    done, cancelled, silent = (new_job(webhook_url=url) for url in ("https://a.example", "https://b.example", None))
    for new in (done, cancelled, silent):
        store.submit(new, LIMITS)
    assert store.due_webhooks() == []
    claim = store.claim(["toy"], "worker-1")
    assert claim is not None
    store.finish(done.id, claim.fence, Status.COMPLETED, result={}, charge_usd=Decimal(0))
    store.cancel(cancelled.id, "ann")
    store.cancel(silent.id, "ann")
    messages = store.due_webhooks()
    assert [(message.job_id, message.event, message.url) for message in messages] == [
        (done.id, Status.COMPLETED, "https://a.example"), (cancelled.id, Status.CANCELLED, "https://b.example"),
    ]
    assert store.due_webhooks() == []


def test_a_webhook_is_tried_until_delivered_or_given_up(
    database_url: str, clock: Clock, new_job: NewJobs
) -> None:
    with Store(database_url, clock) as store:
        new = new_job(webhook_url="https://a.example")
        store.submit(new, LIMITS)
        store.cancel(new.id, "ann")
        (first,) = store.due_webhooks()
        store.webhook_failed(first.id, "HTTP 500", retry_at=clock() + 30)
        assert store.due_webhooks() == []
        clock.now += 30
        (second,) = store.due_webhooks()
        assert (second.id, first.attempts, second.attempts) == (first.id, 1, 2)
        store.webhook_delivered(second.id)
        clock.now += 1e6
        assert store.due_webhooks() == []


def test_webhooks_of_every_tenant_have_their_turn(database_url: str, clock: Clock, new_job: NewJobs) -> None:
    with Store(database_url, clock) as store:
        for tenant in (*["ann"] * 6, "bob", "cleo", "cleo"):
            new = new_job(tenant=tenant, webhook_url="https://a.example")
            store.submit(new, LIMITS)
            store.cancel(new.id, tenant)
            clock.now += 1
        first = store.due_webhooks(limit=6, per_tenant=4)
        assert [message.tenant for message in first] == ["ann"] * 3 + ["bob", "cleo", "cleo"]
        assert [message.job_id for message in first[:3]] == ["job_0000", "job_0001", "job_0002"]
        second = store.due_webhooks(limit=6, per_tenant=4, busy={"ann": 3})
        assert [message.job_id for message in second] == ["job_0003"]
        assert store.due_webhooks(limit=6, per_tenant=4, busy={"ann": 4}) == []
        assert len(store.due_webhooks()) == 2


def test_an_address_that_wants_no_more_gets_no_more(store: Store, new_job: NewJobs) -> None:
    gone, other = "https://gone.example", "https://other.example"
    ended, queued, kept = (new_job(webhook_url=url) for url in (gone, gone, other))
    for new in (ended, queued, kept):
        store.submit(new, LIMITS)
    store.cancel(ended.id, "ann")
    store.disable_webhook("ann", gone)
    store.cancel(queued.id, "ann")
    store.cancel(kept.id, "ann")
    assert [message.url for message in store.due_webhooks()] == [other]
