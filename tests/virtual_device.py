"""A model and a muxer that take time on a clock of their own: exact, and as quick as the loop itself."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest
import torch
from torch import Tensor

from videosvc.families.base import Clip, Family, TextEmbeds
from videosvc.families.latent_spec import LatentSpec
from videosvc.families.load_levers import NO_LEVERS
from videosvc.families.step_cache import StepCache


@dataclass(frozen=True)
class Rates:
    """Seconds of each piece of work."""

    text: float
    forward: float
    decode: float
    write: float
    finish: float
    kilotoken: float = 0.0
    megapair: float = 0.0
    decoded_megapixel: float = 0.0
    finished_megapixel: float = 0.0


class Clock:
    """Seconds of a device that becomes `slowdown` times slower at `slow_from`, were it in the middle of a piece."""

    def __init__(self, slow_from: float = float("inf"), slowdown: float = 3.0, jitter: float = 0.0) -> None:
        self.now = 0.0
        self.pace = 1.0  # how many times as long everything takes
        self.stalls: dict[int, float] = {}  # by the number of the piece: what it takes longer
        self.pieces = 0
        self._slow_from, self._slowdown = slow_from, slowdown
        self._random, self._jitter = random.Random(0), jitter

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        seconds *= self.pace * (1 + self._jitter * self._random.uniform(-1, 1))
        seconds += self.stalls.get(self.pieces, 0.0)
        self.pieces += 1
        quick = min(seconds, max(0.0, self._slow_from - self.now))
        self.now += quick + self._slowdown * (seconds - quick)


class VirtualFamily(Family):
    """Makes black frames."""

    device, dtype, model_hash, shift, levers = torch.device("cpu"), torch.float32, "virtual", 1.0, NO_LEVERS

    def __init__(self, clock: Clock, rates: Rates, spec: LatentSpec, window_chunks: int = 1) -> None:
        self.clock, self.rates, self.spec, self.window_chunks = clock, rates, spec, window_chunks
        self.jumps: list[tuple[float, float]] = []  # of every forward, from t to r
        self.bend = 0.0  # how far from straight its flow is: velocities differ by `bend` times r

    def encode_text(self, prompt: str, negative_prompt: str | None) -> TextEmbeds:
        self.clock.work(self.rates.text)
        return TextEmbeds(torch.zeros(1, 1, 1), None, ())

    def open_clip(
        self,
        width: int,
        height: int,
        text: TextEmbeds,
        guidance_scale: float,
        frame_cache: str = "native",
        decode: str = "stream",
        step_cache: StepCache | None = None,
    ) -> Clip:
        return _VirtualClip(self, width, height)


class _VirtualClip(Clip):
    def __init__(self, family: VirtualFamily, width: int, height: int) -> None:
        self._family, self._size = family, (height, width, 3)
        self._context: list[int] = []  # tokens of each chunk in the cache

    def denoise(self, latents: Tensor, t: float, r: float) -> Tensor:
        self._family.jumps.append((t, r))
        self._forward(latents)
        return latents * (1 + self._family.bend * r)

    def append(self, latents: Tensor) -> None:
        tokens = self._forward(latents)
        self._context = [*self._context, tokens][-self._family.window_chunks :]

    def decode(self, latents: Tensor) -> Tensor:
        frames = self._family.spec.temporal * latents.shape[2]
        rates = self._family.rates
        self._family.clock.work(rates.decode + rates.decoded_megapixel * frames * self._megapixels)
        return torch.zeros(frames, *self._size, dtype=torch.uint8)

    def preview(self, latents: Tensor) -> Tensor:
        return torch.zeros(self._size, dtype=torch.uint8)

    @property
    def _megapixels(self) -> float:
        return self._size[0] * self._size[1] / 1e6

    def _forward(self, latents: Tensor) -> int:
        patch = self._family.spec.grid // self._family.spec.spatial
        tokens = int(latents[0, 0].numel()) // patch**2
        pairs = tokens * (tokens + sum(self._context)) / 1e6
        rates = self._family.rates
        self._family.clock.work(rates.forward + rates.kilotoken * tokens / 1e3 + rates.megapair * pairs)
        return tokens


def no_ffmpeg(monkeypatch: pytest.MonkeyPatch, family: VirtualFamily) -> list[int]:
    """Puts a muxer in ffmpeg's place that only takes time; returns the frames it was given, clip by clip."""
    written: list[int] = []

    class Writer:
        def __init__(self, path: Path, width: int, height: int, fps: int) -> None:
            self._megapixels = width * height / 1e6
            written.append(0)

        def __enter__(self) -> Writer:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            pass

        def write(self, frames: Tensor) -> None:
            family.clock.work(family.rates.write)
            written[-1] += len(frames)

        def finish(self) -> None:
            family.clock.work(family.rates.finish + family.rates.finished_megapixel * written[-1] * self._megapixels)

    monkeypatch.setattr("videosvc.engine.generate.Mp4Writer", Writer)
    return written
