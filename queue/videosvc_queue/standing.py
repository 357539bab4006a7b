"""What stands before each queued job, read for all of them at once: asking for one at a time, as `Lookup.ahead` does,
reads the queue again for each."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from sqlalchemy import select

from videosvc_queue.database import Database
from videosvc_queue.fair_share import FAIR_ORDER
from videosvc_queue.job import Ahead, Job, Status
from videosvc_queue.lookup import LEFT_S
from videosvc_queue.tables import jobs, workers
from videosvc_queue.workers import LIVE_S

Place = tuple[int, float, float, str]  # in FAIR_ORDER

_QUEUED = (
    select(jobs.c.route, jobs.c.predicted_s, *FAIR_ORDER)
    .where(jobs.c.status == Status.QUEUED)
    .order_by(jobs.c.route, *FAIR_ORDER)
)
_RUNNING = (
    select(jobs.c.route, LEFT_S).where(jobs.c.status == Status.IN_PROGRESS).group_by(jobs.c.route)
)
_LIVE = select(workers.c.name, workers.c.route)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The queued jobs of one route."""

    places: list[Place]
    up_to_s: list[float]  # predicted compute of the first 0, 1, 2, … of them


@dataclass(frozen=True, slots=True)
class Standing:
    """The whole queue as it was; what moved while it was read may be in it twice, or not at all."""

    waiting: Mapping[str, Waiting]  # by route
    running_s: Mapping[str, float]  # what is left of the running jobs, by route
    workers: Mapping[str, frozenset[str]]  # routes of each live one, by its name

    def ahead(self, job: Job) -> Ahead:
        """As `Lookup.ahead` then. The job need not have been queued by then."""
        place = (job.tier.priority, job.virtual_start, job.created_at, job.id)
        takers = [routes for routes in self.workers.values() if job.route in routes]
        count, compute_s = 0, 0.0
        for route in {job.route}.union(*takers):
            compute_s += self.running_s.get(route, 0.0)
            if (waiting := self.waiting.get(route)) is not None:
                before = bisect_left(waiting.places, place)
                count += before
                compute_s += waiting.up_to_s[before]
        return Ahead(count, compute_s, len(takers))


class Standings(Database):
    def standing(self) -> Standing:
        """Takes a millisecond for each 250 queued jobs."""
        places, predicted_s = defaultdict[str, list[Place]](list), defaultdict[str, list[float]](list)
        names = defaultdict[str, set[str]](set)
        with self._read() as sql:
            for route, seconds, *place in sql.execute(_QUEUED):
                places[route].append(tuple(place))
                predicted_s[route].append(seconds)
            running = {route: left_s for route, left_s in sql.execute(_RUNNING)}
            for name, route in sql.execute(_LIVE.where(workers.c.seen_at > self._clock() - LIVE_S)):
                names[name].add(route)
        waiting = {
            route: Waiting(places[route], list(accumulate(predicted_s[route], initial=0.0))) for route in places
        }
        return Standing(waiting, running, {name: frozenset(routes) for name, routes in names.items()})
