"""`videosvc generate`: one clip in this process, no server."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videosvc.cli.kept_quotes import asked_for, take_quote
from videosvc.cli.progress import progress_bar
from videosvc.cli.request_options import (
    Deadline,
    Fps,
    InputReference,
    Json,
    MaxCompute,
    MaxCost,
    MinQuality,
    Model,
    OnCap,
    Preset,
    Prompt,
    Seconds,
    Seed,
    Size,
)
from videosvc.config.models import load_model
from videosvc.config.request import Request, check_output
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.loading import device_name, open_engine
from videosvc.engine.picture import Picture
from videosvc.engine.signals import STOPPING
from videosvc.errors import ConfigError
from videosvc.pricing.cap import Cap
from videosvc.pricing.goal import Goal
from videosvc.pricing.planner import Planner
from videosvc.pricing.quote import charge
from videosvc.pricing.receipt import full_receipt, partial_receipt, plan_as_run

if TYPE_CHECKING:
    from videosvc.engine.budget import ComputeCapExceeded
    from videosvc.engine.costs import ComputeCap
    from videosvc.engine.events import Event
    from videosvc.engine.generate import Engine
    from videosvc.engine.meter import ComputeReceipt
    from videosvc.engine.plan import Plan


def generate(
    prompt: Prompt,
    output: Annotated[Path, typer.Option("-o", "--output", help="The MP4 to write.", show_default=False)],
    model: Model = None,
    preset: Preset = None,
    seconds: Seconds = None,
    size: Size = None,
    fps: Fps = None,
    seed: Seed = None,
    input_reference: InputReference = None,
    max_cost: MaxCost = None,
    max_compute: MaxCompute = None,
    on_cap: OnCap = None,
    min_quality: MinQuality = None,
    deadline: Deadline = None,
    quote_id: Annotated[
        str | None, typer.Option(metavar="ID", help="By the plan and at the price of this `videosvc quote`.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Make a clip from a prompt."""
    folder = config_dir()
    settings = load_settings(folder)
    check_output(output)
    with suppress(ConfigError):  # a clip is no worse for a data folder that there cannot be
        settings.make_data_dir()
    wanted = Cap.parse(max_cost, max_compute, on_cap or "degrade")
    goal = Goal.parse(min_quality, deadline)
    planner = Planner(folder, settings, device_name(settings.device), cold=True)
    picture = None if input_reference is None else Picture.load(input_reference)
    if quote_id is None:
        request = Request(prompt, None, model, preset, seconds, size, fps, seed, picture)
        quote = planner.quote(request, wanted, goal=goal)
    else:
        asked = asked_for(
            prompt=prompt, model=model, preset=preset, seconds=seconds, size=size, fps=fps, seed=seed,
            max_cost=max_cost, max_compute=max_compute, on_cap=on_cap, min_quality=min_quality, deadline=deadline,
        )  # fmt: skip
        quote = take_quote(settings.data_dir, quote_id, asked, picture, planner.cost_model.device_name)
    costs, entry = planner.cost_model, load_model(folder, quote.plan.model)
    limit_s = quote.max_compute_s
    cap = None if limit_s is None else costs.compute_cap(quote.plan, entry, limit_s, cold=True)
    stopped: ComputeCapExceeded | None = None
    with _stopped_by_signals() as check_stopped:
        engine = open_engine(entry, settings.device, quote.plan.loading, settings.data_dir / "quantized")

        from videosvc.engine.budget import ComputeCapExceeded
        from videosvc.pricing.energy import EnergyMeter

        energy = EnergyMeter(engine.family.device)
        try:
            compute = _run(engine, quote.plan, output, cap, picture, check_stopped)
        except ComputeCapExceeded as error:
            if error.spent is None:
                raise
            stopped, compute = error, error.spent
    used = energy.read()
    with suppress(OSError):
        if stopped is None:
            costs.observe(quote.plan, entry, compute, cold=True)
        else:
            costs.observe_stopped(quote.plan, entry, stopped.slowness)
    if stopped is None:
        receipt = full_receipt(compute, quote, used)
    else:
        receipt = partial_receipt(compute, quote, charge(compute.compute_seconds, quote), used)
    plan = plan_as_run(compute, quote)
    written = output if stopped is None or stopped.kept is not None else None
    if json_output:
        shown = {**plan, "seed": quote.plan.seed}
        answer = {"output": written and str(written), "plan": shown, "quote": quote.as_dict(), "receipt": receipt}
        typer.echo(json.dumps(answer))
    else:
        if stopped is None:
            typer.echo(_file_line(plan, output))
        typer.echo(_summary(quote.plan, plan, quote.preset, receipt))
    if stopped is not None:
        raise stopped  # which says what there is of the clip


def _run(
    engine: Engine,
    plan: Plan,
    output: Path,
    cap: ComputeCap | None,
    picture: Picture | None,
    check_stopped: Callable[[], None],
) -> ComputeReceipt:
    """Runs the plan to its end behind a progress bar; whatever stops it, the engine leaves no half file."""
    from videosvc.engine.events import Done, TextEncoded

    with progress_bar() as bar, closing(engine.run(plan, output, None, cap, picture)) as events:
        task = bar.add_task("text", total=1.0)
        for event in events:
            check_stopped()
            bar.update(task, completed=event.progress, description=_description(event))
            if isinstance(event, TextEncoded) and event.warnings:
                # Not through rich: it would wrap the line and read [brackets] in a prompt as markup.
                bar.stop()
                for warning in event.warnings:
                    print(f"warning: {warning}", file=sys.stderr)
                bar.start()
            if isinstance(event, Done):
                return event.receipt
    raise AssertionError("the engine ended without a Done event")


def _description(event: Event) -> str:
    from videosvc.engine.events import StepDone

    if isinstance(event, StepDone):
        return f"chunk {event.chunk + 1}/{event.chunks} step {event.step}/{event.steps}"
    return "working"


def _file_line(plan: dict[str, Any], output: Path) -> str:
    name = str(output).encode(errors="replace").decode()  # of bytes that are not UTF-8
    return f"{name}: {plan['size']}, {plan['frames'] / plan['fps']:g} s, {plan['frames']} frames at {plan['fps']} fps"


def _summary(asked: Plan, plan: dict[str, Any], preset: str, receipt: dict[str, Any]) -> str:
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in receipt["by_stage"].items())
    lines = [
        f"model {plan['model']}, preset {preset}: {plan['steps']} steps of {plan['sampler']}, seed {asked.seed}",
        f"compute {receipt['compute_seconds']:.2f} s on {receipt['device']}: {stages}",
        f"price {receipt['charged_usd']:.9f} USD, {receipt['price_per_second_usd']:.9f} a second of the clip; "
        f"quoted {receipt['quoted_usd']:.9f}",
    ]
    lines += [f"traded for the cap: {trade['what']} {trade['from']} -> {trade['to']}" for trade in plan["traded"]]
    return "\n".join(lines)


@contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], None]]:
    """SIGTERM, and a terminal that is closed, unwind the stack as Ctrl-C does, so that the temporary file is removed on
    the way. What was to be ignored, as under nohup, is.

    Yields what to call now and then: a library in the midst of an import may have swallowed what a signal raised.
    """
    arrived: list[int] = []

    def check() -> None:
        if arrived:
            raise KeyboardInterrupt if arrived[0] == signal.SIGINT else SystemExit(128 + arrived[0])

    def stop(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        check()

    numbers = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
