"""What `videosvc jobs` sends to ask for a clip or its price; the service says what is wrong with it."""

from __future__ import annotations

import math
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videosvc.engine.picture import Picture
from videosvc.errors import UserError

if TYPE_CHECKING:
    import httpx

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What the clip shows.", show_default=False)]
Model = Annotated[str | None, typer.Option(help="A model of the service, or auto: whichever does it cheapest.")]
Preset = Annotated[str | None, typer.Option(help="A preset of the service.")]
Seconds = Annotated[float | None, typer.Option(help="The clip's length.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels.")]
Fps = Annotated[int | None, typer.Option(help="Frames per second.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same clip.")]
NegativePrompt = Annotated[str | None, typer.Option(metavar="TEXT", help="What it must not show.")]
MaxCost = Annotated[float | None, typer.Option(metavar="USD", help="The most it may cost.")]
MaxCompute = Annotated[float | None, typer.Option(metavar="SECONDS", help="The most compute it may take.")]
OnCap = Annotated[str | None, typer.Option(metavar="degrade|reject", help="If that is too little.")]
MinQuality = Annotated[float | None, typer.Option(metavar="0..1", help="The cheapest plan expected to reach it.")]
Deadline = Annotated[float | None, typer.Option(metavar="SECONDS", help="Be done by then, or refuse.")]
Tier = Annotated[str | None, typer.Option(metavar="interactive|batch", help="batch is cheaper.")]


def request_body(**fields: object) -> dict[str, Any]:
    """The fields that were given. Raises UserError naming one that JSON cannot hold."""
    body = {name: value for name, value in fields.items() if value is not None}
    for name, value in body.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name}: {value:g} must be a finite number", param=name)
        # Bytes of a command line that are not UTF-8 arrive as lone surrogates.
        texts = [value] if isinstance(value, str) else chain(*value.items()) if isinstance(value, dict) else []
        if any(re.search("[\ud800-\udfff]", text) for text in texts):
            raise UserError(f"{name}: must be UTF-8 text", param=name)
    return body


def post(
    client: httpx.Client, path: str, body: dict[str, Any], picture_path: Path | None, headers: dict[str, str]
) -> dict[str, Any]:
    """The answer to a request, which is a form if a picture goes along. Raises UserError naming input_reference."""
    if picture_path is None:
        sent = client.post(path, json=body, headers=headers)
    else:
        files = {"input_reference": ("input_reference.png", Picture.load(picture_path).png, "image/png")}
        nested = {f"metadata[{key}]": value for key, value in body.pop("metadata", {}).items()}
        sent = client.post(path, data=body | nested, files=files, headers=headers)
    answer: dict[str, Any] = sent.json()
    return answer
