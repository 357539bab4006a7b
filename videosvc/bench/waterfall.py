"""Runs the waterfall: stock diffusers, our engine doing the same, then a lever more a row, all in every round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from videosvc.bench.clips import Made, make_stock
from videosvc.bench.engines import TRIAL_STEPS, Engines, tried
from videosvc.bench.line import Line, add_round
from videosvc.bench.measure import Measure
from videosvc.bench.memory import cache_bytes, clip_latents, decode_bytes, peak_bytes
from videosvc.bench.products import Shape, StepProducts, largest_product, product_of, product_rates, step_products
from videosvc.bench.rounds import rounds
from videosvc.bench.rows import COMPARED, STOCK, Row, Rung, climb
from videosvc.bench.stock import open_stock, stock_frames
from videosvc.engine.plan import Plan
from videosvc.families.base import Family
from videosvc.pricing.clip_frames import Frames
from videosvc.pricing.rate import Rate
from videosvc.pricing.scores import Judge

if TYPE_CHECKING:
    from diffusers import AnyFlowFARPipeline

LONGER = 4  # times as long: a clip that shows whether memory grows with length


@dataclass(frozen=True, slots=True)
class Waterfall:
    """What was measured."""

    lines: tuple[Line, ...]  # stock's first
    product: Shape  # rows, inner, columns
    rates: Mapping[str, Sequence[float]]  # of that product by name, billions of operations a second, one a round
    sequences: Mapping[str, Sequence[float]]  # of all products of a step, by the step's weights; the same
    operations: int  # of a step of `COMPARED`
    decode_seconds: tuple[float, float]  # lengths that `Line.decode_bytes` is about

    def measures(self) -> list[Measure]:
        size = "x".join(map(str, self.product))
        products = [Measure(f"{name}, {size}", "Gop/s", tuple(taken)) for name, taken in self.rates.items()]
        products += [Measure(f"products of a step, {name}", "Gop/s", tuple(of)) for name, of in self.sequences.items()]
        return [measure for line in self.lines for measure in line.measures()] + products


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that stays the same during a run."""

    engines: Engines
    base: Plan  # what stock runs: many steps, guided, no lever pulled
    prompts: Sequence[str]  # a round each
    judges: Sequence[Judge]  # of the first rounds' clips; none where no probe is
    rate: Rate
    seed: int  # of the first round; the next one's is one more
    rows: Sequence[Row]

    def run(self, on_progress: Callable[[float], None] = lambda share: None) -> Waterfall:
        """`on_progress` is told the share of the rounds that is done. Raises what loading a model raises."""
        entry = self.engines.entry
        family = self.engines.plain.family
        stock = cache(partial(open_stock, entry.folder(), family.device))  # its row says so if it cannot be loaded
        product = largest_product(entry, family.spec, self.base)
        rates: dict[str, list[float]] = defaultdict(list)
        sequences: dict[str, list[float]] = defaultdict(list)
        with TemporaryDirectory() as name:
            folder = Path(name)

            def by_stock(prompt: str, seed: int, plan: Plan = self.base) -> Made:
                return make_stock(stock(), family, replace(plan, prompt=prompt, seed=seed), folder / "stock.mp4")

            first = self.prompts[0]
            short = replace(self.base, prompt=first, steps=TRIAL_STEPS)
            base = Rung(STOCK, self.base, refused=tried(lambda: by_stock(first, self.seed, short)))
            trial = partial(self.engines.refusal, folder=folder)
            rungs = climb(replace(self.base, prompt=first), self.rows, trial)
            lines = tuple(Line(rung.name, rung.levers, rung.refused) for rung in (base, *rungs))

            compared = next(rung.plan for rung in rungs if rung.name == COMPARED)
            steps = self._steps(rungs, compared)
            makers: dict[str, Callable[[str, int], Made]] = {} if base.refused else {STOCK: by_stock}
            makers |= {rung.name: self._maker(rung, folder) for rung in rungs if not rung.refused}
            for turn, made in enumerate(rounds(makers, self.prompts, self.seed, on_progress)):
                add_round(lines, made, self.base.clip_seconds)
                for line in lines:
                    if turn < len(self.judges) and line.refused is None:
                        line.right.append(self.judges[turn](Frames(made[line.name].frames.numpy(), self.base.fps)))
                for way, taken in product_rates(family.device, product).items():
                    rates[way].append(taken)
                for weights, products in steps.items():
                    sequences[weights].append(products.operations / products.seconds() / 1e9)

        operations = steps[compared.weights].operations
        lengths = (self.base.seconds, min(LONGER * self.base.seconds, entry.max_seconds))
        known: dict[str, tuple[int | None, ...]] = {}  # by the lever; rows share them
        for line, rung in zip(lines, (base, *rungs), strict=True):
            if line.refused is not None:
                continue
            line.price_usd = self.rate.price(median(line.compute_s))
            if rung is base:
                line.decode_bytes = _peaks(partial(_stock_decode_bytes, stock(), family, self.base), lengths)
                continue
            plan, ours = rung.plan, self.engines.of(rung.plan).family
            if plan.decode not in known:
                known[plan.decode] = _peaks(partial(decode_bytes, ours, plan), lengths)
            line.decode_bytes, line.cache_bytes = known[plan.decode], cache_bytes(ours, plan)
            if plan.guidance_scale == compared.guidance_scale:
                # A row of clips at once has no steps of its own.
                reached = [operations / step_s / 1e9 for step_s in line.step_s]
                line.share = _shares(reached, rates[product_of(plan.weights, ours.dtype, ours.device)])
                line.sequence_share = _shares(reached, sequences[plan.weights])
        return Waterfall(lines, product, rates, sequences, operations, lengths)

    def _steps(self, rungs: Sequence[Rung], compared: Plan) -> dict[str, StepProducts]:
        """What a step of `compared` multiplies, with each kind of weights that a rung has."""
        kinds = {compared.weights, *(rung.plan.weights for rung in rungs if not rung.refused)}
        plans = {weights: replace(compared, weights=weights) for weights in sorted(kinds)}
        native = self.engines.plain.family
        return {weights: step_products(native, self.engines.of(plan).family, plan) for weights, plan in plans.items()}

    def _maker(self, rung: Rung, folder: Path) -> Callable[[str, int], Made]:
        return lambda prompt, seed: self.engines.make(rung, prompt, seed, folder)


def _stock_decode_bytes(stock: AnyFlowFARPipeline, family: Family, plan: Plan, seconds: float) -> int:
    latents = clip_latents(family, replace(plan, seconds=seconds))
    return peak_bytes(lambda: stock_frames(stock, latents), family.device)


def _shares(reached: Sequence[float], rates: Sequence[float]) -> list[float]:
    return [step / rate for step, rate in zip(reached, rates, strict=False)]


def _peaks(peak: Callable[[float], int], lengths: Sequence[float]) -> tuple[int | None, ...]:
    """None where the device has too little memory."""
    peaks: list[int | None] = []
    for seconds in lengths:
        try:
            peaks.append(peak(seconds))
        except RuntimeError:
            peaks.append(None)
    return tuple(peaks)
