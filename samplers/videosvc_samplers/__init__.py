"""Samplers for flow models: pure functions from a denoiser to the states of a run. No model classes."""

from videosvc_samplers.consistency import consistency
from videosvc_samplers.draft import draft, draft_sigmas
from videosvc_samplers.euler import euler
from videosvc_samplers.flow_map import flow_map, jump, land
from videosvc_samplers.registry import SAMPLERS, Sampler, get_sampler
from videosvc_samplers.schedule import flow_sigmas
from videosvc_samplers.state import Denoiser, SamplerState
from videosvc_samplers.unipc import unipc

__all__ = [
    "SAMPLERS",
    "Denoiser",
    "Sampler",
    "SamplerState",
    "consistency",
    "draft",
    "draft_sigmas",
    "euler",
    "flow_map",
    "flow_sigmas",
    "get_sampler",
    "jump",
    "land",
    "unipc",
]
