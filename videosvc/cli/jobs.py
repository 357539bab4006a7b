"""`videosvc jobs`: a service's videos, over HTTP. VIDEOSVC_URL says where it is, VIDEOSVC_API_KEY is the key."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from videosvc.cli.job_request import (
    Deadline,
    Fps,
    MaxCompute,
    MaxCost,
    MinQuality,
    Model,
    NegativePrompt,
    OnCap,
    Preset,
    Prompt,
    Seconds,
    Seed,
    Size,
    Tier,
    post,
    request_body,
)
from videosvc.cli.request_options import InputReference
from videosvc.cli.tables import print_table
from videosvc.config.request import check_output, check_writable
from videosvc.errors import GenerationError, UserError

if TYPE_CHECKING:
    import httpx

app = typer.Typer(help="Videos of a running service, over HTTP.", no_args_is_help=True)

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 30
REFUSED_BY_CAP = 3  # exit code
CAP_CODES = ("cap_too_low", "compute_cap_exceeded")

VideoId = Annotated[str, typer.Argument(metavar="ID", help="A video's id.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the JSON answer and nothing else.")]


@app.command()
def submit(
    prompt: Prompt,
    model: Model = None,
    preset: Preset = None,
    seconds: Seconds = None,
    size: Size = None,
    fps: Fps = None,
    seed: Seed = None,
    negative_prompt: NegativePrompt = None,
    input_reference: InputReference = None,
    max_cost: MaxCost = None,
    max_compute: MaxCompute = None,
    on_cap: OnCap = None,
    min_quality: MinQuality = None,
    deadline: Deadline = None,
    tier: Tier = None,
    quote_id: Annotated[str | None, typer.Option(metavar="ID", help="At the price of this `jobs quote`.")] = None,
    webhook_url: Annotated[str | None, typer.Option(help="Told of the end.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Given back with the video; any number of times.")
    ] = None,
    idempotency_key: Annotated[str | None, typer.Option(metavar="KEY", help="Sent twice it is still one.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for its end.")] = False,
    json_output: Json = False,
) -> None:
    """Queue a clip; prints its id."""
    if idempotency_key is not None and not re.fullmatch(r"[\x21-\x7e]+", idempotency_key):
        raise UserError("idempotency_key: must be ASCII characters without spaces", param="idempotency_key")
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    body = request_body(
        prompt=prompt, model=model, preset=preset, seconds=seconds, size=size, fps=fps, seed=seed,
        negative_prompt=negative_prompt, max_cost_usd=max_cost, max_compute_seconds=max_compute, on_cap=on_cap,
        min_quality=min_quality, deadline_seconds=deadline, tier=tier, quote_id=quote_id, webhook_url=webhook_url,
        metadata=_metadata(metadata),
    )  # fmt: skip
    with _client() as client:
        video = post(client, "/v1/videos", body, input_reference, headers)
        if watch:
            print(f"{video['id']}: submitted", file=sys.stderr)  # it goes on if this is stopped
            video = _watch(client, video["id"])
    typer.echo(json.dumps(video) if json_output else video["id"])
    _fail_if_failed(video, watch)


@app.command()
def quote(
    prompt: Prompt,
    model: Model = None,
    preset: Preset = None,
    seconds: Seconds = None,
    size: Size = None,
    fps: Fps = None,
    seed: Seed = None,
    negative_prompt: NegativePrompt = None,
    input_reference: InputReference = None,
    max_cost: MaxCost = None,
    max_compute: MaxCompute = None,
    on_cap: OnCap = None,
    min_quality: MinQuality = None,
    deadline: Deadline = None,
    tier: Tier = None,
    json_output: Json = False,
) -> None:
    """Ask what a clip would cost at most; `submit --quote-id` makes it at that price."""
    body = request_body(
        prompt=prompt, model=model, preset=preset, seconds=seconds, size=size, fps=fps, seed=seed,
        negative_prompt=negative_prompt, max_cost_usd=max_cost, max_compute_seconds=max_compute, on_cap=on_cap,
        min_quality=min_quality, deadline_seconds=deadline, tier=tier,
    )  # fmt: skip
    with _client() as client:
        quoted = post(client, "/v1/quotes", body, input_reference, {})
    typer.echo(json.dumps(quoted) if json_output else _quote_line(quoted))


@app.command()
def status(video_id: VideoId, json_output: Json = False) -> None:
    """Print where a video stands."""
    with _client() as client:
        video = _get(client, video_id)
    typer.echo(json.dumps(video) if json_output else _line(video))


@app.command()
def watch(video_id: VideoId, json_output: Json = False) -> None:
    """Wait for a video's end, behind a progress bar. Exit code 4 if it failed or was cancelled, 3 for its cap."""
    with _client() as client:
        video = _watch(client, video_id)
    typer.echo(json.dumps(video) if json_output else _line(video))
    _fail_if_failed(video, True)


@app.command()
def cancel(video_id: VideoId, json_output: Json = False) -> None:
    """Stop a video; what ran is charged."""
    with _client() as client:
        video = client.post(f"/v1/videos/{_id(video_id)}/cancel").json()
    typer.echo(json.dumps(video) if json_output else _line(video))


