"""The options of a request, the same for every command that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What the clip shows.", show_default=False)]
Model = Annotated[
    str | None, typer.Option(help="A model of `videosvc models list`, or auto: whichever does it cheapest.")
]
OneModel = Annotated[str | None, typer.Option("--model", help="A model of `videosvc models list`.")]
Preset = Annotated[str | None, typer.Option(help="A preset of `videosvc presets list`.")]
Seconds = Annotated[float | None, typer.Option(help="The clip's length.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels.")]
Fps = Annotated[int | None, typer.Option(help="Frames per second.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same clip; random if not given.")]
InputReference = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A PNG, JPEG or WebP picture to start from: the first frame.")
]
MaxCost = Annotated[str | None, typer.Option(metavar="USD", help="What the clip may cost at most.")]
MaxCompute = Annotated[
    str | None, typer.Option(metavar="SECONDS", help="What the clip may take of the device at most.")
]
OnCap = Annotated[
    str | None,
    typer.Option(
        metavar="degrade|reject",
        help="When that is too little: trade quality for it, or refuse.",
        show_default="degrade",
    ),
]
MinQuality = Annotated[
    str | None,
    typer.Option(metavar="0..1", help="Take the cheapest plan that is expected to reach it, as `tune` measured."),
]
Deadline = Annotated[str | None, typer.Option(metavar="SECONDS", help="Be done by then, or refuse.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
