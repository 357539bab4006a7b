"""`videosvc generate`: one clip in this process, no server."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from videosvc.cli.engine import open_engine
from videosvc.config.request import Request, check_output, resolve_plan
from videosvc.config.settings import config_dir, load_settings

if TYPE_CHECKING:
    from videosvc.engine.events import Event
    from videosvc.engine.generate import Engine
    from videosvc.engine.meter import ComputeReceipt
    from videosvc.engine.plan import Plan


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the clip shows.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The MP4 to write.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="A model of `videosvc models list`.")] = None,
    preset: Annotated[str | None, typer.Option(help="A preset of `videosvc presets list`.")] = None,
    seconds: Annotated[float | None, typer.Option(help="The clip's length.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels.")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames per second.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same clip; random if not given.")
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Make a clip from a prompt."""
    folder = config_dir()
    settings = load_settings(folder)
    check_output(output)
    request = Request(prompt, None, model, preset, seconds, size, fps, seed)
    resolved = resolve_plan(request, folder, settings)
    with _terminated_as_exit():
        receipt = _run(open_engine(resolved.entry, settings.device), resolved.plan, output)
    if json_output:
        answer = {
            "output": str(output),
            "plan": {**resolved.plan.as_dict(), "seed": resolved.plan.seed},
            "quote": None,
            "receipt": receipt.as_dict(),
        }
        typer.echo(json.dumps(answer))
    else:
        typer.echo(_summary(resolved.plan, resolved.preset.name, output, receipt))


def _run(engine: Engine, plan: Plan, output: Path) -> ComputeReceipt:
    """Runs the plan to its end behind a progress bar; whatever stops it, the engine leaves no half file."""
    from videosvc.engine.events import Done, TextEncoded

    with _progress_bar() as bar, closing(engine.run(plan, output)) as events:
        task = bar.add_task("text", total=1.0)
        for event in events:
            bar.update(task, completed=event.progress, description=_description(event))
            if isinstance(event, TextEncoded) and event.unknown_words:
                words = ", ".join(event.unknown_words)
                # Not through rich: it would wrap the line and read [brackets] in a prompt as markup.
                bar.stop()
                print(f"warning: the model never saw these words: {words}", file=sys.stderr)
                bar.start()
            if isinstance(event, Done):
                return event.receipt
    raise AssertionError("the engine ended without a Done event")


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _description(event: Event) -> str:
    from videosvc.engine.events import StepDone

    if isinstance(event, StepDone):
        return f"chunk {event.chunk + 1}/{event.chunks} step {event.step}/{event.steps}"
    return "working"


def _summary(plan: Plan, preset: str, output: Path, receipt: ComputeReceipt) -> str:
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in receipt.by_stage.items())
    return "\n".join(
        (
            f"{output}: {plan.size}, {plan.frames / plan.fps:g} s, {plan.frames} frames at {plan.fps} fps",
            f"model {plan.model}, preset {preset}: {plan.steps} steps of {plan.sampler}, seed {plan.seed}",
            f"compute {receipt.compute_seconds:.2f} s on {receipt.device}: {stages}",
        )
    )


@contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that the temporary file is removed on the way."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
