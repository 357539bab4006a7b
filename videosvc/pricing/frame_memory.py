"""What a clip looks back on as it grows, as `families.far_clip` keeps it: counted in latents, not computed."""

from __future__ import annotations

from dataclasses import dataclass

from videosvc.pricing.shape import ModelShape


@dataclass(frozen=True, slots=True)
class CoarseForward:
    """A chunk that aged is encoded once more, through the coarse patches."""

    latents: float  # it counts as, having fewer tokens each
    context: float  # latents that those before it count as


class FrameMemory:
    """The chunks that one clip holds, oldest first; the last few in full, those before them coarsely."""

    def __init__(self, shape: ModelShape) -> None:
        self._shape = shape
        self._held: list[float] = []  # latents that each chunk counts as
        self._coarse = 0  # how many of them are held coarsely: the oldest

    @property
    def latents(self) -> float:
        """That all of it counts as."""
        return sum(self._held)

    def append(self, latents: int) -> CoarseForward | None:
        """Takes a finished chunk; says what else is encoded before it, if anything."""
        shape, aged = self._shape, None
        if shape.window_chunks is not None and len(self._held) >= shape.sink_chunks + shape.window_chunks:
            del self._held[shape.sink_chunks]
            self._coarse -= self._coarse > shape.sink_chunks
        if shape.full_chunks is not None and len(self._held) - self._coarse == shape.full_chunks:
            coarse = self._held[self._coarse] * shape.coarse_share
            aged = CoarseForward(coarse, sum(self._held[: self._coarse]))
            self._held[self._coarse] = coarse
            self._coarse += 1
        self._held.append(latents)
        return aged
