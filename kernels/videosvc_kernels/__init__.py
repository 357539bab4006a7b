"""Tensor building blocks: they know shapes and numbers, not models, jobs or video."""

from videosvc_kernels.frame_cache import FrameCache
from videosvc_kernels.rope import Rotation, rotate

__all__ = ["FrameCache", "Rotation", "rotate"]
