from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from api_service import Start
from eventually import eventually
from webhook_receiver import receiving


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_receiver_gets_the_video_as_it_ended(start: Start, tmp_path: Path, end: str) -> None:
    api = start(webhook_allow_private=True)
    with receiving() as receiver, api.client() as client:
        video = api.create(webhook_url=receiver.url, metadata={"scene": "3"})
        if end == "completed":
            api.complete(tmp_path)
        elif end == "failed":
            api.fail("generation_failed", "latents are not finite")
        else:
            client.post(f"/v1/videos/{video['id']}/cancel")
        eventually(lambda: receiver.got)
        ((_, headers, body),) = receiver.got
        message: dict[str, Any] = Webhook(client.get("/v1/me").json()["webhook_secret"]).verify(body, headers)
        assert message["type"] == f"video.{end}"
        assert datetime.fromisoformat(message["timestamp"]).timestamp() == pytest.approx(video["created_at"], abs=60)
        assert message["data"] == client.get(f"/v1/videos/{video['id']}").json()
    assert (message["data"]["status"], message["data"]["metadata"]) == (end, {"scene": "3"})
    assert (message["data"]["error"] is None) == (end == "completed")
