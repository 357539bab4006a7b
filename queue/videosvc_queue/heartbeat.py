"""The thread that says a job's worker is alive, whatever its main thread computes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from videosvc_queue.job import Beat, Claim
from videosvc_queue.store import Store

log = logging.getLogger(__name__)


@contextmanager
def heartbeat(store: Store, claim: Claim, every_s: float) -> Iterator[None]:
    """Beats from entering to leaving, or until the lease is lost. The job itself hears of that at its next step."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every_s):
            try:
                if store.beat(claim.job.id, claim.fence) is Beat.LOST:
                    return
            except SQLAlchemyError as error:
                log.warning("a heartbeat of job %s did not reach the database: %s", claim.job.id, error)

    thread = threading.Thread(target=run, name="videosvc-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