@app.command()
def download(
    video_id: VideoId,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.", show_default=False)],
    variant: Annotated[str, typer.Option(metavar="video|thumbnail|spritesheet", help="Which file.")] = "video",
) -> None:
    """Fetch a completed video."""
    check = check_output if variant == "video" else check_writable
    check(output)
    part = output.with_name(f".{output.name}.part")
    with _client() as client:
        path = f"/v1/videos/{_id(video_id)}/content"
        try:
            with client.stream("GET", path, params={"variant": variant}) as answer, part.open("wb") as file:
                for piece in answer.iter_bytes():
                    file.write(piece)
            part.replace(output)
        finally:
            part.unlink(missing_ok=True)
    typer.echo(f"{output}: {output.stat().st_size} bytes", err=True)


@app.command("list")
def list_videos(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on behind this one.")] = None,
    json_output: Json = False,
) -> None:
    """List the videos, newest first."""
    with _client() as client:
        query: dict[str, str | int] = {"limit": limit} | ({"after": after} if after else {})
        page = client.get("/v1/videos", params=query).json()
    if json_output:
        typer.echo(json.dumps(page))
        return
    table = Table("id", "status", "%", "size", "seconds", "prompt", box=None, pad_edge=False)
    for video in page["data"]:
        numbers = (str(video["progress"]), video["size"], video["seconds"])
        table.add_row(video["id"], video["status"], *numbers, video["prompt"][:40])
    print_table(table)


def _metadata(pairs: list[str] | None) -> dict[str, str] | None:
    metadata = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UserError(f"metadata: {pair!r} must be KEY=VALUE", param="metadata")
        if key in metadata:
            raise UserError(f"metadata: {key!r} is there twice", param="metadata")
        metadata[key] = value
    return metadata or None


def _quote_line(quoted: dict[str, Any]) -> str:
    plan, until = quoted["plan"], datetime.fromtimestamp(quoted["expires_at"])
    parts = [
        f"{quoted['id']}: {quoted['price_usd']:.9f} USD at most",
        f"{quoted['price_per_second_usd']:.9f} a second of the clip",
        f"{plan['size']}, {plan['frames']} frames at {plan['fps']} fps, steps {plan['steps']}",
        f"done in about {quoted['eta_seconds']:.0f} s",
        f"binding until {until:%H:%M:%S}",
    ]
    parts += [f"traded: {trade['what']} {trade['from']} -> {trade['to']}" for trade in plan["traded"]]
    return "; ".join(parts)


def _watch(client: httpx.Client, video_id: str) -> dict[str, Any]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("queued", total=100)
        while True:
            answer = client.get(f"/v1/videos/{_id(video_id)}")
            video: dict[str, Any] = answer.json()
            bar.update(task, completed=video["progress"], description=video["status"])
            if video["status"] not in ("queued", "in_progress"):
                break
            time.sleep(int(answer.headers.get("openai-poll-after-ms", "1000")) / 1000)
    for warning in video.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)
    return video


def _get(client: httpx.Client, video_id: str) -> dict[str, Any]:
    video: dict[str, Any] = client.get(f"/v1/videos/{_id(video_id)}").json()
    return video


def _id(text: str) -> str:
    """As a part of a path. Raises UserError."""
    if not text.replace("_", "").replace("-", "").isalnum():
        raise UserError(f"ID: {text!r} is no video's id", param="video_id")
    return text


def _line(video: dict[str, Any]) -> str:
    parts = [f"{video['id']}: {video['status']}, {video['progress']} %"]
    if video["queue_position"] is not None:
        parts.append(f"{video['queue_position']} before it")
    if video["eta_seconds"] is not None:
        parts.append(f"about {video['eta_seconds']:.0f} s to go")
    if video["receipt"] is not None:
        parts.append(f"charged {video['receipt']['charged_usd']:.9f} USD")
    if video["error"] is not None:
        parts.append(video["error"]["message"])
    return ", ".join(parts)


def _fail_if_failed(video: dict[str, Any], waited: bool) -> None:
    if waited and video["status"] != "completed":
        problem = video["error"] or {"code": video["status"], "message": "it did not complete"}
        failure = GenerationError(f"{problem['code']}: {problem['message']}")
        if problem["code"] in CAP_CODES:
            failure.exit_code = REFUSED_BY_CAP
        raise failure


@contextmanager
def _client() -> Iterator[httpx.Client]:
    """A client whose error answers are UserErrors: exit code 2, 3 if a cap refused, 4 if the service failed."""
    import httpx

    url, key = os.environ.get("VIDEOSVC_URL", DEFAULT_URL), os.environ.get("VIDEOSVC_API_KEY")
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UserError("VIDEOSVC_API_KEY: must be a key as `videosvc keys create` shows it")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(
            base_url=url, headers=headers, timeout=TIMEOUT_S, event_hooks={"response": [_raise_problem]}
        ) as client:
            yield client
    except httpx.HTTPError as error:
        raise GenerationError(f"VIDEOSVC_URL = {url!r}: {error or type(error).__name__}") from error
    except httpx.InvalidURL as error:
        raise UserError(f"VIDEOSVC_URL = {url!r}: {error}") from error


def _raise_problem(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    answer.read()
    try:
        problem = answer.json()["error"]
        code, message, param = problem["code"], problem["message"], problem["param"]
    except (ValueError, LookupError, TypeError):
        raise GenerationError(f"{answer.url} answered {answer.status_code}; is that a videosvc?") from None
    if answer.status_code >= 500:
        raise GenerationError(message)
    raise UserError(message, param, exit_code=REFUSED_BY_CAP if code in CAP_CODES else 2)
