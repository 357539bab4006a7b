"""Samplers by the name a preset or a request gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from videosvc_samplers.consistency import consistency
from videosvc_samplers.euler import euler
from videosvc_samplers.flow_map import flow_map
from videosvc_samplers.state import Denoiser, SamplerState
from videosvc_samplers.unipc import unipc

# sampler(denoiser, state, sigmas) yields the state after each step, from state.step on. Stop iterating to
# stop; pass any yielded state to resume, bit for bit as if never stopped.
Sampler = Callable[[Denoiser, SamplerState, tuple[float, ...]], Iterator[SamplerState]]

SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {"flow_map": flow_map, "euler": euler, "unipc": unipc, "consistency": consistency}
)


def get_sampler(name: str) -> Sampler:
    """Give the sampler of that name; raises ValueError that lists the known ones."""
    if name not in SAMPLERS:
        raise ValueError(f"sampler: {name!r} is not one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
