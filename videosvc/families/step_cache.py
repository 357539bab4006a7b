"""Step caches: neighbouring steps of a many-step model are alike, so some of them reuse what the one before computed.

diffusers has them as hooks that keep their state on the model. A clip here gets a transformer of its own for that,
whose modules are new and whose weights are the model's: nothing of it can reach another clip or job, and it ends with
the clip, however that ends.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

# Relative change of the first block's residual up to which the other blocks are skipped: diffusers' default.
FIRST_BLOCK_THRESHOLD = 0.05
# MagCache (arXiv 2506.09045): the error that skipped steps may add up to, how many in a row, and the share of the first
# steps that are never skipped: diffusers' defaults.
MAG_THRESHOLD, MAG_MOST_SKIPS, MAG_RETENTION = 0.06, 3, 0.2
# SeaCache (arXiv 2602.18993): relative change, summed over steps, up to which the blocks' residual is prolonged.
SEA_THRESHOLD = 0.25
# TaylorSeer (arXiv 2503.06923): every fifth step is computed once the first three were; the others prolong the last
# projection in a straight line. Its patterns name what Wan's modules are called: diffusers' own match nothing there.
TAYLOR_INTERVAL, TAYLOR_FIRST_STEPS, TAYLOR_ORDER = 5, 3, 1
TAYLOR_PREDICTED, TAYLOR_SKIPPED = [r"proj_out"], [r"blocks\.\d+"]


@dataclass(frozen=True, slots=True)
class StepCache:
    """Which cache a clip runs with, and the noise levels of the schedule that it counts steps by."""

    name: str  # first_block, mag, sea, taylor_seer
    sigmas: tuple[float, ...]

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def step_at(self, t: float) -> int:
        """The step that begins at level `t`; for a level between two, as after a cap, the nearest."""
        return min(range(self.steps), key=lambda step: abs(self.sigmas[step] - t))


class CachedTransformer:
    """A transformer under a step cache, for one clip."""

    def __init__(self, transformer: Any, cache: StepCache, mag_ratios: Sequence[float] = ()) -> None:
        """`mag_ratios`: of the checkpoint; only MagCache reads them."""
        self.model: Any = _sharing_weights(transformer)
        self._cache = cache
        self._mag_ratios = tuple(mag_ratios)
        self._enabled = False

    @contextmanager
    def call(self, branch: str, t: float) -> Iterator[Any]:
        """The model to call at noise level `t`. `branch`: cond or uncond, each of which has a cache of its own."""
        step = self._cache.step_at(t)
        if not self._enabled:  # now, as a resumed clip does not begin at the first step
            self.model.enable_cache(_CONFIGS[self._cache.name](self._cache.steps, step, self._mag_ratios))
            self._enabled = True
        with self.model.cache_context(branch, step_index=step, sigma=t, num_inference_steps=self._cache.steps):
            yield self.model

    def close(self) -> None:
        """Gives up what is remembered: hooks and modules refer to each other, and would hold it for a while."""
        if self._enabled:
            self.model.disable_cache()
            self._enabled = False


def _sharing_weights(module: nn.Module) -> nn.Module:
    """The same tree of new modules around the same parameters and buffers."""
    twin = copy.copy(module)
    twin._modules = {
        name: None if child is None else _sharing_weights(child) for name, child in module._modules.items()
    }
    return twin


def _first_block(steps: int, first: int, mag_ratios: tuple[float, ...]) -> Any:
    from diffusers import FirstBlockCacheConfig

    return FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD)


def _mag(steps: int, first: int, mag_ratios: tuple[float, ...]) -> Any:
    from diffusers import MagCacheConfig
    from diffusers.hooks.mag_cache import nearest_interp

    # The hook counts from the first step that it sees.
    ratios = nearest_interp(torch.tensor(mag_ratios), steps)[first:]
    return MagCacheConfig(
        threshold=MAG_THRESHOLD,
        max_skip_steps=MAG_MOST_SKIPS,
        retention_ratio=MAG_RETENTION,
        num_inference_steps=steps - first,
        mag_ratios=ratios,
    )


def _sea(steps: int, first: int, mag_ratios: tuple[float, ...]) -> Any:
    from diffusers import SeaCacheConfig

    return SeaCacheConfig(threshold=SEA_THRESHOLD)


def _taylor_seer(steps: int, first: int, mag_ratios: tuple[float, ...]) -> Any:
    from diffusers import TaylorSeerCacheConfig

    return TaylorSeerCacheConfig(
        cache_interval=TAYLOR_INTERVAL,
        disable_cache_before_step=TAYLOR_FIRST_STEPS,
        max_order=TAYLOR_ORDER,
        taylor_factors_dtype=torch.float32,
        skip_predict_identifiers=TAYLOR_SKIPPED,
        cache_identifiers=TAYLOR_PREDICTED,
    )


_CONFIGS: Mapping[str, Callable[[int, int, tuple[float, ...]], Any]] = MappingProxyType(
    {"first_block": _first_block, "mag": _mag, "sea": _sea, "taylor_seer": _taylor_seer}
)
