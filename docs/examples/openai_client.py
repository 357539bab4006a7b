"""The plain `openai` package against this service: nothing but `base_url` is ours.

    pip install openai
    python docs/examples/openai_client.py "a red balloon floats up over green hills" clip.mp4

VIDEOSVC_URL is where the service is, VIDEOSVC_API_KEY a key of `videosvc keys create` where it asks for one.
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI

prompt, output = sys.argv[1:3]
client = OpenAI(
    base_url=os.environ.get("VIDEOSVC_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("VIDEOSVC_API_KEY", "none"),
)

# What OpenAI's API has no name for goes into `extra_body`: here the price that must not be passed.
video = client.videos.create_and_poll(
    prompt=prompt, model="toyworld", size="64x64", extra_body={"preset": "balanced", "max_cost_usd": 0.01}
)
if video.status != "completed":
    raise SystemExit(f"{video.status}: {video.error.message if video.error else ''}")

for variant, path in (("video", output), ("thumbnail", output + ".webp"), ("spritesheet", output + ".jpg")):
    client.videos.download_content(video.id, variant=variant).write_to_file(path)

print(f"{output}: {video.seconds} s of {video.size}, charged {video.receipt['charged_usd']} USD")
