"""The receipt: what a job took, what it was charged, and what the levers saved. Every job that has ended has one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from videosvc.engine.plan import DRAFTED
from videosvc.pricing.energy import Energy, rated_energy
from videosvc.pricing.features import STAGE
from videosvc.pricing.money import usd
from videosvc.pricing.quote import Quote, charge

if TYPE_CHECKING:
    from videosvc.engine.meter import ComputeReceipt


def full_receipt(
    compute: ComputeReceipt,
    quote: Quote,
    energy: Energy | None = None,
    wasted_s: float = 0.0,
    batch_saved_s: float = 0.0,
) -> dict[str, Any]:
    """The `receipt` object of the public contract: money as numbers of USD, times in seconds of compute.

    `energy`: what a counter read of the whole job; None takes the device's watts from devices.toml. `wasted_s`: compute
    of earlier attempts that came to nothing. `batch_saved_s`: compute that sharing forwards with other clips saved.

    What the reference would have taken, and so what was saved, is as the quote foresaw it, at the pace of this run. A
    quote counts on no draft, no cached step and no landing: what they saved is of this run.
    """
    drafts_saved_s, landed_s = _drafts_saved_s(compute, quote), _landing_saved_s(compute, quote)
    beside_s = batch_saved_s + drafts_saved_s + landed_s
    pace = _pace(compute, quote, beside_s)
    levers = [
        {"name": saving.name, "saved_compute_seconds": round(pace * saving.saved_s, 4)} for saving in quote.savings
    ]
    if compute.shared_s:
        levers.append({"name": "batch", "saved_compute_seconds": round(batch_saved_s, 4)})
    if drafts_saved_s > 0:
        levers.append({"name": "drafts", "saved_compute_seconds": round(drafts_saved_s, 4)})
    if landed_s > 0:
        levers.append({"name": "landing", "saved_compute_seconds": round(landed_s, 4)})
    if quote.plan.step_cache != "none":
        left_out_s = max(0.0, quote.compute_s - compute.compute_seconds - beside_s)
        levers.append({"name": "skipped_steps", "saved_compute_seconds": round(left_out_s, 4)})
    charged = charge(compute.compute_seconds, quote)
    partial = partial_receipt(compute, quote, charged, energy, wasted_s)
    return {**partial, "baseline_compute_seconds": round(pace * quote.baseline_s, 4), "levers": levers}


def partial_receipt(
    compute: ComputeReceipt, quote: Quote, charged: Decimal, energy: Energy | None = None, wasted_s: float = 0.0
) -> dict[str, Any]:
    """Of a job that its worker ended before the clip was whole: no lever saved anything. Else as `full_receipt`."""
    clip_s = compute.frames / quote.plan.fps if compute.frames else quote.plan.clip_seconds
    total_s, all_wasted_s = compute.compute_seconds, compute.wasted_s + wasted_s
    return _receipt(compute.as_dict(), total_s, clip_s, quote, charged, energy, all_wasted_s)


def unattended_receipt(quote: Quote, heard: Mapping[str, Any]) -> dict[str, Any]:
    """Of a job that ended, free, without a worker's word: cancelled as it waited, or all its workers lost.

    `heard`: what its last worker had said: `device`, and seconds that came to nothing, of the last attempt (`spent_s`)
    and of those before (`lost_s`). Nothing heard is nothing measured: 0, and no device.
    """
    nothing = {
        "compute_seconds": 0.0,
        "by_stage": dict.fromkeys(STAGE.values(), 0.0),
        "device": heard.get("device"),
        "resumed": False,
    }
    clip_s = quote.plan.clip_seconds
    return _receipt(nothing, 0.0, clip_s, quote, Decimal(0), None, heard.get("spent_s", 0.0) + heard.get("lost_s", 0.0))


def _receipt(
    spent: Mapping[str, Any],
    compute_s: float,
    clip_s: float,
    quote: Quote,
    charged: Decimal,
    energy: Energy | None,
    wasted_s: float,
) -> dict[str, Any]:
    """`spent`: seconds by stage, and where; `compute_s`: the same, not rounded; `clip_s`: how long the clip is."""
    energy = energy or rated_energy(quote.rate.watts, compute_s + wasted_s)
    return {
        **spent,
        "device_usd_per_hour": float(quote.rate.usd_per_hour),
        "price_usd": float(usd(quote.rate.price(compute_s))),
        "price_per_second_usd": float(usd(charged / Decimal(repr(clip_s)))),
        "quoted_usd": float(quote.price_usd),
        "charged_usd": float(charged),
        "energy_joules": round(energy.joules, 3),
        "energy_source": energy.source,
        "baseline_compute_seconds": round(quote.baseline_s, 4),
        "levers": [],
        "wasted_compute_seconds": round(wasted_s, 4),
    }


def plan_as_run(compute: ComputeReceipt, quote: Quote) -> dict[str, Any]:
    """The `plan` object of the contract for what really ran: with what the run itself had to trade.

    `steps` is then the fewest that a chunk had; `frames` and `seconds` are of the part that a cap left.
    """
    plan = quote.plan_as_dict()
    if compute.frames:
        plan |= {"frames": compute.frames, "seconds": compute.frames / quote.plan.fps}
    if not (shortened := _cut_short(compute, quote)):
        return plan
    saved = quote.rate.price(_landing_saved_s(compute, quote))
    chunk = min(shortened, key=lambda chunk: shortened[chunk])
    most, fewest = quote.plan.steps_of(chunk), shortened[chunk]
    landed = {"what": "steps", "from": most, "to": fewest, "saves_usd": float(usd(saved))}
    return {**plan, "steps": fewest, "traded": [*plan["traded"], landed]}


def _drafts_saved_s(compute: ComputeReceipt, quote: Quote) -> float:
    """The steps that chunks whose draft was accepted did not need, at what this run's steps took."""
    if quote.plan.sampler != "draft":
        return 0.0
    needless = sum(quote.plan.most_steps - steps for steps in compute.steps if steps == DRAFTED)
    return needless * _step_s(compute) if needless else 0.0


def _landing_saved_s(compute: ComputeReceipt, quote: Quote) -> float:
    """The steps that the cap took away, at what this run's steps took."""
    shortened = _cut_short(compute, quote)
    needed = sum(quote.plan.steps_of(chunk) - steps for chunk, steps in shortened.items())
    return needed * _step_s(compute) if shortened else 0.0


def _step_s(compute: ComputeReceipt) -> float:
    forwards = sum(compute.steps) + len(compute.steps) - 1  # every chunk but the last one goes into the frame cache
    return compute.by_stage["denoise"] / forwards


def _pace(compute: ComputeReceipt, quote: Quote, beside_s: float) -> float:
    """How many times as long as foreseen the run took.

    `beside_s`: saved in this run, as it was not foreseen. A step cache may have skipped steps, nobody knows how many:
    what is quicker for it tells of no pace.
    """
    pace = (compute.compute_seconds + beside_s) / quote.compute_s
    return pace if quote.plan.step_cache == "none" else max(1.0, pace)


def _cut_short(compute: ComputeReceipt, quote: Quote) -> dict[int, int]:
    """Steps of each chunk that the cap shortened, by its number."""
    return {chunk: steps for chunk, steps in enumerate(compute.steps) if not quote.plan.is_whole(chunk, steps)}
