"""Clips that share a device: one at a time is on it, but for denoising, where one forward serves several.

Continuous batching as language models are served (Orca, OSDI 2022), step by step: a clip shares the next forward of its
shape with whoever is between the same two pieces of work, joins at its first step of a chunk and leaves to be decoded.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from videosvc.families.base import Clip, Family, Jump

# How long a forward is put off for a clip that is between two steps: as long as one takes, since from then on waiting
# costs more than it can save. Between steps come a look into the database and now and then a preview.
PATIENCE = 1.0  # forwards
LEAST_PATIENCE_S = 0.005

T = TypeVar("T")


class Batch:
    """The clips on one loaded model, each in a thread of its own."""

    def __init__(self, family: Family, clock: Callable[[], float]) -> None:
        """`clock`: in seconds, what compute is counted with."""
        self.clock = clock
        self.device = threading.Condition()  # who holds it has the device
        self._family = family
        self._seats: list[Seat] = []
        self._most = math.inf  # clips that one forward takes
        self._forward_s = 0.0  # that the last one took

    @contextlib.contextmanager
    def seat(self) -> Iterator[Seat]:
        """A place for one clip, as long as it runs."""
        seat = Seat(self)
        with self.device:
            self._seats.append(seat)
        try:
            yield seat
        finally:
            with self.device:
                self._seats.remove(seat)
                self.device.notify_all()  # nobody need wait for it

    def until_answered(self, seat: Seat) -> None:
        """Waits, or runs the forward if all are there; either way the seat has its answer then."""
        while seat.wish is not None:
            patience_s = self._patience_s()
            if patience_s > 0:
                self.device.wait(patience_s)
            else:
                self._forward()

    def _patience_s(self) -> float:
        """How long whoever has waited longest waits still; 0 if all who may come have come."""
        if not any(seat.coming for seat in self._seats):
            return 0.0
        begun = min(seat.wished_at for seat in self._seats if seat.wish is not None)
        return max(0.0, begun + max(LEAST_PATIENCE_S, PATIENCE * self._forward_s) - time.monotonic())

    def _forward(self) -> None:
        """Answers whoever has waited longest, and with it all who wish for the same shape."""
        for seat in self._seats:
            seat.coming = False  # who has not come by now is not waited for again
        waiting = sorted((seat for seat in self._seats if seat.wish is not None), key=lambda seat: seat.wished_at)
        alike = [seat for seat in waiting if _shape(seat) == _shape(waiting[0])]
        chosen = alike[: int(min(self._most, len(alike)))]
        begun = time.monotonic()
        self._answer([seat for seat in self._seats if seat in chosen])  # in one order: the same company, the same rows
        self._forward_s = time.monotonic() - begun
        self.device.notify_all()

    def _answer(self, seats: Sequence[Seat]) -> None:
        jumps = [seat.wish for seat in seats if seat.wish is not None]
        begun = self.clock()
        answers: Sequence[Tensor | Exception] | None
        try:
            answers = self._family.denoise_together(jumps)
            if len(self._seats) > 1 and self._family.device.type == "cuda":
                torch.cuda.synchronize(self._family.device)  # whoever launched it, its clips pay for it
        except Exception as error:
            answers = [error] if len(seats) == 1 else None
        if answers is not None:
            row_s = (self.clock() - begun) / sum(jump.clip.rows for jump in jumps)
            for seat, jump, answer in zip(seats, jumps, answers, strict=True):
                seat.used(row_s * jump.clip.rows, len(seats))
                seat.answered(answer)
            return
        # It is the fault of one of them, or of their number: one by one, after the error is gone, whose traceback holds
        # memory. Nobody pays for what was tried.
        for seat in seats:
            self._answer([seat])
        if not any(isinstance(seat.answer, Exception) for seat in seats):
            self._most = max(1, len(seats) // 2)


class Seat:
    """One clip's place, for the thread that runs it."""

    def __init__(self, batch: Batch) -> None:
        self.clips = 1  # that shared the newest piece of work
        self.shared_s: dict[int, float] = {}  # seconds of forwards with others, by how many clips were in them
        self.wish: Jump | None = None
        self.wished_at = 0.0  # of the monotonic clock
        self.answer: Tensor | Exception | None = None
        self.coming = False  # in a moment, for a step perhaps: the next forward had better wait for it, if not long
        self._batch = batch
        self._used_s = 0.0
        self._since: float | None = None  # when it got the device; None: it waits

    def clock(self) -> float:
        """Seconds of the device that this clip has had: those in which it held it, and its share of each forward."""
        return self._used_s + (0.0 if self._since is None else self._batch.clock() - self._since)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The device is this clip's."""
        self.coming = True  # locks are unfair: who has many steps to take might have it for good
        with self._batch.device:
            self.coming, self.clips = False, 1
            self._since = self._batch.clock()
            try:
                yield
            finally:
                self._stop()
                self.coming = True
                self._batch.device.notify_all()

    def denoise(self, clip: Clip, latents: Tensor, t: float, r: float) -> Tensor:
        """`clip.denoise` in company. To be called while the device is held; others have it meanwhile.

        Raises what that raises for this clip.
        """
        self._stop()
        self.wish, self.wished_at, self.answer = Jump(clip, latents, t, r), time.monotonic(), None
        try:
            self._batch.until_answered(self)
        finally:
            self.wish = None
            self._since = self._batch.clock()
        answer, self.answer = self.answer, None
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    def aside(self, act: Callable[[], T]) -> T:
        """Has the device for something that nobody pays for."""
        with self._batch.device:
            return act()

    def used(self, share_s: float, clips: int) -> None:
        """It had this share of a forward."""
        self.clips = clips
        self._used_s += share_s
        if clips > 1:
            self.shared_s[clips] = self.shared_s.get(clips, 0.0) + share_s

    def answered(self, answer: Tensor | Exception) -> None:
        self.answer, self.wish = answer, None
        self.coming = isinstance(answer, Tensor)

    def _stop(self) -> None:
        assert self._since is not None
        self._used_s += self._batch.clock() - self._since
        self._since = None


def _shape(seat: Seat) -> torch.Size:
    assert seat.wish is not None
    return seat.wish.latents.shape
