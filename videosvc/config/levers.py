"""Levers: the ways a preset may save compute, and which of them each family can pull now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

# Every value a preset may write. The schema knows them all, so that "int8" is told from "itn8".
LEVERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "weights": ("native", "bf16", "int8", "fp8"),
        "frame_cache": ("off", "native", "int8", "int4"),
        "decode": ("full", "tiled", "stream", "tiny"),
        "compile": ("false", "true"),
        "step_cache": ("none", "first_block", "mag", "sea", "taylor_seer"),
    }
)

AVAILABLE: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "anyflow_far": MappingProxyType(
            {
                "weights": ("native", "bf16", "int8", "fp8"),
                "frame_cache": ("native", "int8", "int4"),
                "decode": ("full", "tiled", "stream", "tiny"),
                "compile": ("false", "true"),
                "step_cache": ("none",),
            }
        ),
        "wan": MappingProxyType(
            {
                "weights": ("native", "bf16", "int8", "fp8"),
                "frame_cache": ("off", "native"),
                "decode": ("full", "tiled", "stream", "tiny"),
                "compile": ("false", "true"),
                "step_cache": ("none", "first_block", "mag", "sea", "taylor_seer"),
            }
        ),
    }
)

# Whose values all make the same clip at the same cost: nothing to sweep, or to trade.
IDLE: Mapping[str, tuple[str, ...]] = MappingProxyType({"anyflow_far": (), "wan": ("frame_cache",)})

# A flow map must have been trained: other models know where the flow goes now, not where it ends.
SAMPLERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "anyflow_far": ("flow_map", "draft", "euler", "unipc", "consistency"),
        "wan": ("euler", "unipc", "consistency"),
    }
)

# Why a value is not there to wait for.
REASONS: Mapping[tuple[str, str, str], str] = MappingProxyType(
    {
        ("anyflow_far", "frame_cache", "off"): (
            "every step of a chunk reads those before it: without a cache it would encode them anew, for the same clip"
        ),
        **{
            ("anyflow_far", "step_cache", value): "its few steps have nothing in common that a cache could keep"
            for value in LEVERS["step_cache"]
        },
        **{
            ("wan", "frame_cache", value): "the whole clip is denoised at once: no earlier frames are remembered"
            for value in LEVERS["frame_cache"]
        },
    }
)


def refusal(family: str, lever: str, value: str) -> str | None:
    """Why `family` cannot run with this lever, in one line, or None if it can."""
    allowed = AVAILABLE[family][lever]
    if value in allowed:
        return None
    reason = REASONS.get((family, lever, value))
    there = f"makes no sense for family {family} ({reason})" if reason else f"is not available yet for family {family}"
    return f"lever {lever}={value!r} {there}: allowed {', '.join(allowed)}"


def step_cache_refusal(name: str, mag_ratios: Sequence[float], compiled: bool) -> str | None:
    """Why a model cannot run with this step cache, though its family can, in one line; None if it can.

    `mag_ratios`: its own, from models.toml; `compiled`: whether its blocks are.
    """
    if name != "none" and compiled:
        return f"lever step_cache={name!r} cannot be with compile=true: compiled blocks run past the cache's hooks"
    if name == "mag" and not mag_ratios:
        return "lever step_cache='mag' cannot be: its ratios belong to a checkpoint, and models.toml has no mag_ratios"
    return None


def sampler_refusal(family: str, sampler: str) -> str | None:
    """Why `family` cannot be sampled so, in one line, or None if it can."""
    allowed = SAMPLERS[family]
    if sampler in allowed:
        return None
    return (
        f"sampler={sampler!r} needs a flow map, which family {family} was not trained for: allowed {', '.join(allowed)}"
    )
