"""Two services on one database and one Redis, as behind a load balancer."""

from __future__ import annotations

from pathlib import Path

from api_service import BALLOON, FILES, Api, Start
from videosvc_queue.tenants import TenantLimits


def test_any_replica_serves_any_job(start: Start, postgres_url: str, tmp_path: Path) -> None:
    first, second = (start(database_url=postgres_url, data_dir=tmp_path / "shared") for _ in range(2))
    with first.client() as one, second.client() as two:
        headers = {"Idempotency-Key": "order-17"}
        video = one.post("/v1/videos", json=BALLOON, headers=headers).json()
        assert two.post("/v1/videos", json=BALLOON, headers=headers).json()["id"] == video["id"]
        assert two.get(f"/v1/videos/{video['id']}").json()["status"] == "queued"
        with two.stream("GET", f"/v1/videos/{video['id']}/events") as events:
            lines = events.iter_lines()
            first.services.bus.publish(video["id"], "progress", {"progress": 50})
            assert 'data: {"progress": 50}' in lines
            first.complete(tmp_path)
            assert next(line for line in lines if line.startswith("event")) == "event: completed"
        for client in (one, two):
            assert client.get(f"/v1/videos/{video['id']}/content").content == FILES["video.mp4"]
        quote = one.post("/v1/quotes", json=BALLOON).json()
        assert two.post("/v1/videos", json={**BALLOON, "quote_id": quote["id"]}).json()["quote"] == quote


def test_they_count_requests_together(start: Start, tmp_path: Path) -> None:
    replicas: list[Api] = [start(data_dir=tmp_path / "shared") for _ in range(2)]
    replicas[0].services.store.upsert_tenant("default", TenantLimits(per_minute=2))
    codes = []
    for replica in (*replicas, *replicas):
        with replica.client() as client:
            codes.append(client.post("/v1/quotes", json=BALLOON).status_code)
    # A new minute may begin between two of them.
    assert codes.count(429) >= 1 or codes == [200] * 4
    assert codes[:2] == [200, 200]
