"""What decoding a clip and remembering its chunks hold in memory. Bytes of tensors, the same at every call on a CPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from videosvc.engine.plan import Plan
from videosvc.families.base import Family
from videosvc.families.far_clip import FarClip


class _Living(TorchDispatchMode):
    """Counts the memory of the tensors that come to be within, as long as they live.

    What a process holds would be noise: a small clip's decoding fits into what the allocator kept from before.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage(), 0)  # if it is not known, it was there before
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage(), leaf.untyped_storage().nbytes())
        return made

    def _see(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak_bytes = max(self.peak_bytes, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The most memory that `work` held at once beyond what was held before, of the device that it runs on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        peak: int = torch.cuda.max_memory_allocated(device) - before
        return peak
    living = _Living()
    with living:
        work()
    return living.peak_bytes


@torch.inference_mode()
def decode_bytes(family: Family, plan: Plan, seconds: float) -> int:
    """The peak of decoding `seconds` of a clip the way `plan` says, frames included."""
    plan = replace(plan, seconds=seconds)
    clip = family.open_clip(plan.width, plan.height, family.encode_text("", None), 1.0, decode=plan.decode)
    latents = clip_latents(family, plan)
    parts = latents.split(family.spec.chunks(plan.frames), dim=2) if plan.decode != "full" else (latents,)

    def work() -> None:
        for part in parts:
            clip.decode(part)

    return peak_bytes(work, family.device)


@torch.inference_mode()
def cache_bytes(family: Family, plan: Plan) -> int | None:
    """What the frame cache holds at the clip's end; None where a family has another way to remember."""
    text = family.encode_text("", "" if plan.guidance_scale > 1.0 else None)
    clip = family.open_clip(plan.width, plan.height, text, plan.guidance_scale, plan.frame_cache)
    if not isinstance(clip, FarClip):
        return None
    for part in clip_latents(family, plan).split(family.spec.chunks(plan.frames), dim=2):
        clip.append(part)
    return clip.cache_bytes


def clip_latents(family: Family, plan: Plan) -> Tensor:
    """Zeros of a whole clip's shape, `(1, C, T, h, w)`."""
    spec = family.spec
    count = sum(spec.chunks(plan.frames))
    shape = (1, spec.channels, count, plan.height // spec.spatial, plan.width // spec.spatial)
    return torch.zeros(shape, device=family.device)
