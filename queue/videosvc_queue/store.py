"""The durable queue: everything of it that is in SQL."""

from __future__ import annotations

from videosvc_queue.balances import Balances
from videosvc_queue.claim import Claiming
from videosvc_queue.deliveries import Deliveries
from videosvc_queue.endings import Endings
from videosvc_queue.keys import Keys
from videosvc_queue.lease import Leases
from videosvc_queue.ledger import Ledger
from videosvc_queue.lookup import Lookup
from videosvc_queue.outbox import Outbox
from videosvc_queue.preemption import Preemption
from videosvc_queue.quotes import Quotes
from videosvc_queue.retention import Retention
from videosvc_queue.standing import Standings
from videosvc_queue.submit import Submission
from videosvc_queue.tenants import Tenants
from videosvc_queue.workers import Workers


class Store(
    Submission,  # submit, replay
    Lookup,  # get, find, list, ahead
    Standings,  # standing
    Claiming,  # next_job, claim
    Leases,  # beat, watch, give_back, heartbeats, requeue
    Preemption,  # must_make_way
    Endings,  # finish, cancel, delete
    Outbox,  # due_outbox, mark_published, rings_needed
    Deliveries,  # due_webhooks, webhook_delivered, webhook_failed, disable_webhook
    Retention,  # expired_artifacts, mark_removed, without_job, tidy
    Ledger,  # usage, spent_today
    Balances,  # credit, balance
    Tenants,  # upsert_tenant, tenant
    Keys,  # create_key, find_key, list_keys, revoke_key, has_keys
    Quotes,  # save_quote, forget_quote, get_quote
    Workers,  # register_worker, forget_worker, live_workers, has_idle_worker
):
    """Jobs, money, tenants and workers in one database (`Database` has opening, closing and `migrate`).

    Every method is one transaction, safe in threads, and raises sqlalchemy.exc.OperationalError if the database cannot
    be reached or stays locked for 5 seconds; on PostgreSQL also if a statement takes 30 seconds, and
    sqlalchemy.exc.TimeoutError if all connections of this process are in use as long.
    """
